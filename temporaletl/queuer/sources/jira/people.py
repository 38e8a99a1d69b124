"""Identities of Jira's people, from the site or the dataset in Trino."""

from collections.abc import Iterator

import msgspec
import requests

from temporaletl import Identity, Plan, RecordError, SourceUnavailableError, identities_method
from temporaletl.errors import SourceProtocolError
from temporaletl.external.answers import decode, decode_record
from temporaletl.external.error_bodies import message_of
from temporaletl.external.jira.dataset import identity, read_people
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import JiraSite, open_site
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.server import open_trino
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.queuer.sources.jira")

_PEOPLE_AT_ONCE = 1_000
_PAGES_AHEAD = 8
#: This list alone is kept from us: by a permission, or by the scope of a token that reads issues.
_NOT_SHOWN = frozenset({400, 401, 403, 404, 405, 410})


class _NotShownError(Exception):
    """The account may not read the list of users."""


class _User(msgspec.Struct, rename="camel"):
    account_id: str | None = None
    name: str | None = None
    key: str | None = None
    email_address: str | None = None
    display_name: str | None = None
    time_zone: str | None = None


@identities_method("jira", rows_only=True)
def identify(plan: Plan) -> Iterator[Identity]:
    """Yield every account, also of those who left.

    Where the list cannot be read, whatever the reason, as many as are known by then: issues are
    loaded without it, and the log says so.

    Raises:
        RateLimitedError: Jira limits the rate of requests.
        CredentialsError: Jira takes us for nobody.
        ETLError: as Trino's queries raise, where the dataset has the people.
    """
    del plan
    settings = JiraSettings.load()
    if settings.extract_from == "api":
        yield from _shown(open_site(settings))
    elif settings.trino_users != "none":
        yield from read_people(open_trino(TrinoSettings.load()), settings.trino_users)


def _shown(site: JiraSite) -> Iterator[Identity]:
    path = "users/search" if site.cloud else "user/search"
    try:
        yield from _listed(site, path)
    except (_NotShownError, SourceProtocolError, SourceUnavailableError) as error:
        if isinstance(error, SourceUnavailableError) and error.delay is not None:
            raise
        log.warning(
            "people_not_shown",
            path=path,
            error=str(error),
            remedy="let the account browse users: people not yet known keep Jira's ids",
        )


def _listed(site: JiraSite, path: str) -> Iterator[Identity]:
    def read(answer: requests.Response) -> list[msgspec.Raw]:
        if answer.status_code in _NOT_SHOWN:
            raise _NotShownError(
                f"jira: {path} answered {answer.status_code}: {message_of(answer) or answer.reason}"
            )
        return decode(list[msgspec.Raw], answer, source="jira")

    # On Data Center, a dot is in everybody's name.
    query = {} if site.cloud else {"username": ".", "includeInactive": "true"}

    def page_at(start: int) -> list[msgspec.Raw]:
        page = {"startAt": start, "maxResults": _PEOPLE_AT_ONCE}
        return site.request("GET", path, params=query | page, read=read, accept=_NOT_SHOWN)

    # The pages of the last list are requested at once: most likely they are those of this one.
    begun = {start: site.begin(page_at, start) for start in site.people_pages[:_PAGES_AHEAD]}
    known: set[str] = set()
    starts: list[int] = []
    start = 0
    try:
        while True:
            ahead = begun.pop(start, None)
            users = page_at(start) if ahead is None else ahead.result()
            starts.append(start)
            # By what came: the site may give less than is requested.
            start += len(users)
            before = len(known)
            for user in _decoded(users):
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
                site.people_pages = tuple(starts)
                return
    finally:
        for ahead in begun.values():
            ahead.abandon()


def _decoded(users: list[msgspec.Raw]) -> Iterator[_User]:
    for raw in users:
        try:
            yield decode_record(_User, raw)
        except RecordError as error:
            log.warning("person_not_readable", error=str(error))
