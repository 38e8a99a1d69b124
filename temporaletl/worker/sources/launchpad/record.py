"""Records: bugs, merge proposals and questions with their lists and people."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import msgspec

from temporaletl import CompleteSet, Event, Json, RecordError
from temporaletl.external.answers import decode_record
from temporaletl.worker.sources.launchpad.entries import (
    Activity,
    Bug,
    Comment,
    Message,
    Person,
    Proposal,
    Question,
    Task,
    Vote,
)

#: People by Launchpad name, as far as they may be looked at.
Known = Mapping[str, Person]


class Parts(msgspec.Struct, frozen=True):
    """Base of what records hold. `complete` names the lists that hold all there is."""

    complete: Sequence[str] = ()


class BugWhole(Parts, frozen=True, kw_only=True):
    bug: Bug
    activity: Sequence[Activity] = ()
    messages: Sequence[Message] = ()
    tasks: Sequence[Task] = ()
    people: Known = {}


class ProposalWhole(Parts, frozen=True, kw_only=True):
    """`superseded_by` is the proposal that took the place of this one."""

    proposal: Proposal
    comments: Sequence[Comment] = ()
    votes: Sequence[Vote] = ()
    superseded_by: Proposal | None = None
    people: Known = {}


class QuestionWhole(Parts, frozen=True, kw_only=True):
    question: Question
    messages: Sequence[Message] = ()
    people: Known = {}


class RawRecord:
    """A record as extracted: Launchpad's own JSON of the parts, under the names of a `…Whole`.

    `raw` is what a reject keeps; `whole` takes it, or a `RawRecord`.
    """

    __slots__ = ("key", "parts")

    def __init__(self, key: str, parts: dict[str, Any]) -> None:
        self.key = key
        self.parts = parts

    @property
    def raw(self) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self.parts))

    @classmethod
    def whole[W: Parts](cls, kind: type[W], record: "Self | Json") -> W:
        """Read a record, or a reject's payload.

        Raises:
            RecordError: a field is not what Launchpad describes; it is named. Or a payload lacks
                lists, that could not be read.
        """
        parts = record.parts if isinstance(record, RawRecord) else record
        try:
            found = decode_record(kind, msgspec.json.encode(parts))
        except RecordError as error:
            raise RecordError(f"not as Launchpad describes it: {error}") from None
        if not isinstance(record, RawRecord) and (missing := missing_in(found)):
            raise RecordError(f"its {', '.join(missing)} were not all read: load it again")
        return found


def missing_in(whole: Parts) -> list[str]:
    """Return the names of the lists that do not hold all there is."""
    lists = {
        field.name
        for field in msgspec.structs.fields(whole)
        if field.default == () and field.name != "complete"
    }
    return sorted(lists - set(whole.complete))


def deduplicate_events(
    prefix: str, events: Iterable[Event], whole: Parts
) -> list[Event | CompleteSet]:
    """Deduplicate a record's events, and mark them as the complete set where that is known.

    What Launchpad does not show any more is then deleted: comments taken for spam, say, and
    what a person did under a name that has changed.
    """
    # Pages overlap, so an event may come twice.
    unique: list[Event | CompleteSet] = list({event.event_id: event for event in events}.values())
    if not missing_in(whole):
        unique.append(CompleteSet(prefix))
    return unique
