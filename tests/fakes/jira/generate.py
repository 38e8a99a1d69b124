"""Generation of sites of any size from a seed; issues are generated on use."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import xxhash

from tests.fakes.jira.catalogue import (
    ISSUE_TYPES,
    STATUSES,
    Catalogue,
    field_of,
)
from tests.fakes.jira.history import IssueMaker
from tests.fakes.jira.people import make_users
from tests.fakes.jira.site import Issue, Limits, Personality, Row, Site, User

Json = dict[str, Any]

FIRST_ISSUE = 10_000
#: Ids that one issue may use for its histories, comments or worklogs; its own are below this.
STRIDE = 512
FIRST_DETAIL = 1_000_000

_FROM = 1_672_531_200_000  # 2023-01-01
_UNTIL = 1_735_689_600_000  # 2025-01-01
_PROJECTS = {
    "CORE": "Core platform",
    "WEB": "Web shop",
    "OPS": "Operations",
    "DATA": "Données & Analyse",
    "DOCS": "Documentation",
    "MOB": "モバイル",
    "QA": "Quality",
    "SEC": "Security",
}
_LABELS = ("backend", "frontend", "urgent", "tech-debt", "große-Sache", "customer")
_BULK_CHANGES = 12
_TYPES = tuple(ISSUE_TYPES)
_STATUSES = tuple(STATUSES)


def generate(
    issues: int,
    *,
    seed: int = 0,
    personality: Personality | str = Personality.CLOUD,
    limits: Limits | None = None,
    time_zone: str = "America/New_York",
    clock: Callable[[], int] | None = None,
) -> Site:
    """Generate a site with so many issues, created and changed in 2023 and 2024.

    Only a summary of each issue is kept, so hundreds of thousands fit in memory. Equal
    arguments give equal sites, whatever is looked at first. `time_zone` is the token owner's.
    """
    personality = Personality(personality)
    users = make_users(min(200, max(8, issues // 100)), personality, seed)
    if users:
        users[0].time_zone = users[0].person["timeZone"] = time_zone
    names = list(_PROJECTS)[: max(1, min(len(_PROJECTS), issues // 40))]
    catalogue = Catalogue(
        projects={key: _project(number, key) for number, key in enumerate(names)},
        custom_fields={
            each["id"]: each
            for each in (
                field_of("customfield_10016", "Story Points", "float"),
                field_of("customfield_10020", "Sprint", "array", items="json"),
                field_of("customfield_10019", "Rank", "any"),
                field_of("customfield_10033", "Kunde", "string"),
            )
        },
    )
    site = Site(
        personality,
        catalogue,
        users,
        _rows(issues, seed, names, users),
        limits=limits,
        time_zone=time_zone,
        clock=clock,
    )
    site.identity = str(uuid5(NAMESPACE_URL, f"{site.personality} {seed}"))
    site.series = Series(site, seed, users)
    return site


def span() -> tuple[int, int]:
    """When generated issues are created, in milliseconds: from, until."""
    return _FROM, _UNTIL


def _project(number: int, key: str) -> Json:
    return {
        "id": str(10_000 + number),
        "key": key,
        "name": _PROJECTS[key],
        "projectTypeKey": "software",
        "simplified": False,
    }


def _rows(issues: int, seed: int, projects: list[str], users: list[User]) -> Iterator[Row]:
    """Make the summaries; ids, keys and creation times all grow together."""
    used = dict.fromkeys(projects, 0)
    step = (_UNTIL - _FROM) / max(1, issues)
    for index in range(issues):
        bits = xxhash.xxh3_128_intdigest(f"{seed}/{index}".encode())
        # Low numbers are likelier, so that projects differ in size.
        project = projects[min(bits & 0xFF, (bits >> 8) & 0xFF) * len(projects) >> 8]
        used[project] += 1
        created = _FROM + int((index + (bits >> 16 & 0xFFFF) / 65536) * step)
        share = (bits >> 32 & 0xFFFF) / 65536
        updated = created + int((_UNTIL - created) * share**3)
        if (bits >> 48) % 20 == 0:
            # A bulk change stamps many issues with one instant.
            slot = (bits >> 54) % _BULK_CHANGES
            bulk = _FROM + (slot + 1) * (_UNTIL - _FROM) // _BULK_CHANGES
            updated = max(updated, bulk)
        nobody = (bits >> 64) % 7 == 0
        labels = tuple(
            label for number, label in enumerate(_LABELS) if bits >> (72 + 2 * number) & 3 == 3
        )
        yield Row(
            FIRST_ISSUE + index,
            f"{project}-{used[project]}",
            project,
            used[project],
            created,
            updated,
            _STATUSES[(bits >> 88) % len(_STATUSES)],
            _TYPES[(bits >> 96) % len(_TYPES)],
            None if nobody else users[(bits >> 104) % len(users)].id,
            labels,
            index,
        )


class Series:
    """Generates issues from their index; see `tests.fakes.jira.site.Series`."""

    def __init__(self, site: Site, seed: int, users: list[User]) -> None:
        self._site = site
        self._seed = seed
        self._users = users
        self._maker = IssueMaker(site, users)

    def issue(self, row: Row) -> Issue:
        first = FIRST_DETAIL + row.index * STRIDE
        rng = Random(xxhash.xxh3_64_intdigest(f"{self._seed}:{row.index}".encode()))  # noqa: S311
        made = self._maker.make(row, rng, first)
        made.worklogs = self.worklogs(row)
        return made

    def worklogs(self, row: Row) -> list[Json]:
        bits = xxhash.xxh3_64_intdigest(f"worklogs {self._seed}/{row.index}".encode())
        kind = bits % 100
        # Most issues have none, a few have more than an issue shows inline.
        if kind >= 30:
            return []
        count = 21 + (bits >> 8) % 60 if kind < 2 else 1 + (bits >> 8) % 6
        first = FIRST_DETAIL + row.index * STRIDE
        rng = Random(bits)  # noqa: S311 - data, not secrets
        return self._maker.worklogs(row, rng, first, count)

    def worklog_row(self, worklog_id: int) -> int | None:
        index = (worklog_id - FIRST_DETAIL) // STRIDE
        return index if index >= 0 else None
