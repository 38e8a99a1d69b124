"""A fake org: its rows, what may be done to them, and the answers to queries.

Rows are plain dicts by the API's names; times are texts that sort. The org can be edited while it
is served.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.salesforce.refusal import RefusedError
from tests.fakes.salesforce.row_tests import Row
from tests.fakes.salesforce.schema import TYPES, ObjectType, make_id
from tests.fakes.salesforce.soql import Catalogue, Order, SoqlQuery, parse, stamp_of

#: Fields whose changes the org keeps, by object; the history's object and its reference.
TRACKED = {
    "Case": ("CaseHistory", "CaseId", {"Status", "OwnerId", "Priority", "Subject", "IsEscalated"}),
    "Opportunity": (
        "OpportunityFieldHistory",
        "OpportunityId",
        {"StageName", "Amount", "CloseDate", "OwnerId", "NextStep"},
    ),
}
#: What is deleted with what it belongs to, and by which field it belongs.
_DEPENDENTS = {
    "CaseHistory": "CaseId",
    "CaseComment": "ParentId",
    "OpportunityFieldHistory": "OpportunityId",
    "OpportunityHistory": "OpportunityId",
}
_SNAPSHOT = ("StageName", "Amount", "Probability", "CloseDate", "ExpectedRevenue")
_DATA_TYPES = {"boolean": "Boolean", "double": "Currency", "date": "DateOnly", "string": "Text"}


class Org:
    """The rows of one org. Safe to use from many threads."""

    def __init__(self, types: Iterable[ObjectType] = tuple(TYPES.values())) -> None:
        self.types = {each.name: each for each in types}
        self.rows: dict[str, dict[str, Row]] = {name: {} for name in self.types}
        #: Fields, as (object, field), that field-level security keeps from everybody.
        self.hidden: set[tuple[str, str]] = set()
        #: Objects the user may not see, or whose history is not tracked.
        self.absent: set[str] = set()
        #: Objects that are there, but whose rows the user may not read.
        self.locked: set[str] = set()
        #: Objects that the Bulk API does not have.
        self.not_in_bulk: set[str] = set()
        self.lock = threading.RLock()
        self._numbers = 0
        self._blank: dict[str, Row] = {
            name: {each: False if kind == "boolean" else None for each, kind in of.fields.items()}
            for name, of in self.types.items()
        }
        self._children: dict[str, list[tuple[str, Row]]] = {}
        self._versions: dict[str, int] = dict.fromkeys(self.types, 0)
        self._sorted: dict[tuple[str, tuple[Any, ...]], tuple[int, list[Any], list[Row]]] = {}

    # Editing

    def add(self, name: str, at: datetime | str, **fields: Any) -> Row:
        """Create a row at that time; with its first history rows."""
        with self.lock:
            of = self.types[name]
            self._numbers += 1
            stamp = at if isinstance(at, str) else stamp_of(at)
            person = fields.pop("by", fields.get("CreatedById"))
            row: Row = dict(self._blank[name])
            row |= {"Id": make_id(of.prefix, self._numbers), "CreatedDate": stamp}
            row["CreatedById"] = person
            if "SystemModstamp" in row:
                row["SystemModstamp"] = stamp
            if "LastModifiedDate" in row:
                row |= {"LastModifiedDate": stamp, "LastModifiedById": person}
            if "OwnerId" in row:
                row["OwnerId"] = person
            row |= fields
            self.rows[name][row["Id"]] = row
            self._versions[name] += 1
            if name in _DEPENDENTS:
                self._children.setdefault(row[_DEPENDENTS[name]], []).append((name, row))
            if name in TRACKED:
                history, key, _ = TRACKED[name]
                self.add(history, stamp, by=person, Field="created", **{key: row["Id"]})
            if name == "Opportunity":
                self._snapshot(row, stamp, person)
            return row

    def change(self, row: Row, at: datetime | str, by: str | None, **fields: Any) -> None:
        """Change a row; tracked fields leave history rows."""
        with self.lock:
            name = self.object_of(row)
            stamp = at if isinstance(at, str) else stamp_of(at)
            history, key, tracked = TRACKED.get(name, ("", "", set()))
            before = {each: row[each] for each in fields}
            row |= fields
            for each in sorted(tracked.intersection(fields)):
                self._track(history, key, row, each, before[each], stamp, by)
            if name == "Opportunity" and set(fields).intersection(_SNAPSHOT):
                self._snapshot(row, stamp, by)
            row["LastModifiedDate"], row["LastModifiedById"] = stamp, by
            self.touch(row, stamp)

    def touch(self, row: Row, at: datetime | str) -> None:
        """Move a row's SystemModstamp alone, as background jobs do."""
        with self.lock:
            row["SystemModstamp"] = at if isinstance(at, str) else stamp_of(at)
            self._versions[self.object_of(row)] += 1

    def delete(self, row: Row, at: datetime | str, by: str | None) -> None:
        """Move a row to the recycle bin, and its history and comments with it."""
        with self.lock:
            stamp = at if isinstance(at, str) else stamp_of(at)
            row |= {"IsDeleted": True, "LastModifiedDate": stamp, "LastModifiedById": by}
            self.touch(row, stamp)
            for name, each in self._children.get(row["Id"], ()):
                each["IsDeleted"] = True
                self._versions[name] += 1

    def purge(self, row: Row) -> None:
        """Empty a row from the recycle bin."""
        with self.lock:
            name = self.object_of(row)
            del self.rows[name][row["Id"]]
            self._versions[name] += 1

    def note_edits(self) -> None:
        """Invalidate caches after rows were written directly."""
        with self.lock:
            for name in self._versions:
                self._versions[name] += 1

    def object_of(self, row: Row) -> str:
        return next(name for name, rows in self.rows.items() if row["Id"] in rows)

    def all(self, name: str) -> list[Row]:
        with self.lock:
            return list(self.rows[name].values())

    def _track(
        self,
        history: str,
        key: str,
        row: Row,
        name: str,
        before: Any,
        stamp: str,
        by: str | None,
    ) -> None:
        of = self.types[self.object_of(row)]
        shown = "Owner" if name == "OwnerId" else name
        common = {key: row["Id"], "Field": shown}
        if name == "OwnerId":
            # Two rows: of names, and of ids.
            names = [self._name_of(each) for each in (before, row[name])]
            self.add(
                history, stamp, by=by, DataType="Text", OldValue=names[0], NewValue=names[1],
                **common,
            )  # fmt: skip
            kind = "EntityId"
        else:
            kind = _DATA_TYPES[of.fields[name]]
        self.add(
            history, stamp, by=by, DataType=kind, OldValue=before, NewValue=row[name], **common
        )

    def _name_of(self, user: str | None) -> str | None:
        found = self.rows["User"].get(user or "")
        return found["Name"] if found else user

    def _snapshot(self, row: Row, stamp: str, by: str | None) -> None:
        values = {each: row[each] for each in (*_SNAPSHOT, "ForecastCategory")}
        self.add("OpportunityHistory", stamp, by=by, OpportunityId=row["Id"], **values)

    # Queries

    def understand(self, soql: str) -> SoqlQuery:
        """Parse a query.

        Raises:
            SoqlError: it is malformed, or names what is not there.
        """
        seen = {name: each for name, each in self.types.items() if name not in self.absent}
        understood = parse(soql, Catalogue(seen, self._find, self.hidden))
        if understood.object in self.locked:
            raise RefusedError(
                403, "INSUFFICIENT_ACCESS", "insufficient access rights on object id"
            )
        return understood

    def select(self, query: SoqlQuery, *, everything: bool) -> list[Row]:
        """Return the rows in order; `everything` leaves deleted and archived ones in."""
        with self.lock:
            name = query.object
            listed = self.rows[name].values()
            rows = self._in_order(name, query) if query.order else list(listed)
            test = query.test
            wanted = None if query.limit is None else query.offset + query.limit
            found: list[Row] = []
            for row in rows:
                if wanted is not None and len(found) >= wanted:
                    break
                if not everything and (row.get("IsDeleted") or row.get("IsArchived")):
                    continue
                if test is None or test(row):
                    found.append(row)
            return found[query.offset :]

    def render(self, query: SoqlQuery, row: Row, api: str) -> dict[str, Any]:
        """Return a row as REST shows it."""
        shown: dict[str, Any] = {
            "attributes": {
                "type": query.object,
                "url": f"{api}/sobjects/{query.object}/{row['Id']}",
            }
        }
        for path in query.columns or ():
            if len(path) == 1:
                shown[path[0]] = row.get(path[0])
            else:
                self._render_related(self.types[query.object], row, path, shown)
        return shown

    def value(self, name: str, row: Row, path: tuple[str, ...]) -> Any:
        """Return a field's value, through relations."""
        for relation in path[:-1]:
            key, target = self.types[name].relations[relation]
            other = self._find(target, row.get(key) or "")
            if other is None:
                return None
            name, row = target, other
        return row.get(path[-1])

    def _render_related(
        self, of: ObjectType, row: Row, path: tuple[str, ...], shown: dict[str, Any]
    ) -> None:
        key, target = of.relations[path[0]]
        other = self._find(target, row.get(key) or "")
        if other is None:
            shown[path[0]] = None
            return
        inner = shown.setdefault(path[0], {"attributes": {"type": target}})
        if len(path) == 2:
            inner[path[1]] = other.get(path[1])
        else:
            self._render_related(self.types[target], other, path[1:], inner)

    def _find(self, name: str, id_: str) -> Row | None:
        return self.rows[name].get(id_)

    def _in_order(self, name: str, query: SoqlQuery) -> list[Row]:
        shape = tuple((each.path, each.descending, each.nulls_last) for each in query.order)
        version = self._versions[name]
        known = self._sorted.get((name, shape))
        if known is None or known[0] != version:
            rows = list(self.rows[name].values())
            for order in reversed(query.order):
                rows.sort(key=_key(order), reverse=order.descending)
            first = query.order[0]
            keys = [_key(first)(row) for row in rows]
            known = self._sorted[name, shape] = (version, keys, rows)
        _, keys, rows = known
        first = query.order[0]
        bound = query.bounds.get(first.path[0]) if len(first.path) == 1 else None
        if bound is None or first.descending or first.nulls_last:
            return rows
        return rows[bisect_left(keys, (1, _sortable(bound, first.path[-1]))) :]


def _key(order: Order) -> Any:
    # Nulls come first, whatever the direction, unless requested otherwise.
    null = 2 if order.nulls_last != order.descending else 0

    def key(row: Row) -> tuple[int, Any]:
        value = order.get(row)
        return (null, "") if value is None else (1, _sortable(value, order.path[-1]))

    return key


def _sortable(value: Any, name: str = "") -> Any:
    is_text = isinstance(value, str) and not name.endswith("Id")
    return value.lower() if is_text and not value[:4].isdigit() else value


def shape_ties(org: Org, share: float) -> None:
    """Give this share of every object's rows one and the same stamp."""
    for rows in org.rows.values():
        many = sorted(rows.values(), key=lambda row: str(row["CreatedDate"]))
        half = len(many) // 2
        for row in many[half : half + int(len(many) * share)]:
            for stamp in ("CreatedDate", "SystemModstamp"):
                if row.get(stamp):
                    row[stamp] = many[half]["CreatedDate"]
    org.note_edits()


def shape_null_people(org: Org, share: float) -> None:
    """Take the person from this share of the rows."""
    every = max(1, round(1 / share))
    for name, rows in org.rows.items():
        if name == "User":
            continue
        for number, row in enumerate(rows.values()):
            if number % every == 0:
                for each in ("CreatedById", "OwnerId", "LastModifiedById"):
                    if each in row:
                        row[each] = None
    org.note_edits()


def timestamp(days: float, *, start: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> datetime:
    """Return a whole second so many days after the start of 2024."""
    return start + timedelta(seconds=int(days * 86_400))
