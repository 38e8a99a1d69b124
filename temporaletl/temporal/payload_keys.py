"""Keys of payloads: what encrypts users' data on its way to Temporal, and pipelines' results.

    ETL_PAYLOAD_KEYS=k2:<base64 of 32 bytes>,k1:<base64 of 32 bytes>

The first key encrypts, every one decrypts. In a file, each may have a line of its own, and `#`
begins a remark; a file that changes is read again while the process runs. AES-256-GCM with a random
nonce; the key's id and the purpose are authenticated, so that neither can be exchanged.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field, SecretStr

from temporaletl.errors import ConfigurationError, PermanentError, RetryableError
from temporaletl.secrets import remember_secret
from temporaletl.settings.platform import Settings
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.metrics import payload_decode_failures

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

log = get_logger("temporaletl.temporal.payload_keys")

VARIABLE, FILE_VARIABLE = "ETL_PAYLOAD_KEYS", "ETL_PAYLOAD_KEYS_FILE"
#: What is encrypted; of one purpose, nothing can be put in the place of another one's.
type Purpose = Literal["payload", "result"]

_KEY_BYTES = 32
_NONCE_BYTES = 12
# Shorter than any key is in base64: an id that could be one is never repeated in a message.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_LONGEST_SHOWN = 64
_LOOK_EVERY_SECONDS = 1.0


class PayloadKeySettings(Settings):
    """The keys themselves, or the file that holds them."""

    free_secrets = frozenset({"keys"})

    keys: SecretStr | None = Field(
        None,
        validation_alias=VARIABLE,
        description="keys that encrypt payloads and results, as id:base64, the first one in use",
    )
    file: Path | None = Field(
        None, validation_alias=FILE_VARIABLE, description="the file that holds them instead"
    )


class MissingPayloadKeyError(RetryableError):
    """Something was encrypted with a key that this process does not have: another one may."""


class UndecryptablePayloadError(PermanentError):
    """What was encrypted has been changed, or another key has its id."""


class Sealed(NamedTuple):
    """What was encrypted, and with which key."""

    key_id: str
    body: bytes


@dataclass(frozen=True)
class _Ring:
    """Keys at one time; the first of `ciphers` encrypts. `checks` tell keys of one id apart."""

    ciphers: Mapping[str, "AESGCM"] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)


class PayloadKeys:
    """The keys of this process, none where none are configured. Safe to use from many threads.

    Raises:
        ConfigurationError: they cannot be read; says which is wrong, and never what it is.
    """

    def __init__(self, text: str | None = None, file: Path | None = None) -> None:
        self._file = file
        self._guard = threading.Lock()
        self._looked_at = monotonic()
        self._entered: frozenset[str] = frozenset()
        #: Check values, by ids, of keys that have encrypted here, and are not known to be entered
        #: as in use. Kept here: such a key may have left its file by now.
        self.unentered: Mapping[str, str] = {}
        self._stamp = None if file is None else _stamp_of(file)
        if file is not None:
            text = _text_of(file)
        self._ring = _Ring() if text is None else _parse(text, self.place)

    @property
    def place(self) -> str:
        """Where the keys are configured, in messages."""
        return VARIABLE if self._file is None else f"{FILE_VARIABLE} ({self._file})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys, the one that encrypts first."""
        return tuple(self._current().ciphers)

    @property
    def first(self) -> str | None:
        """The id of the key that encrypts; None: nothing is encrypted."""
        return next(iter(self._current().ciphers), None)

    def check_value(self, key_id: str) -> str | None:
        """What tells whether another process has the same key under this id; None: no such key."""
        return self._current().checks.get(key_id)

    def note_entered(self, key_ids: frozenset[str]) -> None:
        """Take note that these keys are entered as in use."""
        with self._guard:
            self._entered |= key_ids
            self.unentered = {i: check for i, check in self.unentered.items() if i not in key_ids}

    def seal(self, plain: bytes, purpose: Purpose) -> Sealed | None:
        """Encrypt with the first key; None where there is none."""
        ring = self._current()
        for key_id, cipher in ring.ciphers.items():
            if key_id not in self._entered and key_id not in self.unentered:
                with self._guard:
                    self.unentered = {**self.unentered, key_id: ring.checks[key_id]}
            nonce = os.urandom(_NONCE_BYTES)
            bound = _bound(key_id, purpose)
            return Sealed(key_id, nonce + cipher.encrypt(nonce, plain, bound))
        return None

    def open(self, sealed: Sealed, purpose: Purpose) -> bytes:
        """Decrypt what `seal` gave, here or elsewhere.

        Raises:
            MissingPayloadKeyError: its key is not among these.
            UndecryptablePayloadError: it was changed, or another key has the id.
        """
        key_id, body = sealed
        cipher = self._current().ciphers.get(key_id) or self._look().ciphers.get(key_id)
        shown = repr(key_id[:_LONGEST_SHOWN])
        if cipher is None:
            payload_decode_failures.add(1, reason="missing_key")
            raise MissingPayloadKeyError(
                f"payload key {shown} is needed to decrypt this {purpose}, and is not in "
                f"{self.place}: add it there, behind the first one"
            )
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - where there are keys

        try:
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], _bound(key_id, purpose))
        except (InvalidTag, ValueError):
            payload_decode_failures.add(1, reason="undecryptable")
            raise UndecryptablePayloadError(
                f"this {purpose} cannot be decrypted with payload key {shown}: it was changed, or "
                f"the key is not the one that encrypted it (see {self.place})"
            ) from None

    def _current(self) -> _Ring:
        if self._file is not None and monotonic() - self._looked_at >= _LOOK_EVERY_SECONDS:
            return self._look()
        return self._ring

    def _look(self) -> _Ring:
        """The keys, read again where their file has changed; those before where it is no good."""
        if self._file is None:
            return self._ring
        with self._guard:
            self._looked_at = monotonic()
            try:
                stamp = _stamp_of(self._file)
                if stamp == self._stamp:
                    return self._ring
                self._stamp = stamp
                self._ring = _parse(_text_of(self._file), self.place)
            except ConfigurationError as error:
                log.warning("payload_keys_not_reloaded", reason=str(error))
            else:
                log.info("payload_keys_reloaded", ids=list(self._ring.ciphers))
            return self._ring


def payload_keys() -> PayloadKeys:
    """The keys that the settings name; the same object for the same settings.

    Raises:
        ConfigurationError: a key is wrong, the file cannot be read, or both are set.
    """
    settings = PayloadKeySettings.load()
    if settings.keys is not None and settings.file is not None:
        raise ConfigurationError(f"{VARIABLE} and {FILE_VARIABLE} are both set: unset one of them")
    return _of(None if settings.keys is None else settings.keys.get_secret_value(), settings.file)


@lru_cache(maxsize=8)
def _of(text: str | None, file: Path | None) -> PayloadKeys:
    return PayloadKeys(text, file)


def generate_key() -> str:
    """A new key, in base64."""
    encoded = base64.b64encode(os.urandom(_KEY_BYTES)).decode()
    remember_secret(encoded)
    return encoded


def check_id(key_id: str) -> str:
    """Return an id that a key may have.

    Raises:
        ConfigurationError: it may not.
    """
    if not _ID.fullmatch(key_id):
        raise ConfigurationError(
            f"a payload key's id has 1 to 32 letters, digits, `.`, `_` and `-`, not {key_id!r}"
        )
    return key_id


def _bound(key_id: str, purpose: Purpose) -> bytes:
    return f"temporaletl/1/{purpose}/{key_id}".encode()


def _stamp_of(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise ConfigurationError(f"{FILE_VARIABLE}: cannot read {file}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{FILE_VARIABLE}: cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{FILE_VARIABLE}: {file} is no text") from None


def _parse(text: str, place: str) -> _Ring:
    entries = list(_entries(text))
    for entry in entries:
        # Before anything is said about one of them.
        remember_secret(entry.rpartition(":")[2].strip())
    if not entries:
        raise ConfigurationError(f"{place} holds no key: `etl key generate ID` makes one")
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(entries, 1):
        key_id, found, encoded = (part.strip() for part in entry.partition(":"))
        if not found or not _ID.fullmatch(key_id):
            raise ConfigurationError(
                f"{place}: entry {number} is no ID:KEY (the id has 1 to 32 letters, digits, `.`, "
                "`_` and `-`; the key is base64)"
            )
        if key_id in keys:
            raise ConfigurationError(f"{place}: two keys have the id {key_id!r}")
        keys[key_id] = _decoded(key_id, encoded, place)
    # It takes time to import, and most installations have no keys.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    return _Ring(
        {key_id: AESGCM(key) for key_id, key in keys.items()},
        {
            key_id: hmac.digest(key, b"temporaletl payload key", hashlib.sha256)[:8].hex()
            for key_id, key in keys.items()
        },
    )


def _entries(text: str) -> Iterator[str]:
    for line in text.splitlines():
        for part in line.partition("#")[0].split(","):
            if part.strip():
                yield part.strip()


def _decoded(key_id: str, encoded: str, place: str) -> bytes:
    try:
        padded = encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4)
        key = base64.b64decode(padded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            f"{place}: key {key_id!r} is no base64: `etl key generate ID` makes one"
        ) from None
    if len(key) != _KEY_BYTES:
        raise ConfigurationError(
            f"{place}: key {key_id!r} has {len(key)} bytes, not {_KEY_BYTES}: "
            "`etl key generate ID` makes one"
        )
    return key
