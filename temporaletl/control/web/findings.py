"""Findings: what is wrong with the platform now, in the order in which it matters."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from temporaletl.control.operations.freshness import FreshnessReport
from temporaletl.control.operations.health import Health
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.operations.status import Runs
from temporaletl.control.web.filters import one_line, show_count
from temporaletl.names import label

type Weight = Literal["bad", "warn"]

_LATE = ("late", "never loaded")
_BAD_ENDS = ("failed", "terminated", "timed out")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or that an operator should know of; and where more is said of it."""

    weight: Weight
    what: str
    detail: str | None = None
    path: str | None = None
    since: datetime | None = None


def find(
    health: Health | None,
    freshness: FreshnessReport | None,
    runs: Runs,
    since: dict[str, datetime | None],
    *,
    is_declared: Callable[[str, str], bool],
) -> list[Finding]:
    """What is wrong: parts that do not answer, data that is late, and runs that failed or are lost.

    `since` has, by part, when it was first noticed. How the last run of a connection ended that is
    declared no longer is wrong no more.
    """
    said = {part.detail for part in health.parts} if health else set()
    ends = dict(_of_last_ends(runs.runs, is_declared))
    found = [
        *_of_parts(health, since),
        *_of_lost_runs(runs.runs),
        *ends.values(),
        # What its last run says is said.
        *(one for whose, one in _of_streams(freshness) if whose is None or whose not in ends),
        *(Finding("warn", remark) for remark in runs.remarks if remark not in said),
    ]
    return sorted(found, key=lambda one: one.weight != "bad")


def run_path(run: RunReport) -> str:
    """The page of a run."""
    return path_of_run(run.workflow_id)


def path_of_run(name: str) -> str:
    """The page of the run or job of that workflow, batch or job id, which may have slashes."""
    return f"/runs/{quote(name, safe='/@:')}"


def connection_path(source: str, connection: str) -> str:
    """The page of a connection."""
    return f"/connections/{quote(source, safe='')}/{quote(connection, safe='')}"


def cause_of(run: RunReport) -> str | None:
    """Why a run ended as it did, or does not go on, in one line; None where nothing is known."""
    if run.error:
        return one_line(run.error)
    if run.failures:
        first, others = run.failures[0], len(run.failures) - 1
        more = f" (and {others:,} more)" if others else ""
        return one_line(f"{first.job}: {first.error}") + more
    return None


def standing_of(run: RunReport) -> str | None:
    """What a run's state means for what is loaded and what comes next; None where it is plain."""
    jobs = run.jobs
    running = 0 if jobs is None else jobs.running
    match run.state:
        case "pausing" | "cancelling":
            return f"{show_count(running, 'job')} of it still running, each to its next page."
        case "paused":
            return "No job of it runs. It goes on where it stopped once it is resumed."
        case "lost":
            return (
                "What is loaded stays. A cancel closes its books; the next run covers its window."
            )
        case "cancelled" if jobs is not None:
            return f"What was loaded stays; {show_count(jobs.cancelled, 'job')} did not complete."
        case "failed" if jobs is not None and jobs.completed:
            others = "a job" if jobs.completed == 1 else f"{jobs.completed:,} jobs"
            return f"Failed in part: what {others} loaded stays."
    return None


def _of_parts(health: Health | None, since: dict[str, datetime | None]) -> Iterator[Finding]:
    for part in health.parts if health else ():
        if part.verdict in ("down", "degraded"):
            weight: Weight = "bad" if part.verdict == "down" else "warn"
            at = part.since or since.get(part.name)
            yield Finding(weight, f"{part.name} is {part.verdict}", one_line(part.detail), None, at)


def _of_lost_runs(runs: Sequence[RunReport]) -> Iterator[Finding]:
    for run in runs:
        if run.ended_at is None and run.state == "lost":
            what = f"run of {label(run.source, run.connection)} is lost"
            yield Finding("bad", what, cause_of(run) or "nobody drives it", run_path(run))


def _of_last_ends(
    runs: Sequence[RunReport], is_declared: Callable[[str, str], bool]
) -> Iterator[tuple[tuple[str, str], Finding]]:
    """Of each connection, the run that ended last; a replay says nothing of what is loaded."""
    seen: set[tuple[str, str]] = set()
    ended = [run for run in runs if run.ended_at is not None and run.mode != "replay"]
    for run in sorted(ended, key=lambda one: one.ended_at or one.started_at, reverse=True):
        key = run.source, run.connection
        if key in seen:
            continue
        seen.add(key)
        if run.state in _BAD_ENDS and is_declared(*key):
            what = f"last {run.mode} run of {label(*key)} {run.state}"
            detail = cause_of(run) or "no cause is known"
            yield key, Finding("bad", what, detail, run_path(run), run.ended_at)


def _of_streams(
    freshness: FreshnessReport | None,
) -> Iterator[tuple[tuple[str, str] | None, Finding]]:
    """Streams that are late, and those that failed; the latter with their connection."""
    for one in freshness.entries if freshness else ():
        what = f"{label(one.source, one.connection)} {one.stream}"
        path = connection_path(one.source, one.connection)
        if one.state in _LATE:
            detail = one_line(one.cause) or "loaded later than is allowed"
            verb = "was" if one.state == "never loaded" else "is"
            yield None, Finding("bad", f"{what} {verb} {one.state}", detail, path, one.due_at)
        elif one.state == "failed":
            detail = one_line(one.cause) or "its last load failed"
            yield (one.source, one.connection), Finding("bad", f"{what} failed", detail, path)
