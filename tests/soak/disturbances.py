"""Disturbances of a running platform, each undone at the end of its block."""

import contextlib
import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from time import monotonic

from temporaletl.embedded.processes import StackError
from tests.acceptance.platform import Platform, shifted_clock
from tests.integration.tcp_relay import TcpRelay
from tests.soak.plan import Disturbance
from tests.soak.runs import Runs

#: The machine may be busy.
_STARTS_WITHIN = timedelta(minutes=5)
_BETWEEN_TRIES = timedelta(seconds=0.5)
#: What a full disk does to each page that is stored, and the end of that.
_FILL = """
    CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'could not extend file: No space left on device' USING ERRCODE = '53100'; END
    $$;
    CREATE TRIGGER no_room BEFORE INSERT ON etl_pages FOR EACH ROW EXECUTE FUNCTION no_room()
"""
_CLEAR = "DROP FUNCTION no_room() CASCADE"

type Log = Callable[[str], None]


class Disturber:
    """Disturbs a platform whose services reach the servers through these relays."""

    def __init__(
        self, platform: Platform, relays: Mapping[str, TcpRelay], runs: Runs, log: Log
    ) -> None:
        self._platform = platform
        self._relays = relays
        self._runs = runs
        self._log = log

    @contextlib.contextmanager
    def disturbed(self, disturbance: Disturbance) -> Iterator[bool]:
        """Disturb until the end of the block; services may then still be starting.

        False: there was nothing to disturb.
        """
        target = disturbance.target
        match disturbance.kind:
            case "kill" | "stop":
                yield self._end(target, killed=disturbance.kind == "kill")
                self._start(target)
            case "freeze":
                with self._frozen(target) as frozen:
                    yield frozen
            case "cut":
                self._relays[target].cut()
                yield True
            case "swallow":
                self._relays[target].freeze(admitting=False)
                yield True
                self._relays[target].cut()
            case "fill":
                self._platform.execute(_FILL)
                yield True
                self._platform.execute(_CLEAR)
            case "write-protect":
                self._set_read_only("on")
                yield True
                self._set_read_only("off")
            case "clock":
                with self._shifted(target, disturbance.detail):
                    yield True
            case "pause":
                yield self._runs.steer("pause", target) is not None
                self._runs.steer("resume", target)
            case _:
                yield self._runs.steer("cancel", target) is not None

    def restore(self) -> list[str]:
        """Start what has died, and wait until every service polls; which ones had died."""
        died = []
        for name, child in self._platform.services.items():
            if not child.running:
                died.append(child.died())
                self._log(f"{name} had ended with {child.exit_status}, and is started again")
                child.end()
                child.start()
        for name in self._platform.services:
            self._platform.await_service(name, within=_STARTS_WITHIN)
        return died

    @contextlib.contextmanager
    def _frozen(self, name: str) -> Iterator[bool]:
        if not self._platform.child(name).running:
            yield False
            return
        with self._platform.frozen(name):
            yield True

    def _set_read_only(self, value: str) -> None:
        """As a managed PostgreSQL does whose disk is nearly full; holds for open sessions too."""
        self._platform.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        self._platform.execute("SELECT pg_reload_conf()")

    @contextlib.contextmanager
    def _shifted(self, name: str, shift: str) -> Iterator[None]:
        clock = shifted_clock(shift)
        assert clock is not None, "no libfaketime"
        self._platform.services[name].end()
        wrong = dataclasses.replace(
            self._platform, environment={**self._platform.environment, **clock}
        )
        with wrong.another(name):
            yield
        self._platform.start_service(name)

    def _end(self, name: str, *, killed: bool) -> bool:
        """End a process; whether it ran."""
        child = self._platform.child(name)
        ran = child.running
        if killed and ran:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
        child.end()
        return ran

    def _start(self, name: str) -> None:
        deadline = monotonic() + _STARTS_WITHIN.total_seconds()
        while True:
            try:
                match name:
                    case "postgresql":
                        self._platform.postgres.start(self._platform.stop)
                    case "temporal":
                        self._platform.temporal.start(lambda _line: None)
                        self._platform.temporal.wait(self._platform.stop)
                    case _:
                        self._platform.start_service(name)
            except StackError as error:
                # Sessions of a killed PostgreSQL end by themselves, and until then no other starts.
                if monotonic() > deadline:
                    raise
                self._log(f"{name} did not start: {str(error).splitlines()[0]}")
                self._end(name, killed=False)
                self._platform.stop.wait(_BETWEEN_TRIES)
            else:
                return
