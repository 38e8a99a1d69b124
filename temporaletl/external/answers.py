"""Decoding of answers over HTTP: JSON of a declared shape, record by record."""

import contextlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
import requests

from temporaletl.errors import RecordError, SourceProtocolError, SourceUnavailableError
from temporaletl.external.elements import StructureError, elements, members
from temporaletl.external.error_bodies import message_in

#: Any escape within JSON's texts, two halves of a surrogate pair as one; `half` is a lone one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
#: What JSON comes in, by the names that servers write. Any other codec may cost more time than
#: there is, or make another text of it.
_CHARSETS: Mapping[str, str] = {
    **dict.fromkeys(("iso-8859-1", "latin-1", "latin1", "l1"), "iso-8859-1"),
    **dict.fromkeys(("iso-8859-15", "latin-9", "latin9"), "iso-8859-15"),
    **dict.fromkeys(("windows-1252", "cp1252"), "cp1252"),
    **dict.fromkeys(("us-ascii", "ascii"), "ascii"),
    **{name: name for name in ("utf-16", "utf-16le", "utf-16be", "utf-16-le", "utf-16-be")},
    **{name: name for name in ("utf-32", "utf-32le", "utf-32be", "utf-32-le", "utf-32-be")},
    **{name: name for name in ("iso-8859-2", "windows-1250", "windows-1251", "koi8-r")},
    **{name: name for name in ("shift-jis", "euc-jp", "gb18030", "gbk", "big5", "euc-kr")},
}
_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TITLE_WITHIN = 8_192
#: What decoding raises, whatever is in the bytes.
DECODE_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
#: Making a decoder costs far more than most answers.
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


class GarbledAnswerError(SourceUnavailableError):
    """A success whose body is no JSON: cut off, empty, or a page of somebody in between."""


class MisfitAnswerError(SourceProtocolError):
    """A success whose JSON lacks what the API promises: a member, a list, or it reports an error.

    `HttpClient.request` asks again some times before it raises this.
    """


def reading[T](kind: type[T], *, source: str) -> Callable[[requests.Response], T]:
    """Return `decode` for one shape, as `HttpClient.request` takes it to read its answers."""
    return partial(decode, kind, source=source)


def decode[T](kind: type[T], response: requests.Response, *, source: str) -> T:
    """Decode an answer's body.

    A list that `kind` declares as `list[msgspec.Raw]` holds each element's bytes as they came, be
    they decodable or not: `decode_record` says of one what is wrong with it. Members that the
    answer must have are declared without a default: their absence is not emptiness.

    Raises:
        GarbledAnswerError: the body is not JSON.
        MisfitAnswerError: it is JSON of another shape; names the errors in it.
    """
    body = text_of(response)
    try:
        return parse(kind, body)
    except DECODE_FAULTS as error:
        raise fault_of(response, body, error, source) from None


def parse[T](kind: type[T], body: bytes) -> T:
    """Decode JSON of a declared shape, as `decode` does.

    Raises:
        One of `DECODE_FAULTS`.
    """
    decoder = _decoder(kind)
    try:
        return decoder.decode(body)
    except DECODE_FAULTS:
        lists = _raw_lists(kind)
        if lists is None:
            # One emoji cut in half must not cost everything else that is in the answer.
            mended = without_halves(body)
            if mended is body:
                raise
            return decoder.decode(mended)
        try:
            return _piecewise(decoder, body, lists)
        except StructureError:
            pass
        raise


def decode_object(response: requests.Response, *, having: type, source: str) -> msgspec.Raw:
    """Return the bytes of an answer that is one record, as `decode_record` takes it.

    It has the members of `having`, or it is an object that cannot be decoded for what is in it.

    Raises: as `decode`.
    """
    body = text_of(response)
    try:
        decode(having, response, source=source)
    except GarbledAnswerError:
        # One number or byte that no decoder takes is not yet an answer that broke off.
        if not _is_object(body):
            raise
    return msgspec.Raw(body)


def _is_object(body: bytes) -> bool:
    try:
        members(body)
    except StructureError:
        return False
    return True


def decode_record[T](kind: type[T], raw: bytes | msgspec.Raw) -> T:
    """Decode one record; of its texts, half a surrogate pair becomes U+FFFD.

    Raises:
        RecordError: it cannot be decoded, or is not of that shape; says why.
    """
    decoder = _decoder(kind)
    try:
        return decoder.decode(raw)
    except DECODE_FAULTS as error:
        body = bytes(raw)
        mended = without_halves(body)
        if mended is not body:
            with contextlib.suppress(*DECODE_FAULTS):
                return decoder.decode(mended)
        raise RecordError(in_words(error)) from None


def in_words(error: Exception) -> str:
    """A decoder's error as a text for people who have the record before them."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be decoded"
    if isinstance(error, UnicodeDecodeError):
        return f"a text is not valid UTF-8 (byte 0x{error.object[error.start]:02x})"
    return str(error)


def without_halves(body: bytes) -> bytes:
    """Return JSON with U+FFFD for lone surrogates; the very same bytes where there are none."""
    if b"\\u" not in body:
        return body
    mended = _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], body)
    return body if mended == body else mended


def _decoder[T](kind: type[T]) -> msgspec.json.Decoder[T]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind, strict=False))
    return decoder


def _raw_lists(kind: Any) -> dict[str, str] | None:
    """The fields of a struct that are lists of raw elements, by their names in JSON.

    For a list of raw elements itself, the empty dictionary; None where there is nothing raw.
    """
    if _is_raw_list(kind):
        return {}
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return None
    fields = msgspec.structs.fields(kind)
    return {f.encode_name: f.name for f in fields if _is_raw_list(f.type)} or None


def _is_raw_list(kind: Any) -> bool:
    origin = get_origin(kind)
    if origin is list:
        return get_args(kind) == (msgspec.Raw,)
    return origin in _UNIONS and any(map(_is_raw_list, get_args(kind)))


_UNIONS = (Union, type(int | None))


def _piecewise[T](decoder: msgspec.json.Decoder[T], body: bytes, lists: dict[str, str]) -> T:
    """Decode what is around the lists' elements, and put these in as they are."""
    if not lists:
        return [msgspec.Raw(element) for element in elements(body)]  # type: ignore[return-value]
    kept: dict[str, list[bytes]] = {}
    around, position = [], 0
    for name, (start, end) in sorted(members(body).items(), key=lambda member: member[1]):
        if name in lists and body[start : start + 1] == b"[":
            kept[lists[name]] = elements(body[start:end])
            around += [body[position:start], b"[]"]
            position = end
    around.append(body[position:])
    decoded = decoder.decode(without_halves(b"".join(around)))
    for name, parts in kept.items():
        raws = [msgspec.Raw(part) for part in parts]
        msgspec.structs.force_setattr(decoded, name, raws)  # type: ignore[arg-type]
    return decoded


def text_of(response: requests.Response) -> bytes:
    """The body as UTF-8, whatever its declared charset, without a byte-order mark."""
    body = response.content
    declared = _CHARSET.search(response.headers.get("Content-Type", ""))
    charset = _CHARSETS.get(declared[1].lower().replace("_", "-")) if declared else None
    if charset is not None:
        try:
            body = body.decode(charset).encode()
        except UnicodeError:
            # What it is in fact is seen when it is decoded.
            return body
    return body.removeprefix(_BYTE_ORDER_MARK)


def fault_of(
    response: requests.Response, body: bytes, error: Exception, source: str
) -> GarbledAnswerError | MisfitAnswerError:
    """The platform's error for what decoding a success's body raised."""
    path = urlsplit(response.url).path
    content = response.headers.get("Content-Type", "no content type")
    answered = f"{source}: {path} answered {response.status_code}"
    if page := page_title(body):
        return GarbledAnswerError(f"{answered} with a page of HTML ({page}) in place of JSON")
    if isinstance(error, msgspec.ValidationError):
        said = message_in(body)
        what = f"an error: {said} ({error})" if said else f"a body that does not fit: {error}"
        return MisfitAnswerError(f"{answered} with {what}")
    what = "an empty body" if not body.strip() else f"a body ({content}) that is no JSON"
    return GarbledAnswerError(f"{answered} with {what}: {in_words(error)}")


def page_title(body: bytes) -> str | None:
    """The title of a page of HTML, in quotes; None where the body is none."""
    head = body[:_TITLE_WITHIN].decode("utf-8", "replace")
    if not head.lstrip().startswith("<"):
        return None
    found = _TITLE.search(head)
    title = " ".join(found[1].split()) if found else ""
    return f'"{title}"' if title else "without a title"
