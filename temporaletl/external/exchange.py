"""One exchange over HTTP: a request and its whole answer, or why there is none."""

from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests import exceptions as failures
from requests.adapters import HTTPAdapter

from temporaletl.budget import counted_request
from temporaletl.errors import ConfigurationError, SourceProtocolError, SourceUnavailableError
from temporaletl.telemetry.metrics import RequestOutcome
from temporaletl.telemetry.tracing import span

#: Each piece costs a call of the system or more: pages of a source have a megabyte.
_BYTES_AT_ONCE = 256 * 1024


#: Threads that wait for what a source's own have not begun, and then request it themselves.
_MOST_CALLERS = 16


class AnswerTooLargeError(SourceProtocolError):
    """An answer is larger than ETL_ANSWER_LIMIT_MEGABYTES: fewer records may be requested."""


def keep_connections(session: requests.Session, concurrency: int) -> None:
    """Have a session keep the connections of as many requests at once as a source may make."""
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=concurrency + _MOST_CALLERS))


def exchange(
    session: requests.Session,
    method: str,
    url: str,
    call: Mapping[str, Any],
    *,
    what: str,
    timeout: tuple[float, float],
    most_bytes: int,
) -> requests.Response:
    """Send one request and read its whole answer, whatever its status; follows no redirect.

    `call` are further arguments of `requests`, `what` is its name in errors, `timeout` the
    seconds for connecting and for each silence, `most_bytes` the bound of the body, decompressed.

    Raises:
        SourceUnavailableError: no whole answer came.
        ConfigurationError: the address cannot be requested, or its certificate not be verified.
        AnswerTooLargeError: the body has more than `most_bytes`.
    """
    # Exceptions of requests carry the whole URL, query included: none is chained.
    try:
        # The plain request, also where a library's session overrides it with retries of
        # its own. The whole body is read, so that a break in the middle is met here.
        with (
            span("request to source", request=what),
            counted_request() as counted,
            requests.Session.request(
                session,
                method,
                url,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
                **call,
            ) as response,
        ):
            body = _body_of(response, what, most_bytes)
            counted.received_bytes = len(body)
            counted.outcome = outcome_of(response.status_code)
            response._content = body  # noqa: SLF001 - as it would
            return response
    except urllib3.exceptions.ReadTimeoutError:
        raise SourceUnavailableError(f"{what}: no answer within {timeout[1]:g} s") from None
    except urllib3.exceptions.HTTPError:
        raise SourceUnavailableError(f"{what}: the answer broke off in the middle") from None
    except failures.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise ConfigurationError(
                f"{what}: the server's certificate cannot be verified; for a certificate "
                "authority of your own, name its file in REQUESTS_CA_BUNDLE"
            ) from None
        raise SourceUnavailableError(f"{what}: the TLS connection failed") from None
    except failures.ConnectTimeout:
        raise SourceUnavailableError(f"{what}: no connection within {timeout[0]:g} s") from None
    except failures.Timeout:
        raise SourceUnavailableError(f"{what}: no answer within {timeout[1]:g} s") from None
    except failures.ConnectionError as error:
        raise SourceUnavailableError(f"{what}: the connection failed ({_cause(error)})") from None
    except (failures.ChunkedEncodingError, failures.ContentDecodingError):
        raise SourceUnavailableError(f"{what}: the answer broke off in the middle") from None
    except failures.RequestException as error:
        raise ConfigurationError(f"{what}: cannot be requested ({type(error).__name__})") from None


def _body_of(response: requests.Response, what: str, most_bytes: int) -> bytes:
    """Read the body, decompressed, as far as it may go."""
    if response.raw is None:
        return response.content  # a session with an adapter of its own that reads all
    body = BytesIO()
    while some := response.raw.read(_BYTES_AT_ONCE, decode_content=True):
        if body.tell() + len(some) > most_bytes:
            body.close()  # else the frames that the exception keeps would keep it
            raise AnswerTooLargeError(
                f"{what} answered with more than {most_bytes / 1e6:g} MB: ask for fewer "
                "records at once, or raise ETL_ANSWER_LIMIT_MEGABYTES"
            )
        body.write(some)
    return body.getvalue()


def outcome_of(status: int) -> RequestOutcome:
    """The outcome of an answer, for metrics."""
    if status == requests.codes.too_many_requests:
        return "rate_limited"
    if status >= requests.codes.server_error:
        return "server_error"
    return "client_error" if status >= requests.codes.bad_request else "ok"


def endpoint_of(url: str) -> str:
    """The endpoint of a URL, host and path; what follows them may hold secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "what is no address"
    host = parts.netloc.rpartition("@")[2]
    return f"{host}{parts.path}"


def _cause(error: BaseException) -> str:
    """The innermost reason, as the operating system reports it."""
    known: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        inner = todo.pop()
        if inner is None or inner in known:
            continue
        known.append(inner)
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        reason = getattr(inner, "reason", None)
        todo += [
            inner.__context__,
            reason if isinstance(reason, BaseException) else None,
            *(arg for arg in inner.args if isinstance(arg, BaseException)),
        ]
    return type(known[-1]).__name__
