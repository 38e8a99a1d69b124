"""Fault injection of a fake: kinds of faults, by rate, the same requests for the same seed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import xxhash

from temporaletl.testing.fakes.exchange import Request

#: Faults that any HTTP service can show: the server itself plays them.
TRANSPORT: dict[str, str] = {
    "429": "too many requests, Retry-After in seconds",
    "429-date": "too many requests, Retry-After as an HTTP date",
    "502": "bad gateway, an HTML page",
    "503": "service unavailable, no Retry-After",
    "504": "gateway timeout, an HTML page",
    "reset": "connection reset in the middle of the body",
    "hang": "request accepted and never answered",
    "expired-token": "401 in the middle of a session (once, unless a limit is given)",
}
#: Faults of what an answer holds or demands: the server plays these for any service, too.
ANSWERS: dict[str, str] = {
    "error-200": "a success that holds an error, in the service's own words",
    "empty-object": "a success that holds {} and nothing else",
    "html": "a success that is a log-in page",
    "empty-body": "a success without a body",
    "cut": "a body that ends in the middle, without a length that shows it",
    "cut-gzip": "a compressed body that ends in the middle",
    "bom": "a byte-order mark before the body",
    "latin-1": "a body in the Latin-1 that its header declares, as far as that has its characters",
    "slow": "a body that comes byte by byte, not to its end",
    "429-huge": "too many requests, Retry-After in 31 years",
    "429-9999": "too many requests, Retry-After as a date in the year 9999",
}
#: A success that lacks the requested data; what is missing has not been deleted.
IN_PLACE = ("error-200", "empty-object", "html", "empty-body")
#: A success whose body comes otherwise than it should.
IN_BODY = ("reset", "cut", "cut-gzip", "bom", "latin-1", "slow")
#: A wait that nobody can wait for.
ENDLESS = ("429-huge", "429-9999")

_ONCE = frozenset({"expired-token"})


class FaultSpecError(ValueError):
    """A fault specification names no known kind, or has no usable rate."""


@dataclass(frozen=True, slots=True)
class Fault:
    """How often one kind happens; `limit` bounds the total.

    With `each`, every request suffers so many first, and only then by the rate.
    """

    kind: str
    rate: float
    limit: int | None = None
    each: int = 0


class Faults:
    """The faults of one server: decides which requests suffer one.

    Each decision hashes the seed, the kind, the request, and how often that same request was
    seen before. So it depends neither on the order in which concurrent requests arrive nor on
    timing, and a repeated request draws anew: a fault with a rate below 1 is transient.
    """

    def __init__(
        self,
        specs: Iterable[str | Fault] = (),
        *,
        known: Mapping[str, str] = TRANSPORT,
        seed: int = 0,
        retry_after: timedelta = timedelta(seconds=1),
        hang: timedelta = timedelta(seconds=120),
        drip: timedelta = timedelta(seconds=1),
    ) -> None:
        self.known = {**ANSWERS, **known}
        self.seed = seed
        self.retry_after = retry_after
        #: How long a hanging or slow answer holds a request at most.
        self.hang = hang
        #: The pause between two bytes of a slow answer.
        self.drip = drip
        #: Which requests may suffer at all; None: each of them.
        self.only: Callable[[Request], bool] | None = None
        self.injected: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._active: dict[str, Fault] = {}
        self._seen: Counter[tuple[str, int]] = Counter()
        for spec in specs:
            self.add(spec)

    def add(self, spec: str | Fault) -> None:
        """Switch a fault on, replacing an earlier one of its kind.

        Raises:
            FaultSpecError: no such kind, or not what `parse_fault` reads.
        """
        fault = spec if isinstance(spec, Fault) else parse_fault(spec)
        if fault.kind not in self.known:
            names = ", ".join(sorted(self.known))
            raise FaultSpecError(f"no fault is called {fault.kind!r}; there are: {names}")
        with self._lock:
            self._active[fault.kind] = fault

    def clear(self) -> None:
        """Switch every fault off, for all requests; what was injected stays counted."""
        with self._lock:
            self._active.clear()
            self.only = None

    def rate(self, kind: str) -> float:
        """Return the rate of a kind, 0 when it is off."""
        fault = self._active.get(kind)
        return fault.rate if fault else 0.0

    def draw(self, kind: str, request: Request) -> bool:
        """Decide whether this request suffers this fault; a yes is counted as injected."""
        if kind not in self._active:
            return False
        print_of_request = xxhash.xxh3_64_intdigest(
            f"{request.method} {request.target} ".encode() + request.body
        )
        with self._lock:
            fault = self._active.get(kind)
            if fault is None or (fault.limit is not None and self.injected[kind] >= fault.limit):
                return False
            if self.only is not None and not self.only(request):
                return False
            attempt = self._seen[kind, print_of_request]
            self._seen[kind, print_of_request] = attempt + 1
            drawn = xxhash.xxh3_64_intdigest(
                f"{self.seed}|{kind}|{print_of_request}|{attempt}".encode()
            )
            if attempt >= fault.each and drawn >= fault.rate * 2**64:
                return False
            self.injected[kind] += 1
            return True

    def first_of(self, kinds: Iterable[str], request: Request) -> str | None:
        """Return the first of the kinds that this request draws."""
        if not self._active:
            return None
        return next((kind for kind in kinds if self.draw(kind, request)), None)


def parse_fault(spec: str) -> Fault:
    """Read KIND:RATE or KIND:RATE:LIMIT; or KIND:each, which fails each request once.

    KIND:each:RATE also fails what repeats a request, at this rate.

    Raises:
        FaultSpecError: the text has another shape.
    """
    kind, *numbers = spec.split(":")
    each = numbers[:1] == ["each"]
    if each:
        numbers = numbers[1:] or ["0"]
    try:
        rate = float(numbers[0])
        limit = int(numbers[1]) if len(numbers) > 1 else None
    except (IndexError, ValueError):
        raise FaultSpecError(
            f"{spec!r} is not KIND:RATE, KIND:RATE:LIMIT or KIND:each[:RATE]"
        ) from None
    if not 0 <= rate <= 1 or numbers[2:] or (limit is not None and limit < 0):
        raise FaultSpecError(f"{spec!r}: the rate goes from 0 to 1, the limit is a count")
    if limit is None and kind in _ONCE:
        limit = 1
    return Fault(kind, rate, limit, each=int(each))
