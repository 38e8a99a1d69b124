"""The site's directory: version, people, projects, and catalogues."""

from typing import TYPE_CHECKING, Any

from tests.fakes.exchange import Request, Response
from tests.fakes.jira.refusal import RefusedError, number_of

if TYPE_CHECKING:
    from tests.fakes.jira.service import JiraService

Json = dict[str, Any]

_PERMISSIONS = ("ADMINISTER", "SYSTEM_ADMIN", "USER_PICKER", "BROWSE_PROJECTS", "CREATE_ISSUES")


def server_info(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    site = service.site
    numbers = [1001, 0, 0] if site.cloud else [9, 12, 4]
    return Response.of(
        {
            "baseUrl": site.base_url,
            "version": ".".join(
                map(str, numbers if not site.cloud else ["1001", "0", "0-SNAPSHOT"])
            ),
            "versionNumbers": numbers,
            "deploymentType": "Cloud" if site.cloud else "Server",
            "buildNumber": 100273 if site.cloud else 9120004,
            "serverTime": site.face.text(site.clock()),
            "serverTitle": "Jira",
        }
    )


def tenant_info(service: "JiraService") -> Response:
    """Answer Cloud's id of the site; to anybody."""
    if not service.site.cloud:
        raise RefusedError(404, "There is nothing here.")
    return Response.of({"cloudId": service.site.identity})


def manifest(service: "JiraService") -> Response:
    """Answer the manifest for application links, with the server's id; to anybody."""
    site = service.site
    if site.cloud:
        raise RefusedError(404, "There is nothing here.")
    text = (
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><manifest><id>{site.identity}</id>'
        f"<name>Jira</name><typeId>jira</typeId><version>9.12.4</version><url>{site.base_url}</url>"
        "<publicSignup>false</publicSignup></manifest>"
    )
    return Response(200, text.encode(), "application/xml")


def session(service: "JiraService") -> Response:
    owner = service.site.owner
    return Response.of(
        {
            "self": f"{service.site.base_url}/rest/auth/1/session",
            "name": owner.id if owner else "anonymous",
            "loginInfo": {"loginCount": 1, "previousLoginTime": "2024-01-01T00:00:00.000+0000"},
        }
    )


def myself(service: "JiraService", request: Request, _version: str, _: list[str]) -> Response:
    owner = service.site.owner
    if owner is None or service.lapsed:
        raise RefusedError(401, "Client must be authenticated to access this resource.")
    known: Json = {"timeZone": service.site.face.zone.key, "locale": "en_US"}
    groups: list[Json] = [{"name": name} for name in service.groups]
    if service.site.cloud:
        groups = [each | {"groupId": f"id-of-{each['name']}"} for each in groups]
    known["groups"] = {"size": len(groups), "items": []}
    if "groups" in request.first("expand").split(","):
        known["groups"]["items"] = groups
    return Response.of({**owner.person, **known, "expand": "groups,applicationRoles"})


def permissions(service: "JiraService", request: Request, _version: str, _: list[str]) -> Response:
    """Answer the account's permissions; on Cloud, those whose keys are requested."""
    requested = [key for key in request.first("permissions").split(",") if key]
    if service.site.cloud:
        if not requested:
            raise RefusedError(400, "The 'permissions' query parameter is required.")
        if unknown := [key for key in requested if key not in _PERMISSIONS]:
            raise RefusedError(400, f"Unrecognized permission: {', '.join(unknown)}")
    held = {"USER_PICKER"} if service.may_browse_users and not service.lapsed else set()
    if _visible_projects(service):
        held.add("BROWSE_PROJECTS")
    shown = requested if service.site.cloud else list(_PERMISSIONS)
    return Response.of(
        {
            "permissions": {
                key: {
                    "id": str(_PERMISSIONS.index(key)),
                    "key": key,
                    "name": key.replace("_", " ").title(),
                    "type": "PROJECT" if key == "BROWSE_PROJECTS" else "GLOBAL",
                    "description": "",
                    "havePermission": key in held,
                }
                for key in shown
            }
        }
    )


def fields(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    return Response.of(service.site.fields())


def statuses(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    return Response.of(list(service.site.catalogue.statuses.values()))


def issue_types(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    return Response.of(list(service.site.catalogue.issue_types.values()))


def priorities(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    return Response.of(list(service.site.catalogue.priorities.values()))


def resolutions(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    return Response.of(list(service.site.catalogue.resolutions.values()))


def user(service: "JiraService", request: Request, _version: str, _: list[str]) -> Response:
    if service.site.cloud:
        requested = request.first("accountId")
    else:
        requested = request.first("username") or request.first("key")
    for each in service.site.users.values():
        if requested and requested in {each.id, each.person.get("key")}:
            return Response.of(each.person)
    raise RefusedError(404, "Specified user does not exist or you do not have permission to view.")


def users_search(service: "JiraService", request: Request, _version: str, _: list[str]) -> Response:
    """Page through all accounts, apps and those who left included."""
    _check_browsing(service)
    return _people(request, [each.person for each in service.site.users.values()])


def user_search(service: "JiraService", request: Request, _version: str, _: list[str]) -> Response:
    """Find people by a part of their name; on Server a single dot finds everybody."""
    _check_browsing(service)
    cloud = service.site.cloud
    requested = request.first("query" if cloud else "username").lower()
    if not requested:
        name = "query" if cloud else "username"
        raise RefusedError(400, f"The '{name}' query parameter was not provided.")
    people = [
        each.person
        for each in service.site.users.values()
        if (requested == "." and not cloud) or _matches(each.person, requested)
    ]
    if not cloud and request.first("includeInactive").lower() != "true":
        people = [person for person in people if person.get("active", True)]
    return _people(request, people)


def _check_browsing(service: "JiraService") -> None:
    if not service.may_browse_users:
        raise RefusedError(
            403, "You do not have permission to browse users: no global permission for that."
        )


def _matches(person: Json, requested: str) -> bool:
    names = (person.get(part) for part in ("displayName", "emailAddress", "name", "key"))
    return any(requested in str(name).lower() for name in names if name)


def _people(request: Request, people: list[Json]) -> Response:
    start = max(0, number_of(request.query, "startAt", 0))
    size = min(max(1, number_of(request.query, "maxResults", 50)), 1000)
    return Response.of(people[start : start + size])


def _visible_projects(service: "JiraService") -> list[Json]:
    hidden = service.site.hidden_projects
    if service.lapsed:
        return []
    projects = service.site.catalogue.projects.items()
    return [project for key, project in projects if key not in hidden]


def projects(service: "JiraService", _request: Request, _version: str, _: list[str]) -> Response:
    return Response.of(_visible_projects(service))


def project_search(
    service: "JiraService", request: Request, version: str, _: list[str]
) -> Response:
    found = _visible_projects(service)
    start = max(0, number_of(request.query, "startAt", 0))
    size = min(max(1, number_of(request.query, "maxResults", 50)), 100)
    page = found[start : start + size]
    return Response.of(
        {
            "self": service.renderers[version].link("project/search"),
            "maxResults": size,
            "startAt": start,
            "total": len(found),
            "isLast": start + len(page) >= len(found),
            "values": page,
        }
    )
