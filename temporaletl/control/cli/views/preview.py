"""`etl preview`: output of the first rows."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from temporaletl.control.cli.output import (
    add_row,
    count,
    cut_off,
    make_table,
    note,
    out,
    print_json,
    print_table,
    show_time,
    waiting,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations.preview import (
    PREVIEW_WITHIN,
    StreamPreview,
    as_document,
    preview,
)
from temporaletl.messages import QueuerInput
from temporaletl.names import label
from temporaletl.rows import Row
from temporaletl.terminal import fit_to_print

#: Characters of a cell on a terminal, and elsewhere.
_WIDEST_CELLS = {True: 28, False: 100}
_SHOWN_REJECTS = 10


def print_preview(
    request: QueuerInput, *, limit: int, within: timedelta = PREVIEW_WITHIN, as_json: bool
) -> None:
    """Print the first rows; raises as `temporaletl.control.operations.preview.preview`."""

    def notice(trouble: str) -> None:
        note(f"waiting: {trouble}", style="yellow")

    with waiting(f"asking {label(request.source, request.connection)} ..."):
        previews = call(preview, request, limit=limit, within=within, notice=notice)
    if as_json:
        print_json([as_document(row) for found in previews for row in found.rows])
    for found in previews:
        if not as_json:
            _print_rows(found.rows)
        _print_counts(label(request.source, request.connection), found)
    note("nothing was written", style="dim")


def _print_rows(rows: Sequence[Row]) -> None:
    for kind in dict.fromkeys(type(row) for row in rows):
        _print_table([row for row in rows if type(row) is kind], kind)


def _print_table(rows: Sequence[Row], kind: type[Row]) -> None:
    narrow = out().is_terminal
    columns: dict[str, list[str]] = {}
    for field in msgspec.structs.fields(kind):
        values = [getattr(row, field.name) for row in rows]
        if all(value is None or value in ({}, [], "") for value in values):
            continue
        texts = [fit_to_print(_cell(value)) for value in values]
        widest = _WIDEST_CELLS[narrow]
        columns[field.name] = [cut_off(text, widest) for text in texts]
    table = make_table(*columns, drop=[*reversed(columns)][:-1])
    for cells_of_row in zip(*columns.values(), strict=True):
        add_row(table, *cells_of_row)
    if hidden := print_table(table):
        note(f"no room for {', '.join(hidden)}: --json has all", style="dim")


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case datetime() if value.tzinfo is not None:
            return show_time(value)
        case dict() | list():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


def _print_counts(source: str, found: StreamPreview) -> None:
    """Print how many jobs and pages were read, and the rejects."""
    line = (
        f"{source} {found.stream}: {count(len(found.rows), 'row')} of "
        f"{count(found.records, 'record')} in {count(found.jobs, 'job')}"
    )
    if found.complete:
        line += "; that is all there is"
    note(line, style="dim")
    if found.stopped is not None:
        note(f"{found.stream}: {found.stopped}; --within-seconds allows more", style="yellow")
    for reject in found.rejects[:_SHOWN_REJECTS]:
        note(f"would be rejected: {reject.key or 'a record'}: {reject.reason}", style="yellow")
    if len(found.rejects) > _SHOWN_REJECTS:
        note(f"and {len(found.rejects) - _SHOWN_REJECTS:,} more rejects", style="yellow")
