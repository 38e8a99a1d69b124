"""Answers taken apart: the records of a page, and one record as its type."""

import functools
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
import xxhash

from temporaletl.errors import RecordError, SourceProtocolError
from temporaletl.rows import Reject, Row, Whole
from temporaletl.strategies import TransformContext

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list = msgspec.json.Decoder(list[msgspec.Raw])

type Rows = Iterable[Row | Reject | Whole]


class Record:
    """One record as it came: `raw` is its JSON, `key` what a person knows it by."""

    __slots__ = ("key", "raw")

    def __init__(self, raw: msgspec.Raw, key: str | None) -> None:
        self.raw = raw
        self.key = key

    def digest(self) -> int:
        """A number that two records share only if they are the same, content and all."""
        return xxhash.xxh3_64_intdigest(bytes(self.raw))


def decoded[T](
    kind: type[T],
) -> Callable[[Callable[[T, TransformContext], Rows]], Callable[[Any, TransformContext], Rows]]:
    """Let a transform take its records as a msgspec type.

    It then takes a `Record`, and the JSON that a reject keeps of one. What does not fit the type
    is rejected, with the field and what is wrong with it.
    """
    decoder = msgspec.json.Decoder(kind)

    def decorate(
        transform: Callable[[T, TransformContext], Rows],
    ) -> Callable[[Any, TransformContext], Rows]:
        @functools.wraps(transform)
        def take(record: Any, context: TransformContext) -> Rows:
            try:
                value = (
                    decoder.decode(record.raw)
                    if isinstance(record, Record)
                    else msgspec.convert(record, kind)
                )
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise RecordError(f"it is no {kind.__name__}: {error}") from None
            return transform(value, context)

        return take

    return decorate


class Answer:
    """One page as the API sent it; places in it are dotted, as `meta.next`.

    Raises:
        SourceProtocolError: it is not JSON, or not of the shape that is asked for.
    """

    def __init__(self, source: str, response: requests.Response) -> None:
        self._what = f"{source}: {urlsplit(response.url).path} answered {response.status_code}"
        self._body = msgspec.Raw(response.content)
        self.links = response.links

    def records(self, place: str, key: str) -> list[Record]:
        """The list at a place, "" for the whole answer; null is a list without records."""
        raw = self._at(place)
        if raw is None:
            raise SourceProtocolError(f"{self._what} without {place!r}, where its records belong")
        try:
            rows = [] if bytes(raw) == b"null" else _list.decode(raw)
        except msgspec.DecodeError as error:
            where = f"at {place!r}" if place else "as a whole"
            raise SourceProtocolError(f"{self._what} what is no list {where}: {error}") from None
        return [Record(row, text_at(row, key)) for row in rows]

    def value(self, place: str) -> Any:
        """The value at a place, None where there is nothing."""
        raw = self._at(place)
        return None if raw is None else msgspec.json.decode(raw)

    def _at(self, place: str) -> msgspec.Raw | None:
        try:
            return at(self._body, place)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceProtocolError(f"{self._what} what cannot be read: {error}") from None


def at(raw: msgspec.Raw, place: str) -> msgspec.Raw | None:
    """The JSON at a dotted place within JSON; None where a part of the way is missing.

    Raises:
        msgspec.DecodeError: on the way is something else than an object.
    """
    found: msgspec.Raw | None = raw
    for name in place.split(".") if place else ():
        if found is None or bytes(found) == b"null":
            return None
        found = _object.decode(found).get(name)
    return found


def text_at(raw: msgspec.Raw, place: str) -> str | None:
    """The text or number at a place, as text; None where there is neither."""
    try:
        found = at(raw, place)
        value = None if found is None else msgspec.json.decode(found)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return str(value) if isinstance(value, str | int) else None


def resumed[C: msgspec.Struct](kind: type[C], cursor: Any) -> C:
    """The place that a cursor stands for; the beginning for None, and for one of another kind."""
    try:
        return kind() if cursor is None else msgspec.convert(cursor, kind)
    except msgspec.ValidationError:
        # Left by another version of the source: what comes again does no harm.
        return kind()
