"""Validation faults: what is wrong with a value, without Pydantic's own words around it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # commands that validate nothing begin without it
    from pydantic import ValidationError

#: Pydantic puts it before the message of each check that raises ValueError.
_PREFIX = "Value error, "
#: Nobody reads more parts of a location.
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: where it stands in the value, what is wrong, and Pydantic's type of it."""

    location: tuple[int | str, ...]
    message: str
    type: str

    @property
    def path(self) -> str:
        """The location in one word, as `streams.0`; empty for the value as a whole.

        Of what is nested deep, only the beginning.
        """
        parts = [*map(str, self.location[:_DEEPEST])]
        return ".".join([*parts, "…"] if len(self.location) > _DEEPEST else parts)

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.location else self.message


def faults_of(error: "ValidationError") -> list[Fault]:
    """Return the faults of a value; none holds the value itself, which may be a secret."""
    return [
        Fault(fault["loc"], without_prefix(str(fault["msg"])), fault["type"])
        for fault in error.errors(include_input=False)
    ]


def without_prefix(message: str) -> str:
    """Return a message of Pydantic's without the words that it puts before our own."""
    return message.replace(_PREFIX, "")
