"""Payloads of memos and search attributes, as protobuf's JSON has them, to plain JSON."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from temporaletl import Json, RecordError

#: Encodings whose data is bytes by intent; others are the work of a codec we do not have.
_BINARY = ("binary/plain", "binary/protobuf")


def decode_memo(name: str, payload: Mapping[str, Any], *, lenient: bool = False) -> Json:
    """JSON as it is, null as null, bytes as `{"encoding": …, "data": <base64>}`.

    A lenient call treats what it cannot decode as bytes.

    Raises:
        RecordError: data that is not the JSON it claims to be, or of an unknown encoding.
    """
    encoding = _metadata(payload, "encoding")
    data = payload.get("data", "")
    if encoding == "binary/null" or (not encoding and not data):
        return None
    as_bytes = {"encoding": encoding, "data": data}
    if encoding in _BINARY:
        message_type = _metadata(payload, "messageType")
        return as_bytes | ({"message_type": message_type} if message_type else {})
    if encoding.startswith("json/"):
        try:
            return _json(f"memo field {name!r}", data)
        except RecordError:
            if not lenient:
                raise
    if lenient:
        return as_bytes
    raise RecordError(
        f"memo field {name!r} is encoded as {encoding!r}, which needs a codec to be read"
        if encoding
        else f"memo field {name!r} does not say how it is encoded"
    )


def decode_search_attribute(name: str, payload: Mapping[str, Any]) -> Json:
    """The attribute's value: datetimes as ISO text in UTC, keyword lists as lists.

    One that does not say its type is taken as the JSON it is.

    Raises:
        RecordError: data that is not JSON, or not what its type promises.
    """
    if not payload.get("data") or _metadata(payload, "encoding") == "binary/null":
        return None
    value = _json(f"search attribute {name!r}", payload["data"])
    kind = _metadata(payload, "type")
    if kind == "Datetime":
        if isinstance(value, list):
            return [_datetime(name, item) for item in value]
        return None if value is None else _datetime(name, value)
    if kind == "KeywordList" and isinstance(value, str):
        return [value]
    return value


def _metadata(payload: Mapping[str, Any], key: str) -> str:
    value = payload.get("metadata", {}).get(key, "")
    return base64.b64decode(value).decode("utf-8", "replace")


def _json(what: str, data: str) -> Json:
    try:
        return msgspec.json.decode(base64.b64decode(data, validate=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"{what} holds no valid JSON: {error}") from None


def _datetime(name: str, value: object) -> str:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        if moment is None or moment.tzinfo is None:
            raise RecordError(f"search attribute {name!r} is no time with a zone: {value!r}")
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise RecordError(f"search attribute {name!r} is not a time: {value!r}") from None
