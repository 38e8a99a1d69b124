"""Runs of a soak: started and steered by commands, looked at in the warehouse."""

import json
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import psycopg

from temporaletl.embedded.processes import Stop
from temporaletl.messages import Mode
from tests.acceptance.stored_rows import Query

_BETWEEN_LOOKS = timedelta(seconds=0.3)
_BETWEEN_TRIES = timedelta(seconds=5)
_COMMAND_SECONDS = 60

#: Runs an `etl` command to its end.
type Command = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Ended:
    source: str
    workflow_id: str
    state: str
    error: str | None


class Runs:
    def __init__(self, etl: Command, query: Query, stop: Stop, log: Callable[[str], None]) -> None:
        self._etl = etl
        self._query = query
        self._stop = stop
        self._log = log

    def start(self, modes: Mapping[str, Mode]) -> dict[str, str | None]:
        """Start runs at once, by source; None where the command fails, which is logged."""

        def started(source: str) -> str | None:
            done = self._command("run", source, "--mode", modes[source], "--json")
            return None if done is None else str(json.loads(done)["workflow_id"])

        with ThreadPoolExecutor(max_workers=max(1, len(modes))) as threads:
            return dict(zip(modes, threads.map(started, modes), strict=True))

    def steer(self, how: str, source: str) -> str | None:
        """Pause, resume or cancel the run of a source; None where none goes on, or it refuses."""
        run = next((run for owner, run in self.going() if owner == source), None)
        return None if run is None or self._command(how, run) is None else run

    def going(self) -> list[tuple[str, str]]:
        """The source and workflow id of each run that has not ended; none while nobody can say."""
        try:
            found = self._query(
                "SELECT source, workflow_id FROM workplace.etl_runs WHERE ended_at IS NULL"
            )
        except psycopg.OperationalError:
            return []
        return [(source, run) for source, run in found]

    def await_ends(self, within_seconds: float) -> list[str]:
        """Wait until every run has ended, resuming what is paused; which ones had not in time."""
        deadline = monotonic() + within_seconds
        while going := self.going():
            if monotonic() > deadline:
                return [f"{run} of {source} has not ended" for source, run in going]
            for (run,) in self._query(
                "SELECT workflow_id FROM workplace.etl_batches "
                "WHERE ended_at IS NULL AND state IN ('pausing', 'paused')"
            ):
                if self._command("resume", run) is None:  # it is about to end, or cannot be asked
                    self._stop.wait(_BETWEEN_TRIES)
            self._stop.wait(_BETWEEN_LOOKS)
        return []

    def ends(self, runs: Collection[str] = ()) -> Iterable[Ended]:
        """How runs ended: these, or all."""
        chosen = ", ".join(f"'{run}'" for run in runs)
        for row in self._query(
            "SELECT r.source, r.workflow_id, coalesce(b.state, 'failed'), coalesce(r.error, "
            "b.summary->>'error', b.summary->'failures'->0->>'error') "
            "FROM workplace.etl_runs AS r LEFT JOIN workplace.etl_batches AS b USING (workflow_id) "
            + (f"WHERE r.workflow_id IN ({chosen}) " if runs else "")
            + "ORDER BY r.requested_at"
        ):
            yield Ended(*row)

    def _command(self, *words: str) -> str | None:
        try:
            done = self._etl(*words, timeout_seconds=_COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            self._log(f"etl {' '.join(words)}: no end within {_COMMAND_SECONDS} s")
            return None
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or [""]
            self._log(f"etl {' '.join(words)}: {done.returncode}: {said[-1]}")
            return None
        return done.stdout
