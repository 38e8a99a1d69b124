"""What happens in each round of a soak, drawn from the seed alone."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from temporaletl.messages import Mode
from temporaletl.testing.fakes.faults import ENDLESS

LINKS = ("postgresql's network", "temporal's network")
#: Kinds of disturbances, each with what it can be done to; "source" stands for any of them.
KINDS: Mapping[str, tuple[str, ...]] = {
    "kill": ("worker", "queuer", "postgresql", "temporal"),
    "stop": ("worker", "queuer", "postgresql", "temporal"),  # as an operator does
    "freeze": ("worker", "steady", "queuer", "postgresql", "temporal"),
    "cut": LINKS,
    "swallow": LINKS,  # connections stay open and pass nothing on
    "fill": ("postgresql",),  # its disk
    "write-protect": ("postgresql",),
    "clock": ("worker", "queuer"),
    "pause": ("source",),
    "cancel": ("source",),
}
_SHIFTS = ("+1d", "-1d", "+10m", "-10m")
_RATES = ("0.05", "0.2", "0.5", "each")
#: Rates of faults that take seconds each.
_COSTLY_RATES = ("1:1", "0.2:1")
_COSTLY = frozenset({"hang", "slow", "429-date", *ENDLESS})
_MODES: tuple[Mode, ...] = ("incremental", "incremental", "full")
_CLOSING: tuple[Mode, ...] = ("incremental", "incremental", "incremental", "full")
_LATENCIES_MS = (0, 20, 100)
#: In seconds: shorter and longer than heartbeats and network timeouts.
_HOLDS = (1, 2, 4, 8, 12)


@dataclass(frozen=True)
class Disturbance:
    kind: str
    target: str
    detail: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.kind, self.target, self.detail) if part)


@dataclass(frozen=True)
class Step:
    """What comes together: disturbances, faults of sources' answers, and changes of the data."""

    disturbances: tuple[Disturbance, ...]
    #: By source, as `Faults.add` reads them.
    faults: Mapping[str, str]
    #: The seed of the requests that suffer.
    fault_seed: int
    changes: tuple[str, ...]
    #: By source: of the run that is started where none goes on.
    modes: Mapping[str, Mode]
    seconds: float

    def __str__(self) -> str:
        done = [str(each) for each in self.disturbances]
        done += [f"{source} answers {spec}" for source, spec in self.faults.items()]
        done += [f"{source} changes" for source in self.changes]
        return f"{', '.join(done) or 'nothing'}; {self.seconds:g} s"


@dataclass(frozen=True)
class Round:
    number: int
    steps: tuple[Step, ...]
    #: Sources that lose a record in this round, and those that cannot serve one during it.
    deletions: tuple[str, ...]
    unservable: tuple[str, ...]
    latency_ms: int
    #: By source: of the undisturbed run at the end.
    closing: Mapping[str, Mode]


def draw_round(
    seed: int,
    number: int,
    faults: Mapping[str, Collection[str]],
    *,
    steps: int,
    kinds: Collection[str] = tuple(KINDS),
    longest_hold: float = _HOLDS[-1],
) -> Round:
    """Draw a round over these sources, each with the kinds of faults that its answers can have.

    The same arguments give the same round, whatever the rounds before it.
    """
    chance = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret
    sources = sorted(faults)

    def some(share: float) -> tuple[str, ...]:
        return tuple(source for source in sources if chance.random() < share)

    def disturbances() -> tuple[Disturbance, ...]:
        found: dict[str, Disturbance] = {}
        for _ in range(chance.choice((1, 1, 2))):
            kind = chance.choice(sorted(kinds))
            target = chance.choice(KINDS[kind])
            if target == "source":
                target = chance.choice(sources)
            detail = chance.choice(_SHIFTS) if kind == "clock" else ""
            # One thing suffers one disturbance at a time.
            found.setdefault(target, Disturbance(kind, target, detail))
        return tuple(found.values())

    def fault_of(source: str) -> str:
        kind = chance.choice(sorted(faults[source]))
        return f"{kind}:{chance.choice(_COSTLY_RATES if kind in _COSTLY else _RATES)}"

    def step() -> Step:
        return Step(
            disturbances=disturbances(),
            faults={source: fault_of(source) for source in some(0.5)},
            fault_seed=chance.randrange(2**32),
            changes=some(0.5),
            modes={source: chance.choice(_MODES) for source in sources},
            seconds=chance.choice([hold for hold in _HOLDS if hold <= longest_hold]),
        )

    return Round(
        number=number,
        steps=tuple(step() for _ in range(steps)),
        deletions=some(0.3),
        unservable=some(0.2),
        latency_ms=chance.choice(_LATENCIES_MS),
        closing={source: chance.choice(_CLOSING) for source in sources},
    )
