"""Instruments that count and measure within one process, and their text for Prometheus.

Recording is always on, costs about a microsecond, and imports nothing: whoever serves or exports
the values reads them when it is asked. Instruments are declared once, in
`temporaletl.telemetry.metrics`.
"""

import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

#: Upper bounds in seconds, from a quick request to a long batch.
SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
LONG_SECONDS = (1.0, 10.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)

#: What Prometheus calls the text format that `exposition` writes.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Distribution:
    """Values of a histogram: how many are within each bound, all of them last, and their sum."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Instrument[Value]:
    """A metric of this process: its name as exposed, what it tells, and a value for each labelling.

    Safe to use from many threads.
    """

    name: str
    about: str
    labels: Labels = ()
    _values: dict[Labels, Value] = field(default_factory=dict, init=False, repr=False)
    _guard: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def _key(self, given: dict[str, str]) -> Labels:
        if len(given) != len(self.labels):
            raise TypeError(f"{self.name} has the labels {self.labels}, not {tuple(given)}")
        return tuple(given[label] for label in self.labels)


class Counter(Instrument[float]):
    """A number that only grows; its name ends in `_total`."""

    kind: Kind = "counter"

    def add(self, amount: float = 1, /, **labels: str) -> None:
        """Add to the number of a labelling; 0 makes it known before anything has happened."""
        key = self._key(labels)
        with self._guard:
            self._values[key] = self._values.get(key, 0) + amount

    def value(self, **labels: str) -> float:
        """What has been added so far."""
        return self._values.get(self._key(labels), 0)

    def samples(self) -> list[tuple[Labels, float]]:
        with self._guard:
            return list(self._values.items())


class Gauge(Instrument[float]):
    """A number that rises and falls."""

    kind: Kind = "gauge"

    def set(self, value: float, /, **labels: str) -> None:
        key = self._key(labels)
        with self._guard:
            self._values[key] = value

    def set_all(self, values: Iterable[tuple[Labels, float]]) -> None:
        """Have these values, by their labels in the declared order, and no others."""
        found = dict(values)
        with self._guard:
            self._values = found

    def samples(self) -> list[tuple[Labels, float]]:
        with self._guard:
            return list(self._values.items())


class Histogram(Instrument[Distribution]):
    """Durations in seconds, by how many are within each of `bounds`."""

    kind: Kind = "histogram"

    def __init__(
        self,
        name: str,
        about: str,
        labels: Labels = (),
        bounds: Sequence[float] = SECONDS,
    ) -> None:
        super().__init__(name, about, labels)
        self.bounds = tuple(bounds)

    def observe(self, seconds: float, /, **labels: str) -> None:
        key = self._key(labels)
        with self._guard:
            found = self._values.get(key)
            if found is None:
                found = self._values[key] = Distribution([0] * (len(self.bounds) + 1))
            found.counts[bisect_left(self.bounds, seconds)] += 1
            found.total += seconds

    @contextmanager
    def timed(self, **labels: str) -> Iterator[None]:
        """Observe how long the block takes, also where it raises."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - began, **labels)

    def count(self, **labels: str) -> int:
        """How many durations have been observed."""
        found = self._values.get(self._key(labels))
        return 0 if found is None else sum(found.counts)

    def samples(self) -> list[tuple[Labels, Distribution]]:
        with self._guard:
            return [
                (labels, Distribution(list(one.counts), one.total))
                for labels, one in self._values.items()
            ]


AnyInstrument = Counter | Gauge | Histogram


class Registry:
    """The instruments of a process, by name, and what brings their gauges up to date."""

    def __init__(self) -> None:
        self._instruments: dict[str, AnyInstrument] = {}
        self._readers: list[Callable[[], None]] = []

    def declare[One: AnyInstrument](self, instrument: One) -> One:
        """Add an instrument; of one name there is one.

        Raises:
            ValueError: there is one of that name.
        """
        if instrument.name in self._instruments:
            raise ValueError(f"{instrument.name} is declared twice")
        self._instruments[instrument.name] = instrument
        return instrument

    @contextmanager
    def read_by(self, reader: Callable[[], None]) -> Iterator[None]:
        """Inside the block, call `reader` before the values are read; it must be quick."""
        self._readers.append(reader)
        try:
            yield
        finally:
            self._readers.remove(reader)

    def __iter__(self) -> Iterator[AnyInstrument]:
        return iter(self._instruments.values())

    def collect(self) -> list[AnyInstrument]:
        """All instruments, their gauges up to date."""
        for reader in tuple(self._readers):
            reader()
        return list(self._instruments.values())

    def exposition(self) -> str:
        """All values in the text format of Prometheus; see `CONTENT_TYPE`."""
        return "".join(line for one in self.collect() for line in _lines(one))


def _lines(one: AnyInstrument) -> Iterator[str]:
    samples = one.samples()
    if not samples:
        return
    yield f"# HELP {one.name} {one.about}\n# TYPE {one.name} {one.kind}\n"
    if not isinstance(one, Histogram):
        for labels, value in one.samples():
            yield f"{one.name}{_labelled(one.labels, labels)} {_number(value)}\n"
        return
    for labels, found in one.samples():
        within = 0
        for bound, count in zip((*one.bounds, math.inf), found.counts, strict=True):
            within += count
            named = _labelled((*one.labels, "le"), (*labels, _number(bound)))
            yield f"{one.name}_bucket{named} {within}\n"
        named = _labelled(one.labels, labels)
        yield f"{one.name}_sum{named} {_number(found.total)}\n{one.name}_count{named} {within}\n"


def _labelled(names: Labels, values: Labels) -> str:
    if not names:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))  # noqa: PLR2004 - from there on, digits are made up
