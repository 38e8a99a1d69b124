"""Random faults in sequence over data that change: nothing is lost, nothing doubled, at the end."""

import contextlib
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporaletl.errors import ETLError
from temporaletl.messages import Mode
from temporaletl.testing.bench import Bench
from temporaletl.testing.contents import read_content
from temporaletl.testing.fakes.faults import ENDLESS, Faults
from temporaletl.testing.rig import FakeRig, MissingMeansError
from temporaletl.testing.tables import assert_same
from temporaletl.warehouse.connection import Warehouse

_RATES = ("0.05", "0.2", "0.5", "1", "1:1", "1:3", "each")
#: Each of these costs the source's patience.
_COSTLY_RATES = ("1:1", "0.2:1")
_COSTLY = frozenset({"hang", "slow", "429-date", *ENDLESS})
_STEP = timedelta(days=1)
#: In minutes: an honest wait of this suite is over before.
_LONGEST_WAIT = "0.005"
_DELETIONS = 2


@dataclass
class Sequence:
    """What was done, for whoever looks for the cause of a difference."""

    seed: int
    steps: list[str] = field(default_factory=list)
    failed: int = 0


def run_fault_sequence(bench: Bench, *, seed: int, faults: int) -> Sequence:
    """Change the data and run the source under a fault, so many times; compare with a fresh load.

    The same seed does the same: faults, rates, modes, interruptions and changes are drawn from it.

    Raises:
        AssertionError: rows differ; its notes tell what was done.
        MissingMeansError: the rig changes nothing, or has no faults.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    bench.patch.setenv("ETL_LONGEST_WAIT_MINUTES", _LONGEST_WAIT)
    for name, value in bench.rig.scans.items():
        bench.patch.setenv(name, value)
    done = Sequence(seed)
    kinds = sorted(set(bench.rig.faults) - set(bench.rig.unsettling))
    deletions = set(chance.sample(range(faults), min(_DELETIONS, faults)))
    warehouse = bench.warehouse()
    bench.load(warehouse)
    at = bench.rig.now
    try:
        for number in range(faults):
            at += _STEP
            _change(bench, at - _STEP / 2, delete=number in deletions)
            kind = chance.choice(kinds)
            spec = f"{kind}:{chance.choice(_COSTLY_RATES if kind in _COSTLY else _RATES)}"
            mode: Mode = chance.choice(("incremental", "incremental", "incremental", "full"))
            stop_behind = chance.choice((None, None, 1, 2))
            _seed_faults(bench, chance.randrange(2**32))
            bench.rig.strike(spec)
            step = f"{number + 1}. {mode} run under {spec}, stopped behind {stop_behind} pages: "
            done.steps.append(step + "not ended")
            try:
                bench.load(
                    warehouse,
                    bench.ask_for(mode),
                    nominal=at,
                    stop_behind=stop_behind,
                    patient=False,
                )
                done.steps[-1] = step + "completed"
            except ETLError as error:
                done.failed += 1
                done.steps[-1] = f"{step}{type(error).__name__}: {error}"
            finally:
                bench.rig.calm()
        _compare(bench, warehouse, at + _STEP)
    except BaseException as error:
        error.add_note("\n".join([f"seed {seed}", *done.steps]))
        raise
    return done


def _change(bench: Bench, at: datetime, *, delete: bool) -> None:
    bench.rig.change(at)
    if delete:
        with contextlib.suppress(MissingMeansError):
            bench.rig.delete(at)


def _seed_faults(bench: Bench, seed: int) -> None:
    if isinstance(bench.rig, FakeRig) and isinstance(bench.rig.server.faults, Faults):
        bench.rig.server.faults.seed = seed


def _compare(bench: Bench, warehouse: Warehouse, nominal: datetime) -> None:
    bench.load(warehouse, bench.ask_for("incremental"), nominal=nominal)
    bench.load(warehouse, bench.ask_for("full"), nominal=nominal)
    fresh = bench.warehouse()
    bench.load(fresh, nominal=nominal)
    found = read_content(warehouse, bench.source)
    assert_same(found, read_content(fresh, bench.source))
