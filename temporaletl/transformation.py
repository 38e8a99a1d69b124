"""Interface of transform strategies: a record and its context in, rows out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rows import CompleteSet, Reject, Row, person_key, storable_text


@dataclass(frozen=True, slots=True)
class TransformContext[Q: Query]:
    """Context of a transform: the job, its query and the known people.

    `query` is of the class that the source registered: the one of the job that extracted the
    record, also where a reject is reprocessed.

        def clerk_of(order: dict[str, str], context: TransformContext[ShopQuery]) -> str | None:
            return context.employee(order.get("clerk"))
    """

    job: ETLInput
    query: Q
    #: The platform's employee ids by `person_key` of the source's own ids of people.
    identities: Mapping[str, str] = field(default_factory=dict)

    def employee(self, person: str | None) -> str | None:
        """Resolve a person by the source's id or an e-mail address.

        One who is unknown keeps the source's id.
        """
        if person is None:
            return None
        key = person_key(person)
        # As a person is stored: whose id holds a NUL is known by another.
        found = self.identities.get(key) or self.identities.get(storable_text(key))
        return found or person


class TransformMethod[Q: Query](Protocol):
    """Transforms one record into rows; an exception rejects that record, whole and alone.

    Takes the record as extracted, or as a reject keeps it: the JSON of its payload, decoded.
    """

    def __call__(
        self, record: Any, context: TransformContext[Q], /
    ) -> Iterable[Row | Reject | CompleteSet]: ...
