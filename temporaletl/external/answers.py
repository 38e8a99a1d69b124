"""What an answer over HTTP holds."""

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests

from temporaletl.errors import SourceProtocolError

#: Any escape within JSON's texts, two halves of a surrogate pair as one; `half` is a lone one.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
#: Making a decoder costs far more than most answers.
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode[T](kind: type[T], response: requests.Response, *, source: str) -> T:
    """Decode an answer's body; of characters that no text can have, each becomes U+FFFD.

    Raises:
        SourceProtocolError: it is not JSON, or not of that shape.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders.setdefault(kind, msgspec.json.Decoder(kind, strict=False))
    try:
        try:
            response.content.decode()  # what is left raw is not looked at below
            found: T = decoder.decode(response.content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # One emoji cut in half must not cost everything else that is in the answer.
            found = decoder.decode(mended(response.content))
    except msgspec.DecodeError as error:
        path = urlsplit(response.url).path
        content = response.headers.get("Content-Type", "no content type")
        raise SourceProtocolError(
            f"{source}: {path} answered {response.status_code} with a body ({content}) that does "
            f"not fit: {error}"
        ) from None
    return found


def mended(body: bytes) -> bytes:
    """Return JSON with U+FFFD for lone surrogates and for bytes that are no UTF-8."""
    return _ESCAPE.sub(
        lambda escape: rb"\ufffd" if escape["half"] else escape[0],
        body.decode("utf-8", "replace").encode(),
    )
