"""Counts of rows, in all and by the months of a stamp."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from temporaletl.errors import RecordError
from temporaletl.external.answers import MisfitAnswerError, decode_record
from temporaletl.external.salesforce.org import SalesforceOrg
from temporaletl.external.salesforce.query import Order, Selection, ask, keyset_of, utc
from temporaletl.external.salesforce.settings import check_name

#: More groups come in no answer, and there is no second one.
_MOST_GROUPS = 2_000


@dataclass(frozen=True, slots=True)
class MonthCount:
    """How many rows have their stamp within a month, and the oldest and newest of the stamps."""

    rows: int
    oldest: datetime
    newest: datetime


class _Group(msgspec.Struct):
    held: int
    oldest: str | None = None
    newest: str | None = None


def count(org: SalesforceOrg, selection: Selection, stop: threading.Event | None = None) -> int:
    """Return how many rows there are now. Raises: as `ask`."""
    soql = f"SELECT COUNT() FROM {check_name(selection.object)}{selection.where()}"  # noqa: S608
    return ask(org, selection, soql, 200, stop).total_size


def count_by_month(org: SalesforceOrg, selection: Selection) -> Sequence[MonthCount]:
    """Return how many rows each month has that has any, in order.

    One request, which takes Salesforce longer than `count`: of very many rows, it may time out.

    Raises:
        MisfitAnswerError: the answer is not of all months, or not of that shape.
        ETLError: as `ask`.
    """
    stamp = check_name(selection.stamp)
    soql = (
        f"SELECT COUNT(Id) held, MIN({stamp}) oldest, MAX({stamp}) newest "  # noqa: S608 - checked
        f"FROM {check_name(selection.object)}{selection.where()} "
        f"GROUP BY CALENDAR_YEAR({stamp}), CALENDAR_MONTH({stamp})"
    )
    answer = ask(org, selection, soql, _MOST_GROUPS)
    what = f"salesforce: the counts of {selection.object} by months"
    if not answer.done:
        raise MisfitAnswerError(f"{what} came in part only")
    try:
        groups = [decode_record(_Group, record) for record in answer.records]
        months = [MonthCount(each.held, utc(each.oldest), utc(each.newest)) for each in groups]
    except RecordError as error:
        raise MisfitAnswerError(f"{what} cannot be read: {error}") from None
    return sorted(months, key=lambda month: month.oldest)


def outermost(org: SalesforceOrg, selection: Selection, order: Order) -> datetime | None:
    """Return the stamp of the first row in that order; None where none is there to be read.

    Raises: as `ask`.
    """
    bare = replace(selection, fields=(), optional=(), order=order)
    rows = ask(org, bare, bare.page_soql(bare.columns(), None, 1), 200).records
    keyset = keyset_of(rows[0], bare.stamp) if rows else None
    return utc(keyset.at) if keyset else None
