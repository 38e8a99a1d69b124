"""The history of a generated issue: changes, comments and worklogs."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.fakes.jira.catalogue import PRIORITIES, RESOLUTIONS, STATUSES
from tests.fakes.jira.site import Issue, Row, Site, User

Json = dict[str, Any]

_WORDS = [
    "cache",
    "login",
    "export",
    "report",
    "naïve",
    "timeout",
    "façade",
    "billing",
    "übersicht",
    "search",
    "index",
    "queue",
    "retry",
    "schema",
    "deploy",
    "тест",
    "数据",
    "rollback",
    "metric",
    "alert",
    "invoice",
    "session",
    "émoji",
    "🚀",
    "pagination",
    "filter",
    "sync",
]
_KINDS = (
    *(["status"] * 8 + ["assignee"] * 4 + ["labels"] * 2 + ["priority"] * 2 + ["summary"] * 2),
    *(["points", "sprint", "rank", "link", "attachment", "description", "kunde"]),
)


def words(rng: Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS, k=count))


def item(
    field: str,
    before: tuple[str | None, str | None],
    after: tuple[str | None, str | None],
    *,
    field_id: str | None = None,
    custom: bool = False,
) -> Json:
    """Return one changed field; `before` and `after` are (value, its text)."""
    return {
        "field": field,
        "fieldtype": "custom" if custom else "jira",
        **({"fieldId": field_id} if field_id else {}),
        "from": before[0],
        "fromString": before[1],
        "to": after[0],
        "toString": after[1],
    }


class IssueMaker:
    """Generates an issue that agrees with the summary that searches use."""

    def __init__(self, site: Site, users: list[User]) -> None:
        self._site = site
        self._users = users
        self._people = [user.person for user in users]
        # Server does not name the field's id in its histories.
        self._with_ids = site.cloud

    def make(self, row: Row, rng: Random, first_id: int) -> Issue:
        """Make everything but the worklogs, which have a series of their own."""
        creator = rng.choice(self._people)
        reporter = creator if rng.random() < 0.8 else rng.choice(self._people)
        summary = f"{words(rng, 2 + rng.randrange(5))} {row.sequence}"
        histories, resolved = self._histories(row, rng, first_id, summary)
        site, catalogue = self._site, self._site.catalogue
        assignee = site.users[row.assignee].person if row.assignee else None
        done = STATUSES[row.status]["statusCategory"]["key"] == "done"
        fields: Json = {
            "statuscategorychangedate": resolved or row.created,
            "issuetype": catalogue.issue_types[row.issuetype],
            "project": catalogue.projects[row.project],
            "summary": summary,
            "description": self._text(rng) if rng.random() < 0.8 else None,
            "environment": None,
            "status": catalogue.statuses[row.status],
            "priority": rng.choice(list(PRIORITIES.values())),
            "resolution": RESOLUTIONS["Done"] if done else None,
            "resolutiondate": resolved if done else None,
            "creator": None if rng.random() < 0.01 else creator,
            "reporter": None if rng.random() < 0.02 else reporter,
            "assignee": assignee,
            "created": row.created,
            "updated": row.updated,
            "duedate": None,
            "labels": list(row.labels),
            "components": [],
            "fixVersions": [],
            "versions": [],
            "subtasks": [],
            "issuelinks": [],
            "attachment": [],
            "timespent": None,
            "timeestimate": None,
            "timetracking": {},
            "workratio": -1,
            "votes": {"votes": rng.randrange(3), "hasVoted": False},
            "watches": {"watchCount": rng.randrange(5), "isWatching": False},
            "progress": {"progress": 0, "total": 0},
            "customfield_10016": rng.choice((None, 1.0, 2.0, 3.0, 5.0, 8.0)),
            "customfield_10019": f"0|i{row.id:05x}:",
            "customfield_10020": [{"id": row.id % 40, "name": "Sprint", "state": "active"}],
            "customfield_10033": rng.choice((None, "Łódź GmbH", "Ørsted", "ACME")),
        }
        return Issue(fields, histories, self._comments(row, rng, first_id))

    def _times(self, row: Row, rng: Random, count: int) -> list[int]:
        span = row.updated - row.created
        return sorted(row.created + int(rng.random() * span) for _ in range(count))

    def _histories(
        self, row: Row, rng: Random, first_id: int, summary: str
    ) -> tuple[list[Json], int | None]:
        ids = [user.id for user in self._users]
        start = rng.choice([None, *ids[:3]])
        kinds = self._kinds(row, rng, start)
        times = self._times(row, rng, len(kinds))
        if len(times) > 3 and rng.random() < 0.2:
            times[1] = times[2]
        statuses = self._walk(rng, list(STATUSES), "To Do", row.status, kinds.count("status"))
        assignees = self._walk(rng, ids, start, row.assignee, kinds.count("assignee"))
        moves = {"status": iter(statuses), "assignee": iter(assignees)}
        at = {"status": "To Do", "assignee": start}
        resolved: int | None = None
        histories: list[Json] = []
        for number, (kind, timestamp) in enumerate(zip(kinds, times, strict=True)):
            if kind in moves:
                goal = next(moves[kind])
                items = self._moved(kind, at[kind], goal)
                at[kind] = goal
                resolved = timestamp if kind == "status" else resolved
            else:
                items = self._edited(kind, rng, summary, row)
            author = None if rng.random() < 0.01 else rng.choice(self._people)
            histories.append(
                {
                    "id": str(first_id + number),
                    "author": author,
                    "created": timestamp,
                    "items": items,
                }
            )
        return histories, resolved

    def _kinds(self, row: Row, rng: Random, start: str | None) -> list[str]:
        """Choose what is changed, one kind for each history."""
        draw = rng.random()
        if draw < 0.015:
            count = rng.randrange(101, 260)
        elif draw < 0.06:
            count = rng.randrange(41, 100)
        else:
            count = int(rng.expovariate(1 / 7))
        kinds = rng.choices(_KINDS, k=count)
        # The steps must end at the value that the summary has now.
        for kind, now, was in (("status", row.status, "To Do"), ("assignee", row.assignee, start)):
            if now == was and kinds.count(kind) == 1:
                # A single step cannot leave a value and end at it.
                kinds[kinds.index(kind)] = "labels"
            elif now != was and kind not in kinds:
                kinds.append(kind)
        return kinds

    def _walk(
        self, rng: Random, values: list[str], start: str | None, end: str | None, steps: int
    ) -> list[str | None]:
        """Return `steps` values, the last one `end`, mostly without repetition."""
        steps_taken: list[str | None] = []
        at = start
        for step in range(steps, 0, -1):
            avoid = {at, end} if step == 2 else {at}
            choice = rng.choice(values)
            goal = end if step == 1 else next((p for p in (choice, *values) if p not in avoid), end)
            steps_taken.append(goal)
            at = goal
        return steps_taken

    def _id(self, field_id: str) -> str | None:
        return field_id if self._with_ids else None

    def _moved(self, kind: str, before: str | None, after: str | None) -> list[Json]:
        if kind == "status":
            old, new = STATUSES[before or "To Do"], STATUSES[after or "To Do"]
            moved = item(
                "status",
                (old["id"], old["name"]),
                (new["id"], new["name"]),
                field_id=self._id("status"),
            )
            if new["statusCategory"]["key"] != "done":
                return [moved]
            resolution = RESOLUTIONS["Done"]
            return [
                item(
                    "resolution",
                    (None, None),
                    (resolution["id"], resolution["name"]),
                    field_id=self._id("resolution"),
                ),
                moved,
            ]
        users = self._site.users
        return [
            item(
                "assignee",
                (before, users[before].name if before else None),
                (after, users[after].name if after else None),
                field_id=self._id("assignee"),
            )
        ]

    def _edited(self, kind: str, rng: Random, summary: str, row: Row) -> list[Json]:
        make: dict[str, Callable[[], list[Json]]] = {
            "labels": lambda: [
                item(
                    "labels",
                    (None, words(rng, 1)),
                    (None, words(rng, 2)),
                    field_id=self._id("labels"),
                )
            ],
            "priority": lambda: [
                item("priority", ("3", "Medium"), ("2", "High"), field_id=self._id("priority"))
            ],
            "summary": lambda: [
                item(
                    "summary",
                    (None, words(rng, 3)),
                    (None, summary),
                    field_id=self._id("summary"),
                )
            ],
            "description": lambda: [
                item(
                    "description",
                    (None, words(rng, 9)),
                    (None, words(rng, 12)),
                    field_id=self._id("description"),
                )
            ],
            "points": lambda: [self._custom("Story Points", "customfield_10016", rng, ("3", "5"))],
            "sprint": lambda: [
                self._custom("Sprint", "customfield_10020", rng, (str(row.id % 40), "41"))
            ],
            "rank": lambda: [self._custom("Rank", "customfield_10019", rng, ("", ""))],
            "kunde": lambda: [
                self._custom("Kunde", "customfield_10033", rng, ("ACME", "Łódź GmbH")),
                item("labels", (None, ""), (None, "customer"), field_id=self._id("labels")),
            ],
            # One history may change the same field twice.
            "link": lambda: [
                item(
                    "Link",
                    (None, None),
                    (f"CORE-{number}", f"This issue blocks CORE-{number}"),
                    field_id=self._id("issuelinks"),
                )
                for number in rng.sample(range(1, 90), 2)
            ],
            "attachment": lambda: [
                item(
                    "Attachment",
                    (None, None),
                    (str(rng.randrange(10**6)), f"{words(rng, 1)}.png"),
                    field_id=self._id("attachment"),
                )
                for _ in range(1 + rng.randrange(3))
            ],
        }
        return make[kind]()

    def _custom(self, name: str, field_id: str, rng: Random, values: tuple[str, str]) -> Json:
        before, after = values if rng.random() < 0.5 else (values[1], values[0])
        return item(name, (None, before), (None, after), field_id=self._id(field_id), custom=True)

    def _text(self, rng: Random) -> str:
        text = words(rng, 4 + rng.randrange(20))
        draw = rng.random()
        if draw < 0.3:
            who = rng.choice(self._users).id
            prefix = "accountid:" if self._site.cloud else ""
            text = f"[~{prefix}{who}] {text}"
        elif draw < 0.5:
            text += f"\n\nSee [the page|https://wiki.example/{rng.randrange(999)}]"
        return text

    def _comments(self, row: Row, rng: Random, first_id: int) -> list[Json]:
        draw = rng.random()
        count = rng.randrange(101, 160) if draw < 0.006 else int(rng.expovariate(1 / 3))
        comments: list[Json] = []
        for number, created in enumerate(self._times(row, rng, count)):
            author = None if rng.random() < 0.01 else rng.choice(self._people)
            editor, updated = author, created
            if rng.random() < 0.12 and row.updated > created:
                updated = created + 1 + int(rng.random() * (row.updated - created - 1))
                editor = author if rng.random() < 0.7 else rng.choice(self._people)
            comment = {
                "id": str(first_id + number),
                "author": author,
                "body": self._text(rng),
                "updateAuthor": editor,
                "created": created,
                "updated": updated,
                "jsdPublic": True,
            }
            comments.append(comment)
        return comments

    def worklogs(self, row: Row, rng: Random, first_id: int, count: int) -> list[Json]:
        """Make so many worklogs; work is often noted long after it started."""
        worklogs: list[Json] = []
        for number, created in enumerate(self._times(row, rng, count)):
            author = rng.choice(self._people)
            minutes = 15 * rng.randrange(1, 33)
            updated = created
            if rng.random() < 0.1 and row.updated > created:
                updated = created + 1 + int(rng.random() * (row.updated - created - 1))
            worklogs.append(
                {
                    "id": str(first_id + number),
                    "issueId": str(row.id),
                    "author": author,
                    "updateAuthor": author,
                    "comment": self._text(rng) if rng.random() < 0.7 else "",
                    "created": created,
                    "updated": updated,
                    "started": created - 60_000 * (minutes + rng.randrange(600)),
                    "timeSpent": f"{minutes}m",
                    "timeSpentSeconds": minutes * 60,
                }
            )
        return worklogs
