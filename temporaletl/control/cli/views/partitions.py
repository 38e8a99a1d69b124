"""`etl partitions`: output of events by month."""

from collections.abc import Collection
from dataclasses import asdict

from temporaletl.control.cli.output import (
    add_row,
    count,
    make_table,
    note,
    print_json,
    print_table,
    say,
)
from temporaletl.control.cli.session import begin_here, call
from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.partitions import (
    detach_months,
    divide_events,
    list_partitions,
)
from temporaletl.worker.loading.months import Step

_MEGABYTE = 1_000_000
_FIGURES = ("events, about", "MB", "months", "of no month", "months to detach")


def print_partitions(*, as_json: bool) -> None:
    """Print each source's events: how many, how they are divided, and what is due."""
    begin_here()
    found = call(list_partitions)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    table = make_table("source", *_FIGURES, "to do", right=_FIGURES)
    for one in found:
        months = ("" if one.months is None else str(one.months), f"{one.rest:,}", f"{one.old}")
        to_do = "etl partitions detach" if one.old else ""
        to_do = "etl partitions divide" if one.due else to_do
        add_row(table, one.source, f"{one.rows:,}", f"{one.bytes / _MEGABYTE:,.1f}", *months, to_do)
    print_table(table)


def divide(sources: Collection[str], *, as_json: bool) -> None:
    """Divide what is due, or named, and print each step when it is made."""
    begin_here()
    _print(call(divide_events, sources, local_author(), notice=_announce), as_json=as_json)


def detach(*, drop: bool, as_json: bool) -> None:
    """Detach months, and print each step when it is made."""
    begin_here()
    _print(call(detach_months, local_author(), drop=drop, notice=_announce), as_json=as_json)


def _announce(step: Step) -> None:
    note(f"{step.table}: {step.words}: {count(step.rows, 'event')}", style="dim")


def _print(made: list[Step], *, as_json: bool) -> None:
    if as_json:
        print_json([step._asdict() for step in made])
        return
    say(f"{count(len(made), 'change')} made" if made else "nothing is due")
