"""Payloads of memos and search attributes, as protobuf's JSON has them, to plain JSON.

What cannot be decoded, as it is encrypted or is not the JSON it claims to be, costs nobody the
execution: it is kept as bytes are, `{"encoding": …, "data": <base64>}`.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from temporaletl import Json, RecordError

#: Encodings whose data is bytes by intent; others are the work of a codec we do not have.
_BINARY = ("binary/plain", "binary/protobuf")


def decode_memo(payload: Mapping[str, Any]) -> Json:
    """JSON as it is, null as null, bytes as `{"encoding": …, "data": <base64>}`."""
    try:
        return _memo(payload)
    except RecordError:
        return _as_bytes(payload)


def decode_search_attribute(payload: Mapping[str, Any]) -> Json:
    """The attribute's value: datetimes as ISO text in UTC, keyword lists as lists.

    One that does not say its type is taken as the JSON it is.
    """
    try:
        return _search_attribute(payload)
    except RecordError:
        kind = _metadata(payload, "type")
        return _as_bytes(payload) | ({"type": kind} if kind else {})


def undecodable(record: Mapping[str, Any]) -> dict[str, str]:
    """The memo fields and search attributes of an execution that stay bytes, and why."""
    found: dict[str, str] = {}
    for what, payloads, decode in (
        ("memo field", _fields(record, "memo", "fields"), _memo),
        (
            "search attribute",
            _fields(record, "searchAttributes", "indexedFields"),
            _search_attribute,
        ),
    ):
        for name, payload in payloads.items():
            try:
                decode(payload)
            except RecordError as error:
                found[f"{what} {name!r}"] = str(error)
    return found


def memo_of(record: Mapping[str, Any]) -> dict[str, Json]:
    """An execution's memo, decoded."""
    return {n: decode_memo(payload) for n, payload in _fields(record, "memo", "fields").items()}


def search_attributes_of(record: Mapping[str, Any]) -> dict[str, Json]:
    """An execution's search attributes, decoded."""
    payloads = _fields(record, "searchAttributes", "indexedFields")
    return {name: decode_search_attribute(payload) for name, payload in payloads.items()}


def _fields(record: Mapping[str, Any], part: str, name: str) -> Mapping[str, Any]:
    # Protobuf's JSON leaves out what is empty.
    fields: Mapping[str, Any] = record.get(part, {}).get(name, {})
    return fields


def _memo(payload: Mapping[str, Any]) -> Json:
    encoding = _metadata(payload, "encoding")
    data = payload.get("data", "")
    if encoding == "binary/null" or (not encoding and not data):
        return None
    if encoding in _BINARY:
        message_type = _metadata(payload, "messageType")
        return _as_bytes(payload) | ({"message_type": message_type} if message_type else {})
    if encoding.startswith("json/"):
        return _json(data)
    raise RecordError(
        f"it is encoded as {encoding!r}, which needs a codec to be read"
        if encoding
        else "it does not say how it is encoded"
    )


def _search_attribute(payload: Mapping[str, Any]) -> Json:
    if not payload.get("data") or _metadata(payload, "encoding") == "binary/null":
        return None
    value = _json(payload["data"])
    kind = _metadata(payload, "type")
    if kind == "Datetime":
        if isinstance(value, list):
            return [_datetime(item) for item in value]
        return None if value is None else _datetime(value)
    if kind == "KeywordList" and isinstance(value, str):
        return [value]
    return value


def _as_bytes(payload: Mapping[str, Any]) -> dict[str, Json]:
    return {"encoding": _metadata(payload, "encoding"), "data": payload.get("data", "")}


def _metadata(payload: Mapping[str, Any], key: str) -> str:
    value = payload.get("metadata", {}).get(key, "")
    return base64.b64decode(value).decode("utf-8", "replace")


def _json(data: str) -> Json:
    try:
        return msgspec.json.decode(base64.b64decode(data, validate=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(f"it holds no valid JSON: {error}") from None


def _datetime(value: object) -> str:
    try:
        timestamp = datetime.fromisoformat(value) if isinstance(value, str) else None
        if timestamp is None or timestamp.tzinfo is None:
            raise RecordError(f"it is no time with a zone: {value!r}")
        return timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise RecordError(f"it is not a time: {value!r}") from None
