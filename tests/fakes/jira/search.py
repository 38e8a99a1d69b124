"""Searches of a site by JQL: the issues that match now, in order."""

import re
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from tests.fakes.jira import jql
from tests.fakes.jira.jql import Both, Clause, Either, JqlError, Node, Not, Query, Value
from tests.fakes.jira.people import account_of
from tests.fakes.jira.site import Row, Site

type Test = Callable[[Row], bool]

_DATE_FORMATS = ("%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M", "%Y-%m-%d", "%Y/%m/%d")
_PERIOD = re.compile(r"([+-]?)((?:\d+[wdhm]\s*)+)")
_UNITS = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}
_CACHED = 64


class Searcher:
    """The search of one site, as it is when the query runs."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._found: OrderedDict[str, tuple[int, list[Row]]] = OrderedDict()
        self._guard = threading.Lock()
        self._by_updated: list[Row] = []
        self._by_updated_version = -1
        self._membership = -1

    def find(self, text: str, *, bounded: bool = False, known_keys: bool = False) -> Sequence[Row]:
        """Return the matching issues in order.

        `bounded` refuses a query without restriction; `known_keys` refuses one that names an
        issue which does not exist.

        Raises:
            JqlError: the query is refused.
        """
        query = jql.parse(text)
        if bounded and query.where is None:
            raise JqlError(
                "Unbounded JQL queries are not allowed here. "
                "Please add a search restriction to your query."
            )
        if bounded and len(query.order) > 7:
            raise JqlError("The ORDER BY clause may name at most 7 fields.")
        if self._site.closed:
            return []
        with self._site.lock:
            version = self._site.version
            with self._guard:
                cached = self._found.get(text)
                if cached is not None and cached[0] == version and not known_keys:
                    self._found.move_to_end(text)
                    return cached[1]
            compiler = Compiler(self._site, known_keys=known_keys)
            rows = self._run(query, compiler)
            if not compiler.moving:
                with self._guard:
                    self._found[text] = (version, rows)
                    if len(self._found) > _CACHED:
                        self._found.popitem(last=False)
            return rows

    def _run(self, query: Query, compiler: "Compiler") -> list[Row]:
        hidden = self._site.hidden_projects
        rows = self._candidates(query.where, compiler)
        if query.where is not None:
            test = compiler.test(query.where)
            rows = [row for row in rows if test(row)]
        if hidden:
            rows = [row for row in rows if row.project not in hidden]
        elif query.where is None:
            rows = list(rows)
        # A stable sort by each key, the least important first.
        for name, descending in reversed(query.order or (("id", True),)):
            rows.sort(key=self._sort_key(name), reverse=descending)
        return rows

    def _candidates(self, where: Node | None, compiler: "Compiler") -> list[Row]:
        """Narrow the issues by the bounds on `updated`, or by the ids or keys, that must hold."""
        parts = where.parts if isinstance(where, Both) else (where,)
        low: int | None = None
        high: int | None = None
        for part in parts:
            if not isinstance(part, Clause):
                continue
            if part.field in {"id", "key"} and part.operator in {"=", "in"}:
                found = {self._site.find(value.text) for value in part.values}
                return [row for row in found if row is not None]
            if part.field == "updated" and part.operator in {"=", ">", ">="}:
                low = max(low or 0, compiler.instant(part.field, part.values[0]))
            if part.field == "updated" and part.operator in {"=", "<", "<="}:
                bound = compiler.instant(part.field, part.values[0])
                high = bound if high is None else min(high, bound)
        if low is None and high is None:
            return self._site.rows
        ordered = self._ordered()
        start = 0 if low is None else bisect_left(ordered, low, key=_updated)
        end = len(ordered) if high is None else bisect_left(ordered, high + 1, key=_updated)
        return ordered[start:end]

    def _ordered(self) -> list[Row]:
        if self._by_updated_version != self._site.version:
            if self._membership != self._site.membership:
                self._by_updated = list(self._site.rows)
                self._membership = self._site.membership
            # Nearly sorted after a few changes, which this sort makes use of.
            self._by_updated.sort(key=_updated)
            self._by_updated_version = self._site.version
        return self._by_updated

    def _sort_key(self, name: str) -> Callable[[Row], Any]:
        cheap = _SORT_KEYS.get(name)
        if cheap is not None:
            return cheap
        return lambda row: str(self._site.issue(row).fields.get(name) or "")


def _updated(row: Row) -> int:
    return row.updated


_SORT_KEYS: dict[str, Callable[[Row], Any]] = {
    "updated": _updated,
    "created": lambda row: row.created,
    "id": lambda row: row.id,
    "key": lambda row: (row.project, row.sequence),
    "status": lambda row: row.status,
    "issuetype": lambda row: row.issuetype,
    "project": lambda row: row.project,
    "assignee": lambda row: (row.assignee is None, row.assignee or ""),
    "labels": lambda row: (not row.labels, row.labels),
}


class Compiler:
    """Compiles a query tree into a predicate of one issue."""

    def __init__(self, site: Site, *, known_keys: bool) -> None:
        self._site = site
        self._known_keys = known_keys
        #: Whether the outcome depends on the time of day, so that it must not be kept.
        self.moving = False

    def test(self, node: Node) -> Test:
        match node:
            case Not(inner):
                test = self.test(inner)
                return lambda row: not test(row)
            case Both(parts):
                tests = [self.test(part) for part in parts]
                return lambda row: all(test(row) for test in tests)
            case Either(parts):
                tests = [self.test(part) for part in parts]
                return lambda row: any(test(row) for test in tests)
            case Clause():
                return self._clause(node)

    def _clause(self, clause: Clause) -> Test:
        if clause.field in {"created", "updated"}:
            return self._dated(clause)
        if clause.field in {"summary", "text"}:
            return self._textual(clause)
        if clause.field in {"id", "key"}:
            return self._keyed(clause)
        return self._listed(clause)

    def _dated(self, clause: Clause) -> Test:
        name, operator = clause.field, clause.operator
        if operator in {"is", "is not"}:
            present = operator == "is not"
            return lambda _: present
        bounds = [self.instant(name, value) for value in clause.values]
        if operator in {"in", "not in"}:
            among = operator == "in"
            return lambda row: (getattr(row, name) in bounds) is among
        compare, bound = _COMPARE[operator], bounds[0]
        return lambda row: compare(getattr(row, name), bound)

    def instant(self, name: str, value: Value) -> int:
        """Read an operand as an instant in milliseconds."""
        text = value.text.strip()
        if value.function:
            self.moving = True
            return self._function_time(text)
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        period = _PERIOD.fullmatch(text)
        if period:
            self.moving = True
            amounts = re.findall(r"(\d+)([wdhm])", period[2])
            length = sum(int(number) * _UNITS[unit] for number, unit in amounts)
            # A period without a sign lies ahead.
            return self._site.clock() + (-length if period[1] == "-" else length)
        for shape in _DATE_FORMATS:
            try:
                local = datetime.strptime(text, shape)  # noqa: DTZ007 - the zone follows
            except ValueError:
                continue
            return int(local.replace(tzinfo=self._site.face.zone).timestamp() * 1000)
        raise JqlError(
            f"Date value '{value.text}' for field '{name}' is invalid. Valid formats include: "
            "'yyyy/MM/dd HH:mm', 'yyyy-MM-dd HH:mm', 'yyyy/MM/dd', 'yyyy-MM-dd', or a period "
            "format e.g. '-5d', '4w 2d'."
        )

    def _function_time(self, name: str) -> int:
        now = self._site.clock()
        day = datetime.fromtimestamp(now / 1000, self._site.face.zone)
        midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
        if name.lower() == "now":
            return now
        if name.lower() == "startofday":
            return int(midnight.timestamp() * 1000)
        if name.lower() == "endofday":
            return int((midnight + timedelta(days=1)).timestamp() * 1000) - 1
        raise JqlError(f"Unable to find JQL function '{name}()'.")

    def _textual(self, clause: Clause) -> Test:
        if clause.operator in {"is", "is not"}:
            empty = clause.operator == "is"
            return lambda row: (not self._site.issue(row).fields.get("summary")) is empty
        words = clause.values[0].text.lower().replace("*", "").split()
        found = clause.operator == "~"

        def test(row: Row) -> bool:
            fields = self._site.issue(row).fields
            text = str(fields.get("summary") or "")
            if clause.field == "text":
                text += f" {fields.get('description') or ''}"
            return all(word in text.lower() for word in words) is found

        return test

    def _keyed(self, clause: Clause) -> Test:
        operator = clause.operator
        if operator in {"is", "is not"}:
            present = operator == "is not"
            return lambda _: present
        rows = [self._site.find(value.text) for value in clause.values]
        if self._known_keys:
            for value, row in zip(clause.values, rows, strict=True):
                if row is None and operator in {"=", "!=", "in", "not in"}:
                    raise JqlError(
                        f"An issue with key '{value.text}' does not exist for field 'key'."
                    )
        if operator in {"=", "in", "!=", "not in"}:
            ids = {row.id for row in rows if row is not None}
            among = operator in {"=", "in"}
            return lambda row: (row.id in ids) is among
        compare, text = _COMPARE[operator], clause.values[0].text
        if clause.field == "id" and text.isdecimal():
            bound = int(text)
            return lambda row: compare(row.id, bound)
        project, _, sequence = text.upper().rpartition("-")
        if not sequence.isdecimal():
            raise JqlError(f"The issue key '{text}' for field 'key' is invalid.")
        # Keys compare within one project only.
        number = int(sequence)
        return lambda row: row.project == project and compare(row.sequence, number)

    def _listed(self, clause: Clause) -> Test:
        name, operator = clause.field, clause.operator
        wanted = {self._operand(name, value) for value in clause.values if not value.empty}
        with_empty = any(value.empty for value in clause.values)
        positive = operator in {"=", "in", "is"}
        if name == "project":
            self._check_projects(clause.values)
        words = self._words(name)
        if words is not None:
            # Few words, many issues: the words that match are settled before the first issue.
            fit = {
                word
                for word, names in words.items()
                if names and wanted.isdisjoint(names) is not positive
            }
            if with_empty and positive:
                fit.add("")
            attribute = name
            return lambda row: getattr(row, attribute) in fit
        of = self._values_of(name)

        def test(row: Row) -> bool:
            values = of(row)
            if not values:
                # What is empty matches no comparison but the one with EMPTY.
                return with_empty and positive
            return (not wanted.isdisjoint(values)) is positive

        return test

    def _operand(self, name: str, value: Value) -> str:
        if value.function:
            if value.text.lower() != "currentuser":
                raise JqlError(f"Unable to find JQL function '{value.text}()'.")
            owner = self._site.owner
            return owner.id.lower() if owner else ""
        if name == "labels":
            return value.text
        return value.text.lower()

    def _check_projects(self, values: tuple[Value, ...]) -> None:
        known: set[str] = set()
        for key, project in self._site.catalogue.projects.items():
            if key not in self._site.hidden_projects:
                known |= _names(project)
        for value in values:
            if not value.empty and value.text.lower() not in known:
                raise JqlError(f"The value '{value.text}' does not exist for the field 'project'.")

    def _words(self, name: str) -> dict[str, set[str]] | None:
        """Return, by its word in a row, all names of each value; None for the other fields."""
        catalogue = self._site.catalogue
        words = {
            "project": catalogue.projects,
            "status": catalogue.statuses,
            "issuetype": catalogue.issue_types,
        }.get(name)
        if words is None:
            return None
        return {word: _names(entry) | {word.lower()} for word, entry in words.items()}

    def _values_of(self, name: str) -> Callable[[Row], set[str]]:
        catalogue = self._site.catalogue
        users = self._site.users
        if name == "statuscategory":
            categories = {
                word: _names(entry.get("statusCategory") or {})
                for word, entry in catalogue.statuses.items()
            }
            return lambda row: categories.get(row.status, set())
        if name == "labels":
            return lambda row: set(row.labels)
        accounts = {user.id: {user.id.lower(), user.name.lower()} for user in users.values()}
        if name == "assignee":
            return lambda row: accounts.get(row.assignee, set()) if row.assignee else set()

        def of_issue(row: Row) -> set[str]:
            value = self._site.issue(row).fields.get(name)
            account = account_of(value)
            if account:
                return accounts.get(account, {account.lower()})
            return _names(value) if isinstance(value, dict) else set()

        return of_issue


def _names(entry: dict[str, Any]) -> set[str]:
    return {str(entry[part]).lower() for part in ("id", "key", "name") if entry.get(part)}
