"""The secrets that this process knows, and how they are kept out of every text that leaves it.

Libraries quote what they were given: a header that is not valid, an address with its password. So
no error's text is trusted, our own included. What leaves the process goes through `redacted`: log
lines, errors on their way to Temporal and the ledger, and what commands print.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

#: What stands in a secret's place.
REDACTED = "[redacted]"
#: A shorter secret is only looked for where it stands alone: else it would blank half of a text.
_SHORT = 8
#: Shorter ones are no secrets, and are part of too much.
_SHORTEST = 3


class _Known:
    """The secrets and the forms they take. Safe to use from many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        forms = {form for form in _forms_of(secret) if len(form) >= _SHORTEST}
        with self._guard:
            if not forms <= self._forms:
                self._forms |= forms
                self._pattern = None

    def pattern(self) -> re.Pattern[str] | None:
        with self._guard:
            if self._pattern is None and self._forms:
                # The longest first: one secret may begin with another.
                ordered = sorted(self._forms, key=lambda form: (-len(form), form))
                self._pattern = re.compile("|".join(map(_whole, ordered)))
            return self._pattern

    def forget(self) -> None:
        with self._guard:
            self._forms.clear()
            self._pattern = None


def _forms_of(secret: str) -> Iterator[str]:
    for text in {secret, secret.strip()}:
        yield text
        # As addresses, JSON and Python's own repr write it.
        yield quote(text, safe="")
        yield quote_plus(text)
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        yield from text.splitlines() if len(text.splitlines()) > 1 else ()


def _whole(form: str) -> str:
    escaped = re.escape(form)
    return escaped if len(form) >= _SHORT else rf"(?<!\w){escaped}(?!\w)"


_known = _Known()


def remember_secret(secret: str) -> None:
    """Keep a secret out of all that leaves this process from now on. Safe to repeat."""
    if secret.strip():
        _known.add(secret)


def remember_login(user: str, password: str) -> None:
    """The same for a password, and for the header that basic authentication makes of it."""
    remember_secret(password)
    _known.add(base64.b64encode(f"{user}:{password}".encode()).decode())


def redacted(text: str) -> str:
    """Return a text without the secrets that this process knows."""
    pattern = _known.pattern()
    return text if pattern is None else pattern.sub(REDACTED, text)


def forget_secrets() -> None:
    """Know no secret any more: for tests."""
    _known.forget()
