"""Signatures of webhooks, as Standard Webhooks have them."""

import base64
import binascii
import hashlib
import hmac
import time

_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """The key that a secret stands for: base64 behind `whsec_`, else the text itself.

    Raises:
        ValueError: it is no base64 behind `whsec_`.
    """
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError("is no base64 behind whsec_") from None


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
