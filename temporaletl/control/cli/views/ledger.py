"""`etl ledger`: output of the ledger's size, and of what its retention removes."""

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
from temporaletl.control.operations.ledger import LedgerReport, ledger_report, prune_ledger
from temporaletl.warehouse.retention import Kind, Removed

_MEGABYTE = 1_000_000


def print_ledger(*, as_json: bool) -> None:
    """Print the tables' sizes, and what is due to be summarised."""
    begin_here()
    report = call(ledger_report)
    if as_json:
        tables = [table.model_dump(mode="json") for table in report.tables]
        print_json({"tables": tables, **_due(report)})
        return
    table = make_table(
        "table", "rows, about", "MB", "of it indexes", right=("rows, about", "MB", "of it indexes")
    )
    for one in report.tables:
        add_row(
            table, one.table, f"{one.rows:,}", _megabytes(one.bytes), _megabytes(one.index_bytes)
        )
    print_table(table)
    _say_due(report)


def prune(*, dry_run: bool, as_json: bool) -> None:
    """Summarise and remove what is due, or only say what that is."""
    begin_here()
    if dry_run:
        report = call(ledger_report)
        if as_json:
            print_json(_due(report))
        else:
            _say_due(report)
        return
    removed = call(prune_ledger, local_author())
    if as_json:
        print_json(_document(removed))
    elif removed == Removed():
        say("nothing is due: every page and job is needed, or not old enough")
    else:
        say(f"summarised and removed: {_words(removed)}")


def _say_due(report: LedgerReport) -> None:
    keeps: dict[Kind, int] = {
        "pages": report.settings.pages_keep_days,
        "jobs": report.settings.jobs_keep_days,
    }
    for kind, days in keeps.items():
        if not days:
            note(f"{kind} are kept for ever", style="dim")
            continue
        due = report.due[kind]
        found = _words(due) if due.batches else "none"
        say(f"{kind} of runs that ended more than {count(days, 'day')} ago, due: {found}")


def _due(report: LedgerReport) -> dict[str, object]:
    return {
        "keep_days": report.settings.model_dump(),
        "due": {kind: _document(due) for kind, due in report.due.items()},
    }


def _document(removed: Removed) -> dict[str, int]:
    return {"runs": removed.batches, "pages": removed.pages, "jobs": removed.jobs}


def _words(removed: Removed) -> str:
    rows = [count(removed.pages, "page")]
    if removed.jobs:
        rows.append(count(removed.jobs, "job"))
    return f"{' and '.join(rows)} of {count(removed.batches, 'run')}"


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:,.1f}"
