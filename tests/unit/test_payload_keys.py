"""Payload keys: read, refused by name and never by value, and what they encrypt."""

import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from temporaletl.errors import ConfigurationError
from temporaletl.secrets import REDACTED, redacted, remember_secret
from temporaletl.temporal import payload_keys as module
from temporaletl.temporal.connect import data_converter
from temporaletl.temporal.failures import ENCODED
from temporaletl.temporal.payload_codec import EncryptingCodec, is_encrypted, mark_of
from temporaletl.temporal.payload_keys import (
    MissingPayloadKeyError,
    PayloadKeys,
    Sealed,
    UndecryptablePayloadError,
    generate_key,
    payload_keys,
)

CANARY = "canary-5f1e"
ONE, TWO = (b64encode(bytes(range(n, n + 32))).decode() for n in (0, 100))
SHORT = ONE[:20] + "=="


def changed(sealed: Sealed, at: int) -> Sealed:
    body = bytearray(sealed.body)
    body[at] ^= 1
    return Sealed(sealed.key_id, bytes(body))


def sealed_by(keys: PayloadKeys) -> Sealed:
    sealed = keys.seal(b"plain", "payload")
    assert sealed is not None
    return sealed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no key"),
        ("  # nothing\n ,", "holds no key"),
        (ONE, "entry 1 is no ID:KEY"),
        (f"k1:{ONE},{TWO}", "entry 2 is no ID:KEY"),
        (f"{ONE}:k1", "entry 1 is no ID:KEY"),
        (f"k 1:{ONE}", "entry 1 is no ID:KEY"),
        (f"k1:{ONE},k1:{TWO}", "two keys have the id 'k1'"),
        (f"k1:{SHORT}", "key 'k1' has 15 bytes, not 32"),
        (f"k1:{ONE}{TWO}", "key 'k1' is no base64"),
        (f"k1:{ONE[:10]}!{ONE[10:]}", "key 'k1' is no base64"),
        ("k1:", "key 'k1' has 0 bytes, not 32"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_wrong_key_is_named_and_not_shown(
    text: str, told: str, *, in_file: bool, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    place = f"ETL_PAYLOAD_KEYS_FILE ({file})" if in_file else "ETL_PAYLOAD_KEYS"
    with pytest.raises(ConfigurationError) as refused:
        PayloadKeys(None if in_file else text, file if in_file else None)
    message = str(refused.value)
    assert message.startswith(place)
    assert told in message
    for key in (ONE, TWO, SHORT, ONE[:10]):
        assert key not in message


def test_keys_are_read_from_a_variable_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert payload_keys().ids == ()
    monkeypatch.setenv("ETL_PAYLOAD_KEYS", f" k2:{TWO} , k1:{ONE.rstrip('=')}")
    assert payload_keys().ids == ("k2", "k1")
    assert REDACTED in redacted(f"a key: {ONE}")
    file = tmp_path / "keys"
    file.write_text(f"\ufeffnew.1:{TWO}  # since November\n\nk1:{ONE}\n")
    monkeypatch.setenv("ETL_PAYLOAD_KEYS_FILE", str(file))
    with pytest.raises(ConfigurationError, match="both set"):
        payload_keys()
    monkeypatch.delenv("ETL_PAYLOAD_KEYS")
    assert payload_keys().ids == ("new.1", "k1")
    monkeypatch.setenv("ETL_PAYLOAD_KEYS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match=r"cannot read .*none: No such file"):
        payload_keys()


def test_what_was_encrypted_is_decrypted_by_its_key_alone() -> None:
    keys, other = PayloadKeys(f"k1:{ONE}"), PayloadKeys(f"k1:{TWO}")
    sealed = sealed_by(keys)
    assert sealed != sealed_by(keys)
    assert PayloadKeys(f"k2:{TWO},k1:{ONE}").open(sealed, "payload") == b"plain"
    assert keys.check_value("k1") not in (None, other.check_value("k1"))
    with pytest.raises(UndecryptablePayloadError, match=r"payload key 'k1': it was changed"):
        other.open(sealed, "payload")
    for keyring, place in (
        (PayloadKeys(f"k2:{ONE}"), "ETL_PAYLOAD_KEYS:"),
        (PayloadKeys(), "KEYS"),
    ):
        with pytest.raises(MissingPayloadKeyError, match=f"payload key 'k1' is needed.*{place}"):
            keyring.open(sealed, "payload")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: changed(sealed, 0),
        lambda sealed: changed(sealed, 12),
        lambda sealed: changed(sealed, -1),
        lambda sealed: Sealed("k1", sealed.body[:-1]),
        lambda sealed: Sealed("k1", sealed.body[:20]),
        lambda _: Sealed("k1", b""),
        lambda sealed: Sealed("k2", sealed.body),
    ],
)
def test_what_was_changed_is_refused(spoil: Callable[[Sealed], Sealed]) -> None:
    keys = PayloadKeys(f"k1:{ONE},k2:{ONE}")
    with pytest.raises(UndecryptablePayloadError):
        keys.open(spoil(sealed_by(keys)), "payload")
    with pytest.raises(UndecryptablePayloadError):
        keys.open(sealed_by(keys), "result")


def test_a_file_that_changes_is_read_again_and_one_that_is_no_good_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_EVERY_SECONDS", 0)
    file = tmp_path / "keys"
    file.write_text(f"k1:{ONE}\n")
    keys = PayloadKeys(None, file)
    assert keys.first == "k1"
    written = tmp_path / "written"
    written.write_text(f"k2:{TWO}\nk1:{ONE}\n")
    written.replace(file)
    assert keys.ids == ("k2", "k1")
    for text in ("", "k3:nothing"):
        file.write_text(text)
        assert keys.ids == ("k2", "k1")
    file.unlink()
    assert keys.first == "k2"


def test_a_key_that_is_missed_is_looked_for_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"k1:{ONE}\n")
    keys = PayloadKeys(None, file)
    sealed = sealed_by(PayloadKeys(f"k2:{TWO}"))
    file.write_text(f"k1:{ONE}\nk2:{TWO}\n")
    assert keys.open(sealed, "payload") == b"plain"


async def test_payloads_are_encrypted_whole_and_once() -> None:
    codec = EncryptingCodec(PayloadKeys(f"k1:{ONE}"))
    plain = Payload(metadata={"encoding": b"json/plain", "note": CANARY.encode()}, data=b"{}")
    [sealed] = await codec.encode([plain])
    assert is_encrypted(sealed)
    assert mark_of("k1") in sealed.SerializeToString()
    assert CANARY.encode() not in sealed.SerializeToString()
    assert await codec.encode([sealed]) == [sealed]
    assert await codec.decode([sealed, plain]) == [plain, plain]


async def test_failures_of_others_are_encrypted_with_all_their_causes() -> None:
    remember_secret("s3cret-of-somebody")
    converter = data_converter(PayloadKeys(f"k1:{ONE}"))
    inner = ApplicationError(f"{CANARY} and s3cret-of-somebody")
    failure = Failure()
    error = ApplicationError(f"outer {CANARY}")
    error.__cause__ = inner
    await converter.encode_failure(error, failure)
    for _ in range(2):  # as it came, and raised again by whoever got it
        stored = failure.SerializeToString()
        assert CANARY.encode() not in stored
        assert (failure.message, failure.cause.message) == (ENCODED, ENCODED)
        decoded = await converter.decode_failure(failure)
        assert isinstance(decoded, ApplicationError)
        assert decoded.message == f"outer {CANARY}"
        assert str(decoded.__cause__) == f"{CANARY} and {REDACTED}"
        failure = Failure()
        await converter.encode_failure(decoded, failure)


async def test_arguments_that_cannot_be_decrypted_are_not_tried_again_for_ever() -> None:
    converter = data_converter(PayloadKeys(f"k1:{ONE}"))
    for cause, final in (
        (UndecryptablePayloadError("it was changed"), True),
        (MissingPayloadKeyError("not here"), False),
    ):
        error = ApplicationError("Failed decoding arguments")
        error.__cause__ = cause
        failure = Failure()
        await converter.encode_failure(error, failure)
        assert failure.application_failure_info.non_retryable == final
        decoded = await converter.decode_failure(failure)
        assert ("it was changed" in str(decoded)) == final


def test_a_new_key_is_one_that_is_taken() -> None:
    assert generate_key() != generate_key()
    assert PayloadKeys(f"k1:{generate_key()}").first == "k1"
    assert os.environ.get("ETL_PAYLOAD_KEYS") is None
