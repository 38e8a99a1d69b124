"""Interface of transform strategies: a record and its context in, rows out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from temporaletl.errors import ConfigurationError
from temporaletl.field_rules import NO_RULES, FieldRules
from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rows import CompleteSet, Event, Reject, Row, person_key, storable_text


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
    #: What is left out of rows, redacted or hashed, once they are transformed.
    field_rules: FieldRules = NO_RULES

    def employee(self, *people: str | None) -> str | None:
        """Resolve a person by the first known of the source's ids and e-mail addresses.

        None for one who is unknown: the event names the person by its `person`.
        """
        known = self.identities
        if not known:
            return None
        for key in (person_key(person) for person in people if person):
            # As a person is stored: whose id holds a NUL is known by another.
            if found := known.get(key) or known.get(storable_text(key)):
                return found
        return None


class TransformMethod[Q: Query](Protocol):
    """Transforms one record into rows; an exception rejects that record, whole and alone.

    Takes the record as extracted, or as a reject keeps it: the JSON of its payload, decoded.
    """

    def __call__(
        self, record: Any, context: TransformContext[Q], /
    ) -> Iterable[Row | Reject | CompleteSet]: ...


def undeclared(source: str, row: object, declared: Sequence[type[Row]]) -> ConfigurationError:
    """The error of a transform that yields what its `transform_method` does not declare."""
    name = type(row).__name__
    if not isinstance(row, Row):
        return ConfigurationError(
            f"the transform of {source} yields {name}, which is no row: it yields Event, or a "
            f"subclass of Row that its transform_method declares"
        )
    classes = "".join(f"{known.__name__}, " for known in declared) + name
    classes += "," * (not declared)
    return ConfigurationError(
        f"the transform of {source} yields {name}, which its transform_method does not declare: "
        f"name all that it yields, @transform_method(…, rows=({classes}))"
    )


def is_wanted(job: ETLInput, row: Row) -> bool:
    """Whether a job loads a row: of the events of its records, a backfill those in its window."""
    timestamp = row.event_time_utc if isinstance(row, Event) else None
    # A time that cannot be compared is left to the packing, which rejects it.
    if job.mode != "backfill" or not isinstance(timestamp, datetime) or timestamp.tzinfo is None:
        return True
    return timestamp in job.window
