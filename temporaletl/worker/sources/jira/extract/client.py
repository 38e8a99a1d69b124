"""The client with which one extraction reads a Jira site."""

import threading
from typing import Any

import requests

from temporaletl import SourceUnavailableError
from temporaletl.errors import ETLError
from temporaletl.external.answers import MisfitAnswerError, decode
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.jira.site import JiraSite

#: Issues of a list that is gone, of an endpoint that this site does not have.
ABSENT = frozenset({404, 405})
#: Attempts at a smaller request, where the larger one has failed as often as usual.
FEW_ATTEMPTS = 2
#: What an answer fails with for the sake of one item in it, as well as for the site's.
FAILURES = (SourceUnavailableError, MisfitAnswerError, AnswerTooLargeError)


class JiraClient:
    """A Jira site's client for one extraction, which can stop its requests."""

    def __init__(self, site: JiraSite) -> None:
        self.site = site
        #: Set when nobody waits for responses any more.
        self.stop = threading.Event()
        #: Ids of issues that were found lately: where they answer, the site is well. Replaced as a
        #: whole, as threads read it.
        self.neighbours: tuple[str, ...] = ()

    def read[T](
        self, kind: type[T], path: str, *, attempts: int | None = None, **params: Any
    ) -> T | None:
        """Get and decode; None where there is nothing at that path (404, 405).

        Raises: as `JiraSite.request` and `decode`.
        """

        def read(answer: requests.Response) -> T | None:
            return None if answer.status_code in ABSENT else decode(kind, answer, source="jira")

        return self.site.request(
            "GET", path, params=params, read=read, accept=ABSENT, stop=self.stop, attempts=attempts
        )

    def may_narrow(self, error: ETLError) -> bool:
        """Whether a smaller request may help after an error: one item may be what fails.

        Not where requests are rate-limited, or nobody waits for them any more.
        """
        delay = getattr(error, "delay", None)
        return isinstance(error, FAILURES) and delay is None and not self.stop.is_set()
