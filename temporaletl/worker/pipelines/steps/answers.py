"""Answers to the requests of nodes: read as JSON or text, without secrets; refusals by recovery."""

import asyncio
from datetime import timedelta
from http import HTTPStatus

import msgspec
from pydantic import JsonValue

from temporaletl.errors import PermanentError, RateLimitedError, SourceUnavailableError
from temporaletl.retry_after import retry_after
from temporaletl.secrets import cleaned, redacted
from temporaletl.worker.pipelines.egress.client import Answer

#: Characters of an answer that an error quotes.
_QUOTED = 500
#: Refusals that may be others the next time, besides those of 500 and above.
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_LONGEST_WAIT = timedelta(hours=1)
#: Headers that log somebody in.
_CREDENTIALS = frozenset(
    {"authorization", "proxy-authenticate", "set-cookie", "set-cookie2", "www-authenticate"}
)
_BOM = b"\xef\xbb\xbf"


def check_status(answer: Answer, host: str, *, quoted: str | None = None) -> None:
    """Check that an answer is no refusal, and no redirect.

    `quoted` is what an error tells of the answer, unless that is its beginning.

    Raises:
        RateLimitedError, SourceUnavailableError: it may be another the next time, after the delay
            that it requests.
        PermanentError: it will not be.
    """
    status = answer.status
    if status < HTTPStatus.MULTIPLE_CHOICES or status == HTTPStatus.NOT_MODIFIED:
        return
    told = f"{host}: HTTP {status}"
    if status < HTTPStatus.BAD_REQUEST:
        raise PermanentError(f"{told}: redirects are not followed; use the final address")
    if quoted is None:
        quoted = redacted(as_text(answer)).strip()[:_QUOTED]
    told = f"{told}: {quoted}" if quoted else told
    if status not in _PASSING and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        raise PermanentError(told)
    delay = retry_after(answer.headers)
    if delay is not None and delay > _LONGEST_WAIT:
        raise PermanentError(f"{told}; it asks to wait for {delay}, longer than an hour")
    limited = status == HTTPStatus.TOO_MANY_REQUESTS
    raise (RateLimitedError if limited else SourceUnavailableError)(told, delay=delay)


def headers_of(answer: Answer) -> JsonValue:
    """The headers of an answer, but those that log somebody in; without secrets."""
    kept = {name: one for name, one in answer.headers.items() if name.lower() not in _CREDENTIALS}
    shown: JsonValue = cleaned(kept)
    return shown


async def data_of(answer: Answer, host: str, *, as_json: bool) -> JsonValue:
    """What an answer holds, without the secrets that it may repeat; None where that is nothing.

    Raises:
        PermanentError: it is no JSON, and should be.
    """
    return await asyncio.to_thread(_data_of, answer, host, as_json=as_json)


def _data_of(answer: Answer, host: str, *, as_json: bool) -> JsonValue:
    text = as_text(answer)
    if not as_json:
        return redacted(text)
    if not text.strip():
        return None
    try:
        data: JsonValue = msgspec.json.decode(answer.body.removeprefix(_BOM))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        kind = answer.headers.get("content-type", "without a type").partition(";")[0]
        raise PermanentError(
            f"{host}: its answer ({kind}, HTTP {answer.status}) is no JSON: {error}; "
            f'"response": "text" takes any. It begins: {redacted(text).strip()[:_QUOTED]}'
        ) from None
    # To look through one text is much quicker than through each in it.
    repeats = redacted(text) != text
    found: JsonValue = cleaned(data) if repeats else data
    return found


def as_text(answer: Answer) -> str:
    """The body as text, in the encoding that its header declares."""
    _, _, declared = answer.headers.get("content-type", "").lower().partition("charset=")
    encoding = declared.partition(";")[0].strip("\"' ") or "utf-8"
    try:
        return answer.body.removeprefix(_BOM).decode(encoding, "replace")
    except (LookupError, ValueError):
        return answer.body.decode("utf-8", "replace")
