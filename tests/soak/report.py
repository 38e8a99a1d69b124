"""What a soak found, for people and for programs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tests.soak.footprint import Footprint
from tests.soak.rounds import Outcome


def held(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing broke in any round, of which there was one at least."""
    return bool(outcomes) and not any(outcome.problems for outcome in outcomes)


def as_document(seed: int, sources: Sequence[str], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "seed": seed,
        "sources": list(sources),
        "held": held(outcomes),
        "rounds": [asdict(outcome) for outcome in outcomes],
    }


def as_text(seed: int, sources: Sequence[str], outcomes: Sequence[Outcome]) -> str:
    runs, disturbances, injected = Counter[str](), Counter[str](), Counter[str]()
    for outcome in outcomes:
        runs.update(outcome.runs)
        disturbances.update(outcome.disturbances)
        injected.update(outcome.injected)
    met = sum(outcome.met for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    lines = [
        f"seed {seed}: {len(outcomes)} rounds of {', '.join(sources)} in {seconds:,.0f} s",
        f"disturbances: {_counted(disturbances)}",
        f"answers with a fault: {_counted(injected)}",
        f"runs: {_counted(runs)}; {met} times one went on as it was disturbed",
    ]
    footprints = [outcome.footprint for outcome in outcomes if outcome.footprint is not None]
    if footprints:
        lines += _growth(footprints)
    broken = [outcome for outcome in outcomes if outcome.problems]
    for outcome in broken:
        lines.append(f"BROKEN in round {outcome.number} of seed {seed}:")
        lines += [f"  {problem}" for problem in outcome.problems]
    lines.append("all invariants held" if held(outcomes) else "not all invariants held")
    return "\n".join(lines)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common()) or "none"


def _growth(footprints: Sequence[Footprint]) -> list[str]:
    """What each process that is there at the end held after its first round and now."""
    lines = []
    for process in footprints[-1].processes:
        lived = [
            each
            for footprint in footprints
            for each in footprint.processes
            if each.pid == process.pid
        ]
        first, last = lived[0].held, lived[-1].held
        lines.append(
            f"  {process.name} over {len(lived)} rounds: "
            f"{first.memory_bytes / 1e6:.0f} to {last.memory_bytes / 1e6:.0f} MB, "
            f"{first.descriptors} to {last.descriptors} descriptors, "
            f"{first.threads} to {last.threads} threads"
        )
    tables = {
        side: {table.name: table for table in footprint.tables}
        for side, footprint in (("first", footprints[0]), ("last", footprints[-1]))
    }
    largest = sorted(tables["last"].values(), key=lambda table: -table.bytes)[:5]
    lines += [
        f"  {table.name}: {table.rows:,} rows, {table.dead:,} dead, {table.bytes / 1e6:.1f} MB"
        + (
            f" ({tables['first'][table.name].bytes / 1e6:.1f} MB after the first round)"
            if table.name in tables["first"]
            else ""
        )
        for table in largest
    ]
    sessions = [footprint.sessions for footprint in footprints]
    return [*lines, f"  sessions at rest: {sessions[0]} at first, {max(sessions)} at most"]
