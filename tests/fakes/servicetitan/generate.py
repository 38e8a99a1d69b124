"""Generation of tenants of any size from a seed; their records follow on first use."""

from datetime import UTC, datetime

from tests.fakes.servicetitan.bodies import STREAMS, Draw
from tests.fakes.servicetitan.tenant import Collection, Row, Tenant
from tests.fakes.servicetitan.timestamps import SECOND, ticks

_OLDEST = ticks(datetime(2019, 1, 1, tzinfo=UTC))
_NEWEST = ticks(datetime(2025, 6, 1, tzinfo=UTC))
_FIRST_IDS = {"customers": 1_000, "jobs": 20_000, "invoices": 900_000, "estimates": 3_000_000}


def generate(records: int, *, seed: int = 0, number: int = 1234567) -> Tenant:
    """Generate a tenant with so many records of each kind, created from 2019 to 2025.

    Most were changed after they were created, some are inactive.
    """
    return Tenant(
        (Collection(stream, _rows(stream, records, seed), seed) for stream in STREAMS),
        number=number,
    )


def _rows(stream: str, records: int, seed: int) -> list[Row]:
    step = (_NEWEST - _OLDEST) // (records + 1)
    rows = []
    for number in range(records):
        draw = Draw(seed, stream, "row", number)
        created = _OLDEST + number * step + draw.below(SECOND)
        lasting = draw.below(_NEWEST - created) if draw.below(4) else 0
        rows.append(
            Row(
                _FIRST_IDS[stream] + number,
                created,
                created + lasting,
                active=draw.below(30) > 0,
                number=number,
            )
        )
    return rows
