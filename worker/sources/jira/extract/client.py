"""What one extraction asks its Jira."""

import threading
from typing import Any

from temporaletl.external.answers import decode
from temporaletl.external.jira.site import JiraSite

#: Issues of a list that is gone, of an endpoint that this site does not have.
ABSENT = frozenset({404, 405})


class JiraClient:
    """A site, for as long as one extraction wants it."""

    def __init__(self, site: JiraSite) -> None:
        self.site = site
        #: Set when nobody waits for answers any more.
        self.stop = threading.Event()

    def read[T](self, kind: type[T], path: str, **params: Any) -> T | None:
        """Get and decode; None where there is nothing at that path (404, 405).

        Raises: as `HttpClient.request` and `decode`.
        """
        answer = self.site.request("GET", path, params=params, accept=ABSENT, stop=self.stop)
        return None if answer.status_code in ABSENT else decode(kind, answer, source="jira")
