"""Fault sequences: random faults while data changes, and no row lost or duplicated at the end."""

import contextlib
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporaletl.errors import ETLError
from temporaletl.messages import Mode
from temporaletl.testing.contents import read_content
from temporaletl.testing.fakes.faults import ENDLESS, Faults
from temporaletl.testing.harness import Harness
from temporaletl.testing.source_fixture import FakeSourceFixture, MissingCapabilityError
from temporaletl.testing.tables import assert_same
from temporaletl.warehouse.connection import Warehouse

_RATES = ("0.05", "0.2", "0.5", "1", "1:1", "1:3", "each")
#: Rates of faults that take seconds each.
_COSTLY_RATES = ("1:1", "0.2:1")
_COSTLY = frozenset({"hang", "slow", "429-date", *ENDLESS})
_STEP = timedelta(days=1)
#: In minutes: an honest wait of this suite is over before.
_LONGEST_WAIT = "0.005"
_DELETIONS = 2


@dataclass
class Sequence:
    """The log of a fault sequence, for finding the cause of a difference."""

    seed: int
    steps: list[str] = field(default_factory=list)
    failed: int = 0


def run_fault_sequence(harness: Harness, *, seed: int, faults: int) -> Sequence:
    """Change the data and run the source under a fault, so many times; compare with a fresh load.

    The same seed does the same: faults, rates, modes, interruptions and changes are drawn from it.

    Raises:
        AssertionError: rows differ; its notes hold the log.
        MissingCapabilityError: the fixture changes nothing, or injects no faults.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    harness.patch.setenv("ETL_LONGEST_WAIT_MINUTES", _LONGEST_WAIT)
    for name, value in harness.fixture.scans.items():
        harness.patch.setenv(name, value)
    done = Sequence(seed)
    kinds = sorted(set(harness.fixture.faults) - set(harness.fixture.unsettling))
    deletions = set(chance.sample(range(faults), min(_DELETIONS, faults)))
    warehouse = harness.warehouse()
    harness.load(warehouse)
    at = harness.fixture.now
    try:
        for number in range(faults):
            at += _STEP
            _change(harness, at - _STEP / 2, delete=number in deletions)
            kind = chance.choice(kinds)
            spec = f"{kind}:{chance.choice(_COSTLY_RATES if kind in _COSTLY else _RATES)}"
            mode: Mode = chance.choice(("incremental", "incremental", "incremental", "full"))
            pages_per_segment = chance.choice((None, None, 1, 2))
            _seed_faults(harness, chance.randrange(2**32))
            harness.fixture.inject_fault(spec)
            step = (
                f"{number + 1}. {mode} run under {spec}, stopped behind {pages_per_segment} pages: "
            )
            done.steps.append(step + "not ended")
            try:
                harness.load(
                    warehouse,
                    harness.request(mode),
                    scheduled=at,
                    pages_per_segment=pages_per_segment,
                    patient=False,
                )
                done.steps[-1] = step + "completed"
            except ETLError as error:
                done.failed += 1
                done.steps[-1] = f"{step}{type(error).__name__}: {error}"
            finally:
                harness.fixture.clear_faults()
        _compare(harness, warehouse, at + _STEP)
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}", *done.steps]))
        raise
    return done


def _change(harness: Harness, at: datetime, *, delete: bool) -> None:
    harness.fixture.change(at)
    if delete:
        with contextlib.suppress(MissingCapabilityError):
            harness.fixture.delete(at)


def _seed_faults(harness: Harness, seed: int) -> None:
    if isinstance(harness.fixture, FakeSourceFixture) and isinstance(
        harness.fixture.server.faults, Faults
    ):
        harness.fixture.server.faults.seed = seed


def _compare(harness: Harness, warehouse: Warehouse, scheduled: datetime) -> None:
    harness.load(warehouse, harness.request("incremental"), scheduled=scheduled)
    harness.load(warehouse, harness.request("full"), scheduled=scheduled)
    fresh = harness.warehouse()
    harness.load(fresh, scheduled=scheduled)
    found = read_content(warehouse, harness.source)
    assert_same(found, read_content(fresh, harness.source))
