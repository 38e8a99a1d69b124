"""Posting to webhooks: one bounded request.

An answer's body is not read, a redirect is not followed, and no error names the address.
"""

import json
import threading
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import requests

from temporaletl.errors import ConfigurationError, RetryableError
from temporaletl.external.deadline import deadline, watch_connections
from temporaletl.retry_after import retry_after

#: For a connection, and for each silence.
_SILENCE_SECONDS = 5
#: For all of it.
WITHIN = timedelta(seconds=10)
#: Refusals that may be others the next time.
_PASSING = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class DeliveryError(RetryableError):
    """A destination did not take a notification, and may do so later."""


class DeliveryRefusedError(ConfigurationError):
    """A destination will never take notifications as it is configured."""


def encoded(content: Mapping[str, Any]) -> bytes:
    """A request's body."""
    return json.dumps(content, ensure_ascii=False).encode()


def post(url: str, body: bytes, headers: Mapping[str, str], stop: threading.Event) -> None:
    """Post JSON; return once it was taken. `stop` ends it early.

    Raises:
        DeliveryError: there was no answer in time, or one that may be another the next time.
        DeliveryRefusedError: it was refused for good.
    """
    with requests.Session() as session, deadline(WITHIN, stop) as running:
        watch_connections(session)
        # Nor credentials that a .netrc has for that host.
        session.auth = _as_it_is
        try:
            answer = session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", **headers},
                timeout=_SILENCE_SECONDS,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            ended = "timed out" if running.passed else "was called off" if running.stopped else None
            kind = ended or type(error).__name__
            raise DeliveryError(f"did not answer: {kind}") from None
        answer.close()
    status = answer.status_code
    if answer.ok and not answer.is_redirect:
        return
    if status < HTTPStatus.BAD_REQUEST:
        raise DeliveryRefusedError(f"answered {status}: redirects are not followed")
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise DeliveryError(f"answered {status}", delay=retry_after(answer.headers))
    raise DeliveryRefusedError(f"answered {status}")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
