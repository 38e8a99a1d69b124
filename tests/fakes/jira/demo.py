"""A site that tells something: four teams, their work of the last half year, and where it waits.

Unlike `tests.fakes.jira.generate`, which is for odd data, this is for people who look at it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from tests.fakes.jira.catalogue import ISSUE_TYPES, PRIORITIES, RESOLUTIONS, STATUSES, Catalogue
from tests.fakes.jira.history import item
from tests.fakes.jira.people import make_users
from tests.fakes.jira.site import Issue, Personality, Row, Site, User

Json = dict[str, Any]

_HOUR = 3_600_000
_DAY = 24 * _HOUR
_SPAN_DAYS = 180
_FIRST_ISSUE = 10_000
_STATES = ("To Do", "In Progress", "In Review", "Done")


@dataclass(frozen=True)
class Team:
    """A project; its stages take so many days each, on average."""

    key: str
    name: str
    stages: tuple[float, float, float]
    objects: tuple[str, ...]


_TEAMS = (
    Team("SHOP", "Web shop", (4, 2.5, 1), ("checkout", "search page", "basket", "gift cards")),
    Team("MOBILE", "Mobile app", (6, 4, 2), ("login screen", "offline mode", "push messages")),
    Team("DATA", "Data platform", (8, 4, 7), ("sales report", "nightly import", "customer table")),
    Team("OPS", "Operations", (1, 0.7, 0.3), ("backups", "certificates", "alerts", "log storage")),
)
_ABOUT = (
    "Make {} quicker",
    "{} fails for some customers",
    "Describe {} in the handbook",
    "Replace the old {}",
    "Test {} under load",
)
_SAID = (
    "I can reproduce this.",
    "Waiting for an answer from the customer.",
    "Ready, please review.",
    "Two small remarks, otherwise fine.",
    "Released today.",
)


def demo_site(issues: int, *, now: int, seed: int = 0) -> Site:
    """Make a site with so many issues, up to the time `now`, in milliseconds since 1970."""
    users = [
        user
        for user in make_users(40, Personality.CLOUD, seed)
        if user.person["active"] and user.person["accountType"] == "atlassian"
    ][:24]
    catalogue = Catalogue(
        projects={
            team.key: {
                "id": str(10_000 + number),
                "key": team.key,
                "name": team.name,
                "projectTypeKey": "software",
                "simplified": False,
            }
            for number, team in enumerate(_TEAMS)
        }
    )
    rows = _Maker(users, catalogue, now, seed).rows(issues)
    return Site(Personality.CLOUD, catalogue, users, rows)


class _Maker:
    def __init__(self, users: list[User], catalogue: Catalogue, now: int, seed: int) -> None:
        self._users = users
        self._catalogue = catalogue
        self._now = now
        self._rng = Random(seed)  # noqa: S311 - data, not secrets
        self._ids = count(1_000_000)

    def rows(self, issues: int) -> Iterator[Row]:
        used = dict.fromkeys((team.key for team in _TEAMS), 0)
        for number in range(issues):
            team = self._rng.choice(_TEAMS)
            used[team.key] += 1
            created = self._now - int((1 - number / issues) * _SPAN_DAYS * _DAY)
            yield self._row(_FIRST_ISSUE + number, team, used[team.key], created)

    def _row(self, number: int, team: Team, sequence: int, created: int) -> Row:
        rng, place = self._rng, _TEAMS.index(team)
        members = self._users[place :: len(_TEAMS)]
        assignee, reporter = rng.choice(members), rng.choice(self._users)
        histories: list[Json] = []
        worklogs: list[Json] = []
        at, state = created, _STATES[0]
        for next_state, days in zip(_STATES[1:], team.stages, strict=True):
            # A few are forgotten.
            stays = int(rng.gammavariate(2, days / 2) * _DAY) if rng.random() > 0.03 else self._now
            if state == "In Progress":
                worklogs += self._work(number, assignee, at, min(at + stays, self._now))
            if at + stays >= self._now:
                break
            at += stays
            histories.append(self._move(assignee, at, state, next_state))
            state = next_state
        comments = [
            self._comment(rng.choice(members), created, at) for _ in range(rng.randrange(4))
        ]
        comments.sort(key=lambda one: int(one["created"]))
        updated = max([at, *(log["updated"] for log in worklogs)])
        kind = rng.choice(list(ISSUE_TYPES))
        about = rng.choice(_ABOUT).format(f"the {rng.choice(team.objects)}")
        done = state == "Done"
        fields: Json = {
            "statuscategorychangedate": at,
            "issuetype": ISSUE_TYPES[kind],
            "project": self._catalogue.projects[team.key],
            "summary": about[0].upper() + about[1:],
            "description": None,
            "status": STATUSES[state],
            "priority": rng.choice(list(PRIORITIES.values())),
            "resolution": RESOLUTIONS["Done"] if done else None,
            "resolutiondate": at if done else None,
            "creator": reporter.person,
            "reporter": reporter.person,
            "assignee": assignee.person,
            "created": created,
            "updated": updated,
            "labels": [],
            "components": [],
            "fixVersions": [],
        }
        key = f"{team.key}-{sequence}"
        issue = Issue(fields, histories, comments, worklogs)
        return Row(
            number,
            key,
            team.key,
            sequence,
            created,
            updated,
            state,
            kind,
            assignee.id,
            (),
            issue=issue,
        )

    def _move(self, author: User, at: int, old: str, new: str) -> Json:
        before, after = STATUSES[old], STATUSES[new]
        states = ((before["id"], old), (after["id"], new))
        moved = item("status", *states, field_id="status")
        return {
            "id": str(next(self._ids)),
            "author": author.person,
            "created": at,
            "items": [moved],
        }

    def _comment(self, author: User, start: int, end: int) -> Json:
        at = self._rng.randint(start, end)
        return {
            "id": str(next(self._ids)),
            "author": author.person,
            "updateAuthor": author.person,
            "body": self._rng.choice(_SAID),
            "created": at,
            "updated": at,
            "jsdPublic": True,
        }

    def _work(self, issue: int, author: User, start: int, end: int) -> list[Json]:
        """Some hours on each day of a stage."""
        logs: list[Json] = []
        for day in range(start, end, _DAY):
            hours = self._rng.randint(1, 5)
            # It is written down in the evening.
            at = min(day + _DAY // 2, end)
            logs.append(
                {
                    "id": str(next(self._ids)),
                    "issueId": str(issue),
                    "author": author.person,
                    "updateAuthor": author.person,
                    "comment": "",
                    "created": at,
                    "updated": at,
                    "started": at - hours * _HOUR,
                    "timeSpent": f"{hours}h",
                    "timeSpentSeconds": hours * 3600,
                }
            )
        return logs
