"""Searches for bugs, merge proposals and questions, with filters and orders."""

import json
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from tests.fakes.exchange import Request
from tests.fakes.launchpad.archive import (
    ASKED_QUESTIONS,
    CLOSED_BUGS,
    OPEN_BUGS,
    OPEN_PROPOSALS,
    PROPOSALS,
    QUESTIONS,
    Archive,
    Bug,
    Proposal,
    Question,
    Task,
)
from tests.fakes.launchpad.refusal import RefusedError

_SEARCHED = OPEN_BUGS | CLOSED_BUGS
_SHADES = {
    "Incomplete (with response)": "Incomplete",
    "Incomplete (without response)": "Incomplete",
}
_ORDERS: dict[str, Callable[[Bug], Any]] = {
    "date_last_updated": lambda bug: bug.updated,
    "datecreated": lambda bug: bug.created,
    "id": lambda bug: bug.number,
}
_SORTS = frozenset(
    {"by relevancy", "by status", "newest first", "oldest first", "recently updated first"}
)

Sees = Callable[[Bug | Proposal | Question], bool]


class Searcher:
    """Searches one archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._version = -1
        self._sorted: list[Bug] = []
        self._times: list[str] = []
        self._related: dict[str, set[int]] = {}

    def tasks(self, scope: str, request: Request, sees: Sees) -> list[tuple[Bug, Task]]:
        """The matching tasks in the requested order; ties are broken by bug."""
        wanted = {
            _SHADES.get(status, status)
            for status in _statuses(request, OPEN_BUGS, _SEARCHED | set(_SHADES))
        }
        omit = _value(request, "omit_duplicates", True)
        since = _value(request, "modified_since", None)
        born_since = _value(request, "created_since", None)
        orders = _value(request, "order_by", ["-importance"])
        found = [
            (bug, task)
            for bug in self._bugs(scope, since)
            if sees(bug)
            and not (omit and bug.duplicate_of is not None)
            and (born_since is None or bug.created > born_since)
            for task in bug.tasks
            if task.status in wanted and (scope[0] == "~" or _within(task.target, scope))
        ]
        for order in reversed([orders] if isinstance(orders, str) else orders):
            key = _ORDERS.get(order.removeprefix("-"))
            if key is None and order.removeprefix("-") != "importance":
                raise RefusedError(400, f"Unrecognized order_by: {order!r}")
            if key is not None:
                found.sort(key=lambda each, key=key: key(each[0]), reverse=order[0] == "-")  # type: ignore[misc]
        return found

    def _bugs(self, scope: str, since: str | None) -> Iterator[Bug]:
        self._refresh()
        first = 0 if since is None else bisect_right(self._times, _padded(since))
        later = self._sorted[first:] if first else self._sorted
        if scope[0] != "~":
            return iter(later)
        related = self._related.get(scope[1:], set())
        return (bug for bug in later if bug.number in related)

    def _refresh(self) -> None:
        with self._archive.lock:
            if self._version == self._archive.version:
                return
            self._version = self._archive.version
            self._sorted = sorted(
                self._archive.bugs.values(), key=lambda bug: (bug.updated, bug.number)
            )
            self._times = [bug.updated for bug in self._sorted]
            self._related = {}
            for bug in self._sorted:
                for person in bug.people():
                    self._related.setdefault(person, set()).add(bug.number)

    def proposals(self, scope: str, request: Request, sees: Sees) -> list[Proposal]:
        """The merge proposals of a person or project, newest first."""
        wanted = _statuses(request, OPEN_PROPOSALS, PROPOSALS)
        return [
            each
            for each in self._newest_first(self._archive.proposals.values())
            if each.status in wanted
            and sees(each)
            and (each.owner == scope[1:] if scope[0] == "~" else each.project == scope)
        ]

    def reviews(self, scope: str, request: Request, sees: Sees) -> list[Proposal]:
        """The merge proposals that a person is to review; Launchpad finds Bazaar branches only."""
        wanted = _statuses(request, {"Needs review"}, PROPOSALS)
        return [
            each
            for each in self._newest_first(self._archive.proposals.values())
            if each.status in wanted
            and not each.git
            and sees(each)
            and any(vote.reviewer == scope[1:] for vote in each.votes)
        ]

    def questions(self, scope: str, request: Request, sees: Sees) -> list[Question]:
        wanted = _statuses(request, ASKED_QUESTIONS, QUESTIONS)
        sort = request.first("sort", "newest first")
        if sort not in _SORTS:
            raise RefusedError(400, f'sort: Invalid value "{sort}".')
        found = [
            each
            for each in self._newest_first(self._archive.questions.values())
            if each.status in wanted
            and sees(each)
            and (scope[1:] in each.people() if scope[0] == "~" else _within(each.target, scope))
        ]
        return found[::-1] if sort == "oldest first" else found

    def _newest_first[T: (Proposal, Question)](self, found: Iterable[T]) -> list[T]:
        with self._archive.lock:
            return sorted(found, key=lambda each: each.number, reverse=True)


def _within(target: str, scope: str) -> bool:
    """Whether a target is in a scope: a distribution holds its packages."""
    return target == scope or target.startswith(f"{scope}/")


def _padded(timestamp: str) -> str:
    """A time as the archive writes it."""
    from datetime import datetime  # noqa: PLC0415

    from tests.fakes.launchpad.archive import text_of  # noqa: PLC0415

    try:
        return text_of(datetime.fromisoformat(timestamp))
    except ValueError:
        raise RefusedError(400, "modified_since: Value doesn't look like a date.") from None


def _statuses(
    request: Request, otherwise: Collection[str], known: Collection[str]
) -> Collection[str]:
    if "status" not in request.query:
        return otherwise
    given: list[str] = []
    for text in request.query["status"]:
        value = _decoded(text)
        given += value if isinstance(value, list) else [str(value)]
    for status in given:
        if status not in known:
            values = ", ".join(sorted(known))
            message = f'status: Invalid value "{status}". Acceptable values are: {values}'
            raise RefusedError(400, message)
    return set(given)


def _value(request: Request, name: str, otherwise: Any) -> Any:
    return _decoded(request.first(name)) if name in request.query else otherwise


def _decoded(text: str) -> Any:
    """A parameter's value: JSON, or where it is none, the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text
