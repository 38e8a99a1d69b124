"""Redaction: the secrets of this process are removed from every text that leaves it.

Libraries quote what they were given: a header that is not valid, an address with its password. So
no error's text is trusted, our own included. What leaves the process goes through `redacted`: log
lines, errors on their way to Temporal and the ledger, and what commands print.
"""

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from decimal import Decimal
from typing import Any
from urllib.parse import quote, quote_plus

#: What stands in a secret's place.
REDACTED = "[redacted]"
#: A shorter secret is only looked for where it stands alone: else it would blank half of a text.
_SHORT = 8
#: Shorter ones are part of too much to be looked for.
_SHORTEST = 4
#: No word of a message, and no number in one, is longer.
_LONGEST_WORD = 12
#: What `requests` leaves as it is in an address that somebody else wrote.
_KEPT_IN_ADDRESSES = "!#$%&'()*+,/:;=?@[]~"


def weakness_of(secret: str) -> str | None:
    """What redaction cannot do for a secret that is short or an ordinary word; None for others.

    A word that our own messages use is redacted there, too, which gives it away to whoever knows
    the message; no text tells where a word of its own ends and a quoted one begins.
    """
    if len(secret) < _SHORTEST:
        return "is too short to be redacted: texts are not searched for it"
    if len(secret) < _SHORT:
        return "is so short that it is redacted only where it stands alone"
    if len(secret) <= _LONGEST_WORD and (secret.isalpha() or secret.isdigit()):
        return (
            f"is a plain word or number: where our own messages hold it, {REDACTED} gives it away"
        )
    return None


class _Known:
    """The secrets and the forms they take. Safe to use from many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._secrets: frozenset[str] = frozenset()
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def add(self, secret: str) -> None:
        if secret in self._secrets:
            return  # settings are read again and again
        forms = {form for form in _forms_of(secret) if len(form) >= _SHORTEST}
        with self._guard:
            if not forms <= self._forms:
                # Another set, as one may be read just now.
                self._forms = self._forms | forms
                self._pattern = None
            self._secrets = self._secrets | {secret}

    def pattern(self) -> re.Pattern[str] | None:
        with self._guard:
            if self._pattern is None and self._forms:
                # The longest first: one secret may begin with another.
                ordered = sorted(self._forms, key=lambda form: (-len(form), form))
                self._pattern = re.compile("|".join(map(_whole, ordered)))
            return self._pattern

    def occurs_in(self, text: str) -> bool:
        # Many forms one after the other are found much faster than any of them at once.
        forms = self._forms
        return len(text) >= _SHORTEST and any(form in text for form in forms)

    def holds(self, text: str) -> bool:
        return any(secret in text and weakness_of(secret) is None for secret in self._secrets)

    def forget(self) -> None:
        with self._guard:
            self._secrets = self._forms = frozenset()
            self._pattern = None


def _forms_of(secret: str) -> Iterator[str]:
    texts = {secret, secret.strip()}
    # Whoever quotes a server's words puts them on one line, with single blanks.
    texts.add(" ".join(secret.split()))
    # Keys are also read with their line ends escaped, and the lines are secrets by themselves.
    texts |= {text.replace("\\n", "\n") for text in texts}
    for text in texts:
        yield text
        yield from _in_base64(text)
        yield from text.splitlines() if len(text.splitlines()) > 1 else ()
        for form in _written(text):
            yield form
            # What quotes a quotation: JSON within JSON, the repr of an address.
            yield from _written(form) if form != text else ()


def _in_base64(text: str) -> Iterator[str]:
    """A secret as a header of basic authentication or a token within a token has it."""
    for encoded in (base64.b64encode(text.encode()), base64.urlsafe_b64encode(text.encode())):
        yield encoded.decode()
        yield encoded.decode().rstrip("=")


def _written(text: str) -> Iterator[str]:
    """A text as addresses, JSON, XML and Python's own repr write it."""
    for quoted in (
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
        quote(text, safe=_KEPT_IN_ADDRESSES),
    ):
        yield quoted
        yield re.sub("%..", lambda found: found[0].lower(), quoted)
    for written in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        variants = {written, written.replace("/", "\\/"), *_html_safe(written)}
        for variant in variants:
            yield variant
            yield re.sub(r"\\u[0-9a-f]{4}", lambda found: "\\u" + found[0][2:].upper(), variant)
    in_xml = text.replace("&", "&amp;").replace(">", "&gt;").replace("<", "&lt;")
    yield in_xml
    yield in_xml.replace('"', "&quot;").replace("'", "&#x27;")
    yield repr(text)[1:-1]
    yield repr(text.encode(errors="replace"))[2:-1]
    yield repr(text.encode("latin-1", "replace"))[2:-1]


#: What encoders escape in JSON that may stand within HTML: those of Go, those of .NET.
_UNSAFE_IN_HTML = (re.compile("[&<>]"), re.compile("[&<>'+`]"))


def _html_safe(written: str) -> Iterator[str]:
    for unsafe in _UNSAFE_IN_HTML:
        yield unsafe.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def _whole(form: str) -> str:
    escaped = re.escape(form)
    if len(form) >= _SHORT:
        return escaped
    # A line end that is written out (`\\n`) is no part of the word behind it.
    before = r"(?:(?<!\w)|(?<=\\[nrt]))" if re.match(r"\w", form) else ""
    after = r"(?!\w)" if re.search(r"\w\Z", form) else ""
    return f"{before}{escaped}{after}"


_known = _Known()


def remember_secret(secret: str) -> None:
    """Keep a secret out of all that leaves this process from now on. Safe to repeat."""
    if secret.strip():
        _known.add(secret)


def remember_login(user: str, password: str) -> None:
    """The same for a password, and for the header that basic authentication makes of it."""
    remember_secret(password)
    for encoding in ("utf-8", "latin-1"):
        both = f"{user}:{password}".encode(encoding, "replace")
        remember_secret(base64.b64encode(both).decode())


def redacted(text: str) -> str:
    """Return a text without the secrets that this process knows."""
    if not _known.occurs_in(text):
        return text
    pattern = _known.pattern()
    return text if pattern is None else pattern.sub(REDACTED, text)


def holds_secret(value: Any) -> bool:
    """Whether a secret stands in a text of a value, as JSON has them: where it must not be stored.

    Not one that may be an ordinary word or number.
    """
    texts: list[str] = []

    def collect(text: str) -> str:
        texts.append(text)
        return text

    cleaned(value, collect)
    return any(_known.holds(text) for text in texts)


def cleaned(value: Any, clean: Callable[[str], str] = redacted) -> Any:
    """Return a value, as JSON has them, with every text in it cleaned; what is none becomes one.

    Before it is written as JSON: a secret that is a number must not break what is around it.
    """
    match value:
        case None | bool() | int() | float() | Decimal():
            return value
        case str():
            return clean(value)
        case Mapping():
            return {
                clean(name) if isinstance(name, str) else name: cleaned(inner, clean)
                for name, inner in value.items()
            }
        case bytes() | bytearray():
            return clean(repr(value))
        case Sequence() | AbstractSet():
            return [cleaned(inner, clean) for inner in value]
        case _:
            return clean(str(value))


def forget_secrets() -> None:
    """Forget all secrets: for tests."""
    _known.forget()
