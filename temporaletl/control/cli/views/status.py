"""`etl status`: output of runs and jobs, for a person or a program."""

from datetime import UTC, datetime

from rich.text import Text

from temporaletl.control.cli.output import (
    add_row,
    make_table,
    note,
    print_fields,
    print_json,
    print_table,
    say,
    show_span,
    show_time,
    show_window,
    state_text,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations.details import Details, Trouble, run_details
from temporaletl.control.operations.history import RunFilter, recent_runs
from temporaletl.control.operations.reports import RunReport
from temporaletl.messages import RowCounts
from temporaletl.names import label
from temporaletl.warehouse.reports import JobReport
from temporaletl.warehouse.retention import StreamSummary


def print_recent(
    limit: int, *, source: str | None, connection: str | None, state: str | None, as_json: bool
) -> None:
    """List the latest runs, those that go on first; those of a source, connection or state."""
    chosen = RunFilter(source=source, connection=connection, state=state)
    found = call(recent_runs, limit=limit, chosen=chosen)
    for remark in found.remarks:
        note(remark, "yellow")
    if as_json:
        print_json([report.model_dump(mode="json") for report in found.runs])
        return
    reports = found.runs
    if not reports:
        if chosen != RunFilter():
            say("No such runs.")
        elif not found.remarks:
            say("No runs yet: `etl run SOURCE` starts one.")
        return
    table = make_table(
        *("started", "source", "mode", "run", "state", "jobs", "rows", "took"),
        right=("took",),
        # The id says the source, the mode and when it was.
        drop=("mode", "source", "started"),
        below=("rows", "jobs", "took"),
    )
    for report in reports:
        add_row(table, show_time(report.started_at), _what(report), report.mode, *_cells(report))
    print_table(table)
    for report in reports:
        if report.error:
            say(f"{report.batch_id or report.workflow_id}: {report.error}", style="red")


def _what(report: RunReport | JobReport) -> str:
    return label(report.source, report.connection) if report.source else ""


def _cells(report: RunReport) -> tuple[object, ...]:
    return (
        report.batch_id or report.workflow_id,
        state_text(report.state),
        _jobs(report),
        _rows(report.rows, report.deleted),
        _took(report.started_at, report.ended_at),
    )


def print_one(name: str, *, as_json: bool) -> None:
    """Show all there is to know of a run or a job."""
    found = call(run_details, name)
    if as_json:
        print_json(found.model_dump(mode="json"))
    elif found.run is not None:
        _print_run(found.run, found)
    elif found.job is not None:
        _print_job(found.job, found)
    for remark in found.remarks:
        note(remark, "yellow")


def _jobs(report: RunReport) -> str:
    if report.jobs is None:
        return "-"
    jobs = report.jobs
    others = {
        "running": jobs.running,
        "paused": jobs.paused,
        "failed": jobs.failed,
        "skipped": jobs.skipped,
        "cancelled": jobs.cancelled,
    }
    shown = [f"{number:,} {state}" for state, number in others.items() if number]
    return ", ".join([f"{jobs.completed:,}/{jobs.planned:,}", *shown])


def _rows(rows: RowCounts | None, deleted: int | None) -> str:
    if rows is None:
        return "-"
    numbers = {**rows.model_dump(), "deleted": deleted}
    shown = [f"{number:,} {outcome}" for outcome, number in numbers.items() if number]
    return ", ".join(shown) or "none"


def _took(started: datetime, ended: datetime | None) -> str:
    return show_span(((ended or datetime.now(UTC)) - started).total_seconds())


def _print_run(run: RunReport, found: Details) -> None:
    say(Text.assemble(f"{_what(run)} {run.mode} ", state_text(run.state)))
    windows = run.windows or {}
    spans = {show_window(window) for window in windows.values()}
    shown = (
        next(iter(spans), None)
        if len(spans) <= 1
        else "\n".join(f"{stream}: {show_window(w)}" for stream, w in windows.items())
    )
    print_fields(
        [
            ("batch", run.batch_id),
            ("workflow", run.workflow_id),
            ("run id", run.run_id),
            ("retries", run.retries),
            ("retried by", ", ".join(run.retried_by)),
            ("engine", run.engine),
            ("started", f"{show_time(run.started_at)} ({_ago(run.started_at)})"),
            ("ended", run.ended_at),
            ("took" if run.ended_at else "so far", _took(run.started_at, run.ended_at)),
            ("window", shown),
            ("jobs", _all_jobs(run)),
            ("rows", _rows(run.rows, run.deleted) if run.rows else None),
            ("records", run.records),
            ("pages", _summarised(run.pages_removed_at)),
            ("single jobs", _summarised(run.jobs_removed_at)),
            ("error", Text(run.error, style="bold red") if run.error else None),
        ]
    )
    _print_troubles(found.troubles)
    _print_streams(found.streams)
    named = [job for job in found.jobs if job.state != "planned"]
    if named:
        table = make_table(
            *("job", "state", "pages", "rows", "error"), right=("pages",), below=("error", "rows")
        )
        for job in named:
            add_row(
                table,
                job.job_id,
                state_text(job.state),
                job.pages,
                _rows(job.rows, job.deleted),
                job.error or "",
            )
        print_table(table)
        unnamed = _unfinished(run) - len(named)
        if unnamed > 0:
            say(f"and {unnamed:,} more", style="dim")


def _summarised(removed_at: datetime | None) -> str | None:
    return None if removed_at is None else f"summarised on {show_time(removed_at)}"


def _print_streams(streams: tuple[StreamSummary, ...]) -> None:
    """What single jobs came to that are removed."""
    if not streams:
        return
    table = make_table(
        *("stream", "jobs", "pages", "records", "rows"), right=("pages", "records"), below=("rows",)
    )
    for one in streams:
        rows = RowCounts(**{name: getattr(one, name) for name in RowCounts.model_fields})
        jobs = f"{one.completed:,}/{one.jobs:,}"
        add_row(table, one.stream, jobs, one.pages, one.records, _rows(rows, one.deleted))
    print_table(table)


def _unfinished(run: RunReport) -> int:
    jobs = run.jobs
    return 0 if jobs is None else jobs.planned - jobs.completed - jobs.waiting


def _all_jobs(run: RunReport) -> str | None:
    if run.jobs is None:
        return "not planned yet" if run.ended_at is None else None
    numbers = run.jobs.model_dump()
    planned = numbers.pop("planned")
    shown = ", ".join(f"{number:,} {state}" for state, number in numbers.items() if number)
    return f"{planned:,} planned" + (f": {shown}" if shown else "")


def _print_job(job: JobReport, found: Details) -> None:
    say(Text.assemble(f"{_what(job)} {job.stream} job ".lstrip(), state_text(job.state)))
    params = ", ".join(f"{key}={value}" for key, value in (job.params or {}).items())
    print_fields(
        [
            ("job", job.job_id),
            ("batch", f"{job.batch_id}, number {job.seq}" if job.batch_id else None),
            ("workflow", job.workflow_id),
            ("run id", job.run_id),
            ("window", show_window(job.window) if job.window else None),
            ("parameters", params),
            ("started", job.started_at),
            ("last sign" if job.ended_at is None else "ended", job.ended_at or job.touched_at),
            ("pages", job.pages),
            ("records", job.records),
            ("rows", _rows(job.rows, job.deleted)),
            ("cursor", None if job.cursor is None else str(job.cursor)),
            ("note", job.note),
            ("error", Text(job.error, style="bold red") if job.error else None),
        ]
    )
    _print_troubles(found.troubles)


def _print_troubles(troubles: tuple[Trouble, ...]) -> None:
    for trouble in troubles:
        line = f"waiting: {trouble.error}"
        if trouble.activity is not None:
            line += f" ({trouble.activity}, attempt {trouble.attempt}"
            line += f" at {show_time(trouble.next_attempt)})" if trouble.next_attempt else ")"
        say(line, style="yellow")


def _ago(timestamp: datetime) -> str:
    return f"{show_span((datetime.now(UTC) - timestamp).total_seconds())} ago"
