"""A Jira Cloud of any number of issues, none of which is held until something asks for it by id.

Issues were created one after the other, at even steps, in one project, and were never changed but
through `edit`. Searches are by times alone.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import overload

from tests.fakes.jira import jql
from tests.fakes.jira.generate import FIRST_ISSUE, Series, generate, span
from tests.fakes.jira.jql import Both, Clause, JqlError
from tests.fakes.jira.search import Compiler, Searcher
from tests.fakes.jira.service import JiraService
from tests.fakes.jira.site import Row, Site
from tests.fakes.server import serving

#: Issues that a search by the time of their update may find by that of their creation.
_MOST_MATERIALIZED = 10_000
_NEVER = 1 << 60


class VastSite(Site):
    def __init__(self, issues: int, *, clock: Callable[[], int] | None = None) -> None:
        little = generate(8, personality="cloud")
        users = list(little.users.values())
        super().__init__(little.personality, little.catalogue, users, (), clock=clock)
        self.series = Series(self, 0, users)
        self.size = issues
        self._begin, end = span()
        self._step = (end - self._begin) / issues
        self._project = next(iter(little.catalogue.projects))
        #: What was asked for by id, and may have been edited.
        self.held: dict[int, Row] = {}

    def created(self, index: int) -> int:
        return self._begin + int(index * self._step)

    def row(self, index: int) -> Row:
        """The issue at that place: as it was edited, or made anew each time."""
        held = self.held.get(index)
        if held is not None:
            return held
        created, number = self.created(index), index + 1
        key = f"{self._project}-{number}"
        row = Row(FIRST_ISSUE + index, key, self._project, number, created, created, "Done", "Task")
        row.index = index
        return row

    def find(self, id_or_key: str) -> Row | None:
        project, _, number = id_or_key.upper().rpartition("-")
        index = int(number) - (1 if project else FIRST_ISSUE) if number.isdecimal() else -1
        if project not in ("", self._project) or not 0 <= index < self.size:
            return None
        return self.held.setdefault(index, self.row(index))


class Span(Sequence[Row]):
    """Issues that lie together, made when they are looked at."""

    def __init__(self, site: VastSite, places: range) -> None:
        self._site = site
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> "Span": ...
    def __getitem__(self, at: int | slice) -> "Row | Span":
        if isinstance(at, slice):
            return Span(self._site, self._places[at])
        return self._site.row(self._places[at])


class VastSearcher(Searcher):
    def __init__(self, site: VastSite) -> None:
        super().__init__(site)
        self._vast = site

    def find(self, text: str, *, bounded: bool = False, known_keys: bool = False) -> Sequence[Row]:
        query = jql.parse(text)
        compiler = Compiler(self._vast, known_keys=known_keys)
        bounds = {"created": [-_NEVER, _NEVER], "updated": [-_NEVER, _NEVER]}
        for part in query.where.parts if isinstance(query.where, Both) else [query.where]:
            if part is None and not bounded:
                continue
            if not isinstance(part, Clause) or part.field not in bounds:
                raise JqlError("A site of so many issues is searched by times alone.")
            if part.operator == "is not":
                continue
            low, high = bounds[part.field]
            bound = compiler.instant(part.field, part.values[0])
            match part.operator:
                case ">=" | ">":
                    bounds[part.field] = [max(low, bound + (part.operator == ">")), high]
                case "<" | "<=":
                    bounds[part.field] = [low, min(high, bound + (part.operator == "<="))]
                case _:
                    raise JqlError("A site of so many issues is searched by times alone.")
        with self._vast.lock:
            if bounds["updated"] == [-_NEVER, _NEVER]:
                found = self._between(*bounds["created"])
                return found[::-1] if ("created", True) in query.order else found
            return self._updated(bounds, query.order)

    def _between(self, low: int, high: int) -> Span:
        places = range(self._vast.size)
        start, end = (bisect_left(places, at, key=self._vast.created) for at in (low, high))
        return Span(self._vast, places[start:end])

    def _updated(
        self, bounds: dict[str, list[int]], order: Sequence[tuple[str, bool]]
    ) -> list[Row]:
        lows, highs = zip(*bounds.values(), strict=True)
        unedited = self._between(max(lows), min(highs))
        if len(unedited) > _MOST_MATERIALIZED:
            raise JqlError("A site of so many issues is searched by less time.")
        rows = {row.id: row for row in (*unedited, *self._vast.held.values())}
        found = [
            row
            for row in rows.values()
            if all(low <= getattr(row, name) < high for name, (low, high) in bounds.items())
        ]
        for name, descending in reversed(order):
            found.sort(key=self._sort_key(name), reverse=descending)
        return found


def _service(site: VastSite) -> JiraService:
    service = JiraService(site)
    service.searcher = VastSearcher(site)
    return service


serve = serving(_service)
