"""Keyset pagination over rows of one object, in the order of a stamp and the Id.

Each page is a query of its own that begins behind the last row seen, so that reading goes on
from anywhere without anything the server would have to remember, and rows with equal stamps,
however many, neither repeat nor get lost.
"""

import contextlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec
import requests

from temporaletl.errors import RecordError, SourceProtocolError, SourceUnavailableError
from temporaletl.external.answers import MisfitAnswerError, decode_record, reading
from temporaletl.external.salesforce.org import SalesforceOrg
from temporaletl.external.salesforce.refusals import (
    InvalidFieldError,
    StaleLocatorError,
    UnrenderableError,
)
from temporaletl.external.salesforce.settings import check_field, check_name
from temporaletl.telemetry.logs import get_logger

log = get_logger("salesforce")

Order = Literal["ASC", "DESC"]

_ONE_MS = timedelta(milliseconds=1)
#: Answers in a row without rows that promise more.
_MOST_EMPTY = 5


def utc(text: str | None) -> datetime:
    """Return Salesforce's timestamp, such as 2024-05-01T10:00:00.000+0000, in UTC.

    Raises:
        RecordError: it is missing, or no time with a zone.
    """
    try:
        timestamp = datetime.fromisoformat(text or "")
        if timestamp.tzinfo is not None:
            return timestamp.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    raise RecordError("a time is missing" if not text else f"{text!r} is no time in a zone")


def literal(timestamp: datetime) -> str:
    """Return a timestamp as SOQL writes it, to the millisecond, rounded up.

    A stamp in whole milliseconds is before the timestamp just when it is before the literal, and
    not before it likewise.
    """
    rounded = timestamp.astimezone(UTC)
    over = timedelta(microseconds=rounded.microsecond % 1000)
    if over:
        rounded += _ONE_MS - over
    return rounded.strftime("%Y-%m-%dT%H:%M:%S.") + f"{rounded.microsecond // 1000:03d}Z"


class Keyset(msgspec.Struct, frozen=True):
    """The keyset cursor behind a row: its stamp as a SOQL literal, and its Id."""

    at: str
    id: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of an object with start <= stamp < end, deleted and archived ones among them.

    Of `fields` all must be there; of `optional` ones those are left out that the org does not
    show. `deleted` leaves only the deleted rows, `present` only the others.
    """

    object: str
    fields: tuple[str, ...]
    optional: tuple[str, ...] = ()
    stamp: str = "SystemModstamp"
    start: datetime | None = None
    end: datetime | None = None
    deleted: bool = False
    present: bool = False
    order: Order = "ASC"
    #: Those with these Ids only; none: all.
    ids: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The endpoint that answers it: `query` leaves the deleted rows out."""
        return "query" if self.present else "queryAll"

    def where(self, after: Keyset | None = None) -> str:
        """Return the condition with its keyword; empty where there is none."""
        from simple_salesforce.format import quote_soql_value

        stamp = check_name(self.stamp)
        clauses = []
        if after is not None:
            at = literal(utc(after.at))
            clauses += [
                f"{stamp} >= {at}",
                f"({stamp} > {at} OR Id > {quote_soql_value(after.id)})",
            ]
        elif self.start is not None:
            clauses.append(f"{stamp} >= {literal(self.start)}")
        if self.end is not None:
            clauses.append(f"{stamp} < {literal(self.end)}")
        if self.deleted:
            clauses.append("IsDeleted = true")
        if self.ids:
            clauses.append(f"Id IN ({', '.join(map(quote_soql_value, self.ids))})")
        return f" WHERE {' AND '.join(clauses)}" if clauses else ""

    def columns(self, hidden: frozenset[str] = frozenset()) -> tuple[str, ...]:
        """Return what is selected; each name is checked."""
        seen = [name for name in self.optional if not _is_hidden(name, hidden)]
        return tuple(
            check_field(name) for name in dict.fromkeys(("Id", self.stamp, *self.fields, *seen))
        )

    def soql(self, columns: Sequence[str], after: Keyset | None = None) -> str:
        """Return the query for the rows behind `after`, in no order."""
        names = ", ".join(columns)
        return f"SELECT {names} FROM {check_name(self.object)}{self.where(after)}"  # noqa: S608 - checked names

    def page_soql(
        self, columns: Sequence[str], after: Keyset | None, size: int, offset: int = 0
    ) -> str:
        """Return the query for the next `size` rows behind `after`, less the first `offset`."""
        order = f" ORDER BY {self.stamp} {self.order}, Id {self.order} LIMIT {size}"
        return self.soql(columns, after) + order + (f" OFFSET {offset}" if offset else "")


def _is_hidden(field: str, hidden: frozenset[str]) -> bool:
    relation, _, last = field.rpartition(".")
    return not hidden.isdisjoint({field, last, relation})


class Bare(msgspec.Struct, rename="pascal", frozen=True, gc=False):
    """The key fields of a row: its keyset, as far as it can be read."""

    id: str | None = None
    system_modstamp: str | None = None
    created_date: str | None = None

    def keyset(self, stamp: str) -> Keyset | None:
        text = self.created_date if stamp == "CreatedDate" else self.system_modstamp
        try:
            return Keyset(literal(utc(text)), self.id) if self.id else None
        except RecordError:
            return None


class Answer(msgspec.Struct, rename="camel"):
    records: list[msgspec.Raw]
    done: bool
    total_size: int
    #: Left out of the last answer.
    next_records_url: str | None = None


_answers = reading(Answer, source="salesforce")


def _read(response: requests.Response) -> Answer:
    answer = _answers(response)
    if not answer.done and not answer.next_records_url:
        raise MisfitAnswerError(
            "salesforce: a query answered with a part of its rows, and does not say where the "
            "others are"
        )
    return answer


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that Salesforce cannot render, whatever is requested beside it."""

    object: str
    #: What is known of it: its Id and its stamp, or the keyset that it lies behind.
    known: Mapping[str, str | None]
    reason: str


@dataclass(frozen=True, slots=True)
class QueryPage:
    """A page of rows as JSON, the keyset behind them, and whether they are the last."""

    rows: Sequence[msgspec.Raw]
    after: Keyset | None
    last: bool
    unreadable: Sequence[Unreadable] = ()


def ask(
    org: SalesforceOrg,
    selection: Selection,
    soql: str,
    size: int,
    stop: threading.Event | None = None,
    *,
    briefly: bool = False,
) -> Answer:
    """Run one query on the selection's object, and return its first answer that has rows.

    Raises:
        SourceUnavailableError: nothing but empty answers, or a cursor that is gone.
        ETLError: as `SalesforceOrg.request`.
    """
    headers = {"Sforce-Query-Options": f"batchSize={max(200, min(size, 2000))}"}
    path, params = f"{org.api}/{selection.path}/", {"q": soql}
    for _ in range(_MOST_EMPTY):
        answer = org.request(
            "GET",
            path,
            read=_read,
            about=selection.object,
            params=params,
            headers=headers,
            stop=stop,
            briefly=briefly,
        )
        if answer.records or answer.done or not answer.next_records_url:
            return answer
        path, params = f"/{answer.next_records_url.lstrip('/')}", {}
    raise SourceUnavailableError(f"salesforce: {_MOST_EMPTY} answers in a row without rows: {soql}")


def read_page(
    org: SalesforceOrg,
    selection: Selection,
    after: Keyset | None,
    size: int,
    stop: threading.Event | None = None,
    *,
    offset: int = 0,
    briefly: bool = False,
) -> QueryPage:
    """Return the next rows behind `after`. Blocks; safe to repeat.

    Leaves out the first `offset` of them. `briefly` makes fewer attempts.

    Raises:
        InvalidFieldError: a field that is not optional is not there.
        InvalidTypeError: the object is not there.
        SourceUnavailableError: the server does not get on.
        ETLError: as `SalesforceOrg.request`.
    """

    def query_columns(columns: Sequence[str]) -> Answer:
        soql = selection.page_soql(columns, after, size, offset)
        try:
            return ask(org, selection, soql, size, stop, briefly=briefly)
        except StaleLocatorError:
            return ask(org, selection, soql, size, stop, briefly=briefly)

    answer = with_seen_columns(org, selection, query_columns)
    last = answer.done and len(answer.records) < size
    keyset = _keyset_behind(answer.records, selection, after, last=last)
    return QueryPage(answer.records, keyset, last)


def probe(org: SalesforceOrg, selection: Selection, stop: threading.Event | None = None) -> None:
    """Check that the selection can be read at all. Raises: as `read_page`."""

    def query_columns(columns: Sequence[str]) -> Answer:
        return ask(org, selection, f"{selection.soql(columns)} LIMIT 1", 200, stop)

    # The one row may be the very one that cannot be rendered.
    with contextlib.suppress(UnrenderableError):
        with_seen_columns(org, selection, query_columns)


def with_seen_columns[T](
    org: SalesforceOrg, selection: Selection, query_columns: Callable[[Sequence[str]], T]
) -> T:
    """Call with the columns that the org shows: an optional one that is refused is left out.

    Raises:
        InvalidFieldError: a field that is not optional is refused.
        ETLError: what the call raises else.
    """
    while True:
        hidden = org.hidden.get(selection.object, frozenset())
        columns = selection.columns(hidden)
        try:
            return query_columns(columns)
        except InvalidFieldError as error:
            if error.field is None or selection.columns(hidden | {error.field}) == columns:
                raise
            org.hidden[selection.object] = hidden | {error.field}
            log.warning("salesforce_field_hidden", object=selection.object, field=error.field)


def _keyset_behind(
    rows: Sequence[msgspec.Raw], selection: Selection, after: Keyset | None, *, last: bool
) -> Keyset | None:
    if not rows:
        return after
    keyset = next(filter(None, (keyset_of(row, selection.stamp) for row in reversed(rows))), None)
    if keyset is None:
        if last:
            return after
        raise SourceProtocolError(
            f"salesforce: {len(rows)} rows of {selection.object} without Id and {selection.stamp}"
        )
    if after is not None and (keyset == after or keyset.at < after.at):
        raise SourceUnavailableError(
            f"salesforce: the query for {selection.object} after {after.at} gives rows from before"
        )
    return keyset


def keyset_of(row: msgspec.Raw, stamp: str) -> Keyset | None:
    """Return a row's keyset, whatever else is wrong with it; None where it has none."""
    try:
        bare = decode_record(Bare, row)
    except RecordError:
        found = {
            name: match[1].decode() if (match := pattern.search(bytes(row))) else None
            for name, pattern in _KEYSET_FIELDS.items()
        }
        bare = Bare(**found)
    return bare.keyset(stamp)


#: Within texts the quotes would be escaped; related objects are not queried for these.
_KEYSET_FIELDS = {
    "id": re.compile(rb'"Id"\s*:\s*"([A-Za-z0-9]{15,18})"'),
    "system_modstamp": re.compile(rb'"SystemModstamp"\s*:\s*"([0-9T:.+Z-]+)"'),
    "created_date": re.compile(rb'"CreatedDate"\s*:\s*"([0-9T:.+Z-]+)"'),
}
