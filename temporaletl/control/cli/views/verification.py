"""`etl verify`: output of counts by month, and of differences."""

import contextlib

from rich.text import Text

from temporaletl.command import FAILED
from temporaletl.control.cli.output import (
    add_row,
    count,
    err,
    make_table,
    note,
    print_json,
    print_table,
    say,
)
from temporaletl.control.cli.session import begin_here, call
from temporaletl.control.operations.verification import Explained, Verification, verify_source
from temporaletl.messages import QueuerInput
from temporaletl.names import label

_WORDS = {
    "missing": "missing from the warehouse",
    "changed": "different in the warehouse",
    "surplus": "in the warehouse alone",
}


def print_verification(request: QueuerInput, *, as_json: bool) -> int:
    """Verify, print what was found, and return the exit status; raises as `verify_source`."""
    begin_here()
    waiting = (
        err().status(f"reading {label(request.source, request.connection)} ...")
        if err().is_terminal
        else contextlib.nullcontext()
    )
    with waiting as status:

        def notice(stream: str, rows: int) -> None:
            if status is not None:
                status.update(f"{stream}: {rows:,} rows compared")

        found = call(verify_source, request, notice=notice)
    if as_json:
        print_json(_document(found))
    else:
        _print(found)
    return 0 if found.holds else FAILED


def _print(found: Verification) -> None:
    table = make_table("stream", "table", "month", "source", "warehouse")
    for month in found.months:
        same = month.source == month.warehouse
        stored = Text(f"{month.warehouse:,}", style="" if same else "yellow")
        add_row(
            table, month.stream or "?", month.table, month.month or "?", f"{month.source:,}", stored
        )
    print_table(table)
    for (kind, reason), number in sorted(found.counts.items(), key=str):
        line = f"{count(number, 'row')} {_WORDS[kind]}"
        note(f"{line}: {reason}" if reason else line, style="dim" if reason else "bold red")
    for one in found.listed:
        if one.reason is None:
            say(_line(one))
    for text in found.notes:
        note(text, style="dim")
    say(
        "every row is as the source has it"
        if not found.counts
        else "every difference is explained"
        if found.holds
        else "there are differences"
    )


def _line(one: Explained) -> str:
    difference = one.difference
    key = "/".join(map(str, difference.key))
    columns = f" ({', '.join(difference.columns)})" if difference.columns else ""
    return f"{difference.kind}  {difference.table}  {key}{columns}"


def _document(found: Verification) -> dict[str, object]:
    return {
        "holds": found.holds,
        "months": [
            {
                "stream": month.stream,
                "table": month.table,
                "month": month.month or None,
                "source": month.source,
                "warehouse": month.warehouse,
            }
            for month in found.months
        ],
        "counts": [
            {"kind": kind, "reason": reason, "rows": number}
            for (kind, reason), number in sorted(found.counts.items(), key=str)
        ],
        "differences": [
            {
                "kind": one.difference.kind,
                "stream": one.difference.stream,
                "table": one.difference.table,
                "key": list(one.difference.key),
                "month": one.difference.month or None,
                "columns": list(one.difference.columns),
                "job_id": one.difference.job_id,
                "reason": one.reason,
            }
            for one in found.listed
        ],
        "notes": found.notes,
    }
