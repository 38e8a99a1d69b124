"""Temporal's payloads, encrypted: the codec of every client and worker that has payload keys."""

from collections.abc import Sequence

from temporalio.api.common.v1 import Payload
from temporalio.converter import PayloadCodec

from temporaletl.temporal.payload_keys import PayloadKeys, Sealed, UndecryptablePayloadError

_ENCODING, _KEY_ID = "encoding", "encryption-key-id"
_ENCRYPTED = b"binary/encrypted"


class EncryptingCodec(PayloadCodec):
    """Encrypts whole payloads, their metadata too; decrypts those that are encrypted.

    What is encrypted already is not encrypted again, and what is not passes as it is: histories
    from before there were keys stay readable.
    """

    def __init__(self, keys: PayloadKeys) -> None:
        self._keys = keys

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt with the first key."""
        return [self._sealed(payload) for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt each with its key.

        Raises:
            MissingPayloadKeyError, UndecryptablePayloadError: as `PayloadKeys.open`.
        """
        return [self._opened(payload) for payload in payloads]

    def _sealed(self, payload: Payload) -> Payload:
        if is_encrypted(payload):
            return payload
        sealed = self._keys.seal(payload.SerializeToString(), "payload")
        if sealed is None:
            return payload
        metadata = {_ENCODING: _ENCRYPTED, _KEY_ID: sealed.key_id.encode()}
        return Payload(metadata=metadata, data=sealed.body)

    def _opened(self, payload: Payload) -> Payload:
        if not is_encrypted(payload):
            return payload
        try:
            key_id = payload.metadata[_KEY_ID].decode()
        except UnicodeDecodeError:
            raise UndecryptablePayloadError("this payload's key has no id that is text") from None
        return Payload.FromString(self._keys.open(Sealed(key_id, payload.data), "payload"))


def is_encrypted(payload: Payload) -> bool:
    """Whether a payload is one that `EncryptingCodec` encrypted."""
    return payload.metadata.get(_ENCODING) == _ENCRYPTED and _KEY_ID in payload.metadata


def mark_of(key_id: str) -> bytes:
    """What the bytes of every message hold in which a payload is encrypted with a key."""
    return Payload(metadata={_KEY_ID: key_id.encode()}).SerializeToString()
