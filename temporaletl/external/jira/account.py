"""The account view of Jira: the account, its permissions, and the projects it sees.

What a site does not report, or a gateway in front of it does not let through, is left out: a view
with less in it never lets a deletion scan delete more.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import requests

from temporaletl.accounts import (
    AccountView,
    account_view,
    login_was_accepted,
    note_accepted,
)
from temporaletl.errors import CredentialsError
from temporaletl.external.answers import MisfitAnswerError, decode
from temporaletl.external.error_bodies import message_of
from temporaletl.external.jira.identity import identity_of
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import IssueRange, JiraSite, open_site
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.jira")

#: What reading issues needs, or shows more of them.
_BROWSE = "BROWSE_PROJECTS"
_PERMISSIONS = (_BROWSE, "ADMINISTER", "SYSTEM_ADMIN")
_PROJECTS_AT_ONCE = 100
#: Pages in a row without a new project: beyond any honest site.
_MOST_FRUITLESS = 4
_REFUSED = frozenset({401, 403})
#: A gateway lets issues through, and not this; 404 and 405 also say that there is no such path.
_NOT_REPORTED = frozenset({403, 404, 405})


class NotReportedError(Exception):
    """The site, or a gateway in front of it, does not report this of the account."""


class _Group(msgspec.Struct, rename="camel"):
    name: str | None = None
    group_id: str | None = None


class _Groups(msgspec.Struct):
    items: list[_Group]


class _Myself(msgspec.Struct, rename="camel"):
    """Cloud knows people by `account_id`, Data Center by `key`, which a new name leaves as it is.

    Groups decide what a security level hides; not every token may see them.
    """

    account_id: str | None = None
    key: str | None = None
    name: str | None = None
    groups: _Groups | None = None


class _Permission(msgspec.Struct, rename="camel"):
    have_permission: bool


class _Permissions(msgspec.Struct):
    permissions: Mapping[str, _Permission]


class Project(msgspec.Struct):
    """A project that the account may browse."""

    id: str
    key: str


class _Projects(msgspec.Struct, rename="camel"):
    values: list[Project]
    is_last: bool | None = None
    total: int | None = None


@account_view("jira")
def jira_account() -> AccountView | None:
    """The account that Jira reports, and what it may see; None where no API is configured.

    Blocks.

    Raises:
        CredentialsError: Jira takes us for nobody, or the account may browse no project; names
            the settings to check.
        ETLError: as `JiraSite.request`.
    """
    settings = JiraSettings.load()
    if not settings.has_api:
        return None
    site = open_site(settings)
    # First and alone: a login that is refused must not be tried several times at once.
    known = None
    if not login_was_accepted("jira"):
        known = _who(site)
        note_accepted("jira")
    found = site.begin(identity_of, site), site.begin(_seen, site), site.begin(_granted, site)
    try:
        account, groups = known or _who(site)
    except BaseException:
        for each in found:
            each.abandon()
        raise
    told = found[0].result()
    try:
        seen, granted = found[1].result(), found[2].result()
    except NotReportedError as error:
        log.warning("account_view_not_told", error=str(error))
        return AccountView(account, permissions=groups, site=told)
    except MisfitAnswerError as error:
        _check_shown(site, error)
        return AccountView(account, permissions=groups, site=told)
    if not seen and _BROWSE not in granted:
        raise CredentialsError(
            f"jira: account {account!r} may browse no project at all, so it sees no issue; give it "
            f"the permission to browse projects, or check {site.credentials}"
        )
    return AccountView(account, permissions=granted | groups, containers=seen, site=told)


def _who(site: JiraSite) -> tuple[str | None, frozenset[str]]:
    """The account's id, and its groups as permissions: some issues are shown to a group alone."""

    def read(answer: requests.Response) -> _Myself:
        if answer.status_code in _REFUSED:
            words = message_of(answer)
            if "scope" in words.lower():
                # A token of limited scope, which reads issues, need not read people.
                raise NotReportedError(words)
            raise CredentialsError(
                f"jira: myself answered {answer.status_code}: {words or answer.reason}: Jira does "
                f"not know the account; check {site.credentials}"
            )
        me = decode(_Myself, answer, source="jira")
        if not (me.account_id or me.key or me.name):
            raise MisfitAnswerError("jira: myself names no account")
        return me

    try:
        me = site.request("GET", "myself", params={"expand": "groups"}, read=read, accept=_REFUSED)
    except NotReportedError as error:
        log.warning("account_not_told", error=str(error))
        return site.settings.email or "whose JIRA_PERSONAL_TOKEN it is", frozenset()
    except MisfitAnswerError as error:
        _check_shown(site, error)
        return None, frozenset()
    names = [group.group_id or group.name for group in me.groups.items] if me.groups else []
    account = me.account_id or me.key or me.name or ""
    return account, frozenset(f"group {name}" for name in names if name)


def _check_shown(site: JiraSite, error: MisfitAnswerError) -> None:
    """Accept that the account is not reported, where issues are shown at all.

    An account that is shown no issue may be nobody: then the answer is the error that it is.
    """
    if site.count(IssueRange()) == 0:
        raise error
    log.warning("account_view_not_told", error=str(error))


def _seen(site: JiraSite) -> frozenset[str]:
    return frozenset(project.id for project in projects(site))


def _granted(site: JiraSite) -> frozenset[str]:
    params = {"permissions": ",".join(_PERMISSIONS)}
    given = _read(site, "mypermissions", _Permissions, **params).permissions
    return frozenset(name for name in _PERMISSIONS if name in given and given[name].have_permission)


def projects(site: JiraSite) -> Iterator[Project]:
    """Yield every project that the account may browse. Blocks; raises as `JiraSite.request`."""
    if not site.cloud:
        yield from _read(site, "project", list[Project])
        return
    known: set[str] = set()
    start = fruitless = 0
    while True:
        page_params = {"startAt": start, "maxResults": _PROJECTS_AT_ONCE}
        page = _read(site, "project/search", _Projects, **page_params)
        fresh = [project for project in page.values if project.id not in known]
        known.update(project.id for project in fresh)
        yield from fresh
        # By what came: the site may give less than is requested.
        start += len(page.values)
        if page.is_last or (page.is_last is None and start >= (page.total or 0)):
            return
        fruitless = 0 if fresh else fruitless + 1
        if fruitless >= _MOST_FRUITLESS:
            raise MisfitAnswerError("jira: project/search does not end, and shows no new project")


def _read[T](site: JiraSite, path: str, kind: type[T], **params: Any) -> T:
    def read(answer: requests.Response) -> T:
        _check_reported(path, answer)
        return decode(kind, answer, source="jira")

    return site.request("GET", path, params=params, read=read, accept=_NOT_REPORTED)


def _check_reported(path: str, answer: requests.Response) -> None:
    if answer.status_code in _NOT_REPORTED:
        words = message_of(answer) or answer.reason
        raise NotReportedError(f"jira: {path} answered {answer.status_code}: {words}")
