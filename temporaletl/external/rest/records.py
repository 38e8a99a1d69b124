"""Decoding of REST answers: the records of a page, and one record as its type."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
import xxhash

from temporaletl.errors import RecordError
from temporaletl.external.answers import (
    DECODE_FAULTS,
    MisfitAnswerError,
    decode_record,
    fault_of,
    in_words,
    text_of,
)
from temporaletl.external.elements import StructureError, elements, members
from temporaletl.external.error_bodies import message_in
from temporaletl.query import Query
from temporaletl.rows import CompleteSet, Reject, Row
from temporaletl.transformation import TransformContext

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])

type Rows = Iterable[Row | Reject | CompleteSet]


class Record:
    """One record as fetched: `raw` is its JSON, `key` what a person knows it by."""

    __slots__ = ("key", "raw")

    def __init__(self, raw: msgspec.Raw, key: str | None) -> None:
        self.raw = raw
        self.key = key

    def digest(self) -> int:
        """A number that two records share only if they are the same, content and all."""
        return xxhash.xxh3_64_intdigest(memoryview(self.raw))

    def mark(self) -> str:
        """The mark by which a repeated record is recognised: its key, without one its content."""
        return self.key if self.key is not None else f"{self.digest():x}"


def marks_of(records: Sequence[Record]) -> list[str]:
    """The marks of a page's records; their contents where keys do not distinguish them."""
    marks = [record.mark() for record in records]
    if len(set(marks)) == len(marks):
        return marks
    return [f"{record.digest():x}" for record in records]


def decoded[T, Q: Query](
    kind: type[T],
) -> Callable[
    [Callable[[T, TransformContext[Q]], Rows]], Callable[[Any, TransformContext[Q]], Rows]
]:
    """Let a transform take its records as a msgspec type.

    It then takes a `Record`, and the JSON that a reject keeps of one. What does not fit the type
    is rejected, with the field and what is wrong with it.
    """
    decoder = msgspec.json.Decoder(kind)

    def decorate(
        transform: Callable[[T, TransformContext[Q]], Rows],
    ) -> Callable[[Any, TransformContext[Q]], Rows]:
        @functools.wraps(transform)
        def take(record: Any, context: TransformContext[Q]) -> Rows:
            try:
                value = (
                    decoder.decode(record.raw)
                    if isinstance(record, Record)
                    else msgspec.convert(record, kind)
                )
            except msgspec.ValidationError as error:
                raise RecordError(f"it is no {kind.__name__}: {error}") from None
            except DECODE_FAULTS as error:
                if not isinstance(record, Record):
                    raise RecordError(f"it is no {kind.__name__}: {in_words(error)}") from None
                try:
                    value = decode_record(kind, record.raw)
                except RecordError as fault:
                    raise RecordError(f"it is no {kind.__name__}: {fault}") from None
            return transform(value, context)

        return take

    return decorate


def changed(records: Sequence[Record], known: Sequence[Record]) -> list[Record]:
    """The records that are new or changed: not among the known ones, content and all."""
    digests = {record.digest() for record in known}
    return [record for record in records if record.digest() not in digests]


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of an answer, by dotted paths in its JSON, as `meta.next`; "" for all of it.

    `records` is the path of the list of records, and `id` within a record the path of what a
    person knows it by; null is a list without records, absence is an error. `values` are the
    paths of what is read beside them.
    """

    records: str
    id: str
    values: Sequence[str] = ()
    #: Those of the values without which a page would seem to be the last.
    must_have: Sequence[str] = ()


class Answer:
    """One page as the API sent it, read at once.

    Raises:
        GarbledAnswerError: it is not JSON.
        MisfitAnswerError: it lacks its records, or they are no list.
    """

    def __init__(self, source: str, response: requests.Response, shape: Shape) -> None:
        self.links = response.links
        #: The URL of the request.
        self.url = response.url
        self._source = source
        self._response = response
        self._body = text_of(response)
        self._what = f"{source}: {urlsplit(response.url).path} answered {response.status_code}"
        self.records = [Record(row, text_at(row, shape.id)) for row in self._rows_at(shape.records)]
        #: What stands at the requested paths; None where there is nothing.
        self.values: dict[str, Any] = {path: self._value(path) for path in shape.values}
        for path in shape.must_have:
            if self._at(path) is None:
                raise MisfitAnswerError(f"{self._what} without {path!r}")

    def _rows_at(self, path: str) -> list[msgspec.Raw]:
        raw = self._at(path)
        if raw is None:
            said = message_in(self._body)
            raise MisfitAnswerError(
                f"{self._what} without {path!r}, where its records belong"
                + (said and f", but with an error: {said}")
            )
        if raw.strip() == b"null":
            return []
        try:
            return _list.decode(raw)
        except DECODE_FAULTS as error:
            try:
                return [msgspec.Raw(element) for element in elements(raw)]
            except StructureError:
                pass
            if not isinstance(error, msgspec.ValidationError):
                raise fault_of(self._response, self._body, error, self._source) from None
            where = f"at {path!r}" if path else "as a whole"
            raise MisfitAnswerError(f"{self._what} what is no list {where}: {error}") from None

    def _value(self, path: str) -> Any:
        raw = self._at(path)
        try:
            return None if raw is None else msgspec.json.decode(raw)
        except DECODE_FAULTS as error:
            raise MisfitAnswerError(
                f"{self._what} with a {path!r} that cannot be read: {in_words(error)}"
            ) from None

    def _at(self, path: str) -> bytes | None:
        try:
            return at(self._body, path)
        except msgspec.ValidationError as error:
            raise MisfitAnswerError(f"{self._what} what cannot be read: {error}") from None
        except DECODE_FAULTS as error:
            raise fault_of(self._response, self._body, error, self._source) from None


def count_in(answer: Answer, total: str | None, *, came: int = 0) -> int | None:
    """The total that an answer reports; None where it does not.

    -1, true, and 0 beside records or after some `came`, are no total: so APIs say that they have
    not counted.
    """
    value = answer.values[total] if total else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return None if value < 0 or (value == 0 and (came or answer.records)) else value


def at(raw: bytes | msgspec.Raw, path: str) -> bytes | None:
    """The JSON at a dotted path within JSON; None where a part of the path is missing.

    What stands beside the path need not be decodable.

    Raises:
        msgspec.DecodeError: on the path is something else than an object.
    """
    found: bytes | None = bytes(raw)
    for name in path.split(".") if path else ():
        if found is None or found.strip() == b"null":
            return None
        found = _member(found, name)
    return found


def _member(raw: bytes, name: str) -> bytes | None:
    try:
        value = _object.decode(raw).get(name)
    except DECODE_FAULTS:
        found = _members(raw)
        if found is None:
            raise
        return raw[slice(*found[name])].strip() if name in found else None
    return None if value is None else bytes(value)


def _members(raw: bytes) -> dict[str, tuple[int, int]] | None:
    try:
        return members(raw)
    except StructureError:
        return None


def text_at(raw: bytes | msgspec.Raw, path: str) -> str | None:
    """The text or number at a path, as text; None where there is neither."""
    try:
        found = at(raw, path)
        value = None if found is None else msgspec.json.decode(found)
    except DECODE_FAULTS:
        return None
    return str(value) if isinstance(value, str | int) else None


def resumed[C: msgspec.Struct](kind: type[C], cursor: Any) -> C:
    """Decode a cursor; the beginning for None, and for a cursor of another kind."""
    try:
        return kind() if cursor is None else msgspec.convert(cursor, kind)
    except msgspec.ValidationError:
        # Left by another version of the source: what comes again does no harm.
        return kind()
