"""Who is who, as Jira knows it: from where its issues are read."""

from collections.abc import Iterator

import msgspec
import structlog

from temporaletl import Identity, Plan, identities_method
from temporaletl.external.answers import decode
from temporaletl.external.jira.dataset import identity, read_people
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import JiraSite, open_site
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.server import open_trino

log = structlog.get_logger("queuer.sources.jira")

_PEOPLE_AT_ONCE = 1_000
_FORBIDDEN = 403


class _User(msgspec.Struct, rename="camel"):
    account_id: str | None = None
    name: str | None = None
    key: str | None = None
    email_address: str | None = None
    display_name: str | None = None
    time_zone: str | None = None


@identities_method("jira")
def identify(plan: Plan) -> Iterator[Identity]:
    """Yield every account, also of those who left; none where the account may not browse users.

    Raises: as `temporaletl.external.http.HttpClient.request`, or as Trino's queries do.
    """
    del plan
    settings = JiraSettings.load()
    if settings.extract_from == "api":
        yield from _asked(open_site(settings))
    elif settings.trino_users != "none":
        yield from read_people(open_trino(TrinoSettings.load()), settings.trino_users)


def _asked(site: JiraSite) -> Iterator[Identity]:
    path = "users/search" if site.cloud else "user/search"
    # On Data Center, a dot is in everybody's name.
    query = {} if site.cloud else {"username": ".", "includeInactive": "true"}
    known: set[str] = set()
    start = 0
    while True:
        page = {"startAt": start, "maxResults": _PEOPLE_AT_ONCE}
        answer = site.request("GET", path, params=query | page, accept={_FORBIDDEN})
        if answer.status_code == _FORBIDDEN:
            log.warning("people_not_shown", path=path, remedy="let the account browse users")
            return
        users = decode(list[_User], answer, source="jira")
        before = len(known)
        for user in users:
            person = user.account_id or user.name or user.key
            if person and person not in known:
                known.add(person)
                yield identity(
                    person,
                    email=user.email_address,
                    name=user.display_name,
                    timezone=user.time_zone,
                )
        if len(known) == before:
            return
        # By what came: the site may give less than it is asked for.
        start += len(users)
