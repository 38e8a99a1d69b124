"""Detection of anonymous answers: Jira may drop the account without an error.

Where it does not know a token any more, it need not refuse a request: Cloud answers anonymously,
with what the public may see, and says so in a header alone.
"""

from typing import Any

import requests

from temporaletl.errors import CredentialsError, SourceUnavailableError

#: How the log-in went, once for each way in that was tried: `OUT, OK` is a success.
_REASON = "X-Seraph-LoginReason"
_REFUSED = ("AUTHENTICATED_FAILED", "AUTHENTICATION_DENIED", "AUTHORISATION_FAILED")
#: Data Center's name for whoever it took us for.
_USER = "X-AUSERNAME"
_NOBODY = "anonymous"


def anonymous(response: requests.Response) -> str | None:
    """Return the header by which an answer says that it is anonymous; None for any other."""
    reasons = {reason.strip() for reason in response.headers.get(_REASON, "").upper().split(",")}
    if "OK" not in reasons and not reasons.isdisjoint(_REFUSED):
        return f"{_REASON}: {response.headers[_REASON][:60]}"
    if response.headers.get(_USER, "").strip().lower() == _NOBODY:
        return f"{_USER}: {_NOBODY}"
    return None


class LoginGuard:
    """Refuses each answer that is anonymous, whatever its status; a hook of a session.

    Statuses 401 are left to the caller: those say the same by themselves.
    """

    def __init__(self, session: requests.Session, *, credentials: str) -> None:
        self._session = session
        self._credentials = credentials
        session.hooks["response"].append(self)

    def __call__(self, response: requests.Response, **_: Any) -> None:
        """Look at one answer.

        Raises:
            CredentialsError: it is for nobody; names the settings to check.
            SourceUnavailableError: it is, but a session that ran out may be the reason.
        """
        if response.status_code == requests.codes.unauthorized:
            return
        header = anonymous(response)
        if header is None:
            return
        response.close()
        if response.request.headers.get("Cookie"):
            self._session.cookies.clear()
            raise SourceUnavailableError(f"jira: the session has run out ({header})")
        raise CredentialsError(
            f"jira: the token is refused ({header}): Jira answers as to anybody, with what the "
            f"public may see; check {self._credentials}"
        )
