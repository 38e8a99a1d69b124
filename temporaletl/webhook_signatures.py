"""Signatures of webhooks, as Standard Webhooks have them."""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

_PREFIX = "whsec_"
#: How far the clocks of sender and receiver may be apart; an older request may be a copy.
TOLERANCE = timedelta(minutes=5)
_EVENT_ID = re.compile(r"[!-~]{1,200}")
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,10}")
#: A sender that replaces its secret sends one signature for each.
_MOST_SIGNATURES = 10


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 behind `whsec_`, else the text itself.

    Raises:
        ValueError: it is no base64 behind `whsec_`.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("is no base64 behind whsec_")
    return key


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a webhook's request, version 1 of Standard Webhooks."""
    signed = b".".join([event_id.encode(), str(timestamp).encode(), body])
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def signed_headers(key: bytes | None, event_id: str, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows an event again, and its sender."""
    timestamp = int(time.time())
    headers = {"webhook-id": event_id, "webhook-timestamp": str(timestamp)}
    if key is not None:
        headers["webhook-signature"] = signature(key, event_id, timestamp, body)
    return headers


def signed_event(
    keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, *, now: float
) -> str | None:
    """The id of the event that a request tells of; None unless one of the keys has signed it.

    `now` is in seconds since 1970: a request that was signed more than `TOLERANCE` before or after
    is taken for none. How long it takes tells neither which key fits, nor whether there are any.
    """
    event_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _EVENT_ID.fullmatch(event_id) or not _TIMESTAMP.fullmatch(timestamp):
        return None
    if abs(now - int(timestamp)) > TOLERANCE.total_seconds():
        return None
    # A number is no event: of one, a part could be taken for the end of the id.
    if body[:1].isdigit():
        return None
    given = headers.get("webhook-signature", "").split(" ")[:_MOST_SIGNATURES]
    fits = False
    for key in keys or [secrets.token_bytes()]:
        expected = signature(key, event_id, int(timestamp), body).encode()
        for one in given:
            fits |= hmac.compare_digest(expected, one.encode("utf-8", "replace"))
    return event_id if fits and keys else None
