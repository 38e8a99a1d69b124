"""Tokens: who has one, who has one no longer, and what is kept of it."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from temporaletl.errors import ConfigurationError, ConflictError, NotFoundError
from temporaletl.secrets import forget_secrets, redacted
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.logins import log_in, log_out, token_of_login
from temporaletl.warehouse.tokens import (
    InvalidTokenError,
    NewToken,
    Scope,
    authenticate,
    create_token,
    has_tokens,
    list_tokens,
    revoke_token,
)
from tests.integration.warehouse.batches import rows

DAY = timedelta(days=1)


def make(
    warehouse: Warehouse,
    name: str = "ci",
    scope: Scope = "read",
    expires_in: timedelta | None = DAY,
) -> NewToken:
    with warehouse.connection() as connection:
        return create_token(connection, name, scope, created_by="a test", expires_in=expires_in)


def revoke(warehouse: Warehouse, name: str = "ci") -> None:
    with warehouse.connection() as connection:
        revoke_token(connection, name)


def change(warehouse: Warehouse, statement: str) -> None:
    with warehouse.connection() as connection:
        connection.execute(statement.encode())


def test_a_token_is_taken_for_what_it_is(warehouse: Warehouse) -> None:
    made = make(warehouse)
    assert re.fullmatch(r"etl_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", made.text.get_secret_value())
    token = authenticate(warehouse, made.text.get_secret_value())
    assert (token.name, token.scope, token.created_by) == ("ci", "read", "a test")
    assert token.expires_at is not None
    assert token.expires_at - token.created_at >= DAY
    assert (token.may("read"), token.may("operate")) == (True, False)
    assert make(warehouse, "ops", "operate").token.may("read")


def test_the_warehouse_keeps_the_hash_alone(warehouse: Warehouse) -> None:
    text = make(warehouse).text.get_secret_value()
    secret = text[-43:]
    [row] = rows(warehouse, "SELECT to_jsonb(t)::text, secret_sha256 FROM etl_tokens AS t")
    assert secret not in str(row[0])
    assert row[1] == hashlib.sha256(secret.encode()).digest()


@pytest.mark.parametrize("when", ["created", "used"])
def test_a_tokens_text_is_kept_out_of_all_that_leaves(warehouse: Warehouse, when: str) -> None:
    made = make(warehouse)
    text = made.text.get_secret_value()
    if when == "used":
        forget_secrets()
        authenticate(warehouse, text)
    for quoted in (f"Bearer {text}", f"secret={text[-43:]}"):
        assert text[-43:] not in redacted(quoted)
    assert text not in repr(made)


def test_what_is_no_token_of_ours_is_not_remembered(warehouse: Warehouse) -> None:
    known = make(warehouse).text.get_secret_value()
    forged = f"etl_{known[4:16]}_{'x' * 43}"
    with pytest.raises(InvalidTokenError):
        authenticate(warehouse, forged)
    assert redacted(forged) == forged


def test_nobody_learns_what_is_wrong_with_a_token(warehouse: Warehouse) -> None:
    made = {name: make(warehouse, name).text.get_secret_value() for name in ("old", "gone", "ci")}
    change(warehouse, "UPDATE etl_tokens SET expires_at = now() WHERE name = 'old'")
    revoke(warehouse, "gone")
    good = made["ci"]
    wrong = [
        "",
        "Bearer",
        good + "x",
        good[:-1] + ("a" if good[-1] != "a" else "b"),
        f"etl_{'0' * 12}_{good[-43:]}",
        good.replace("etl_", "etl_é"),
        made["old"],
        made["gone"],
    ]
    told = set()
    for text in wrong:
        with pytest.raises(InvalidTokenError) as refused:
            authenticate(warehouse, text)
        told.add(str(refused.value))
    assert len(told) == 1
    assert authenticate(warehouse, good).name == "ci"


def test_a_use_is_written_once_a_minute_at_most(warehouse: Warehouse) -> None:
    text = make(warehouse).text.get_secret_value()

    def used() -> Any:
        token = authenticate(warehouse, text)
        [(written,)] = rows(warehouse, "SELECT last_used_at FROM etl_tokens")
        assert written == token.last_used_at
        return written

    first = used()
    assert first is not None
    assert used() == first
    change(warehouse, "UPDATE etl_tokens SET last_used_at = now() - interval '61 seconds'")
    assert used() > first


def test_a_use_waits_for_nobody_who_holds_the_token(warehouse: Warehouse) -> None:
    text = make(warehouse).text.get_secret_value()
    with warehouse.connection() as holding:
        holding.execute("SELECT FROM etl_tokens FOR UPDATE")
        assert authenticate(warehouse, text).last_used_at is None


def test_many_uses_at_once_all_succeed(warehouse: Warehouse) -> None:
    text = make(warehouse).text.get_secret_value()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: authenticate(warehouse, text).name, range(32)))
    assert found == ["ci"] * 32


def test_a_name_is_free_again_once_its_token_is_revoked(warehouse: Warehouse) -> None:
    make(warehouse)
    with pytest.raises(ConflictError, match="'ci' already"):
        make(warehouse)
    revoke(warehouse)
    with pytest.raises(NotFoundError, match="no token 'ci'"):
        revoke(warehouse)
    make(warehouse, expires_in=None)
    listed = list_tokens(warehouse)
    assert [token.revoked_at is None for token in listed] == [True, False]
    assert listed[0].expires_at is None


def test_a_refused_token_leaves_its_transaction_usable(warehouse: Warehouse) -> None:
    make(warehouse)
    with warehouse.connection() as connection:
        with pytest.raises(ConflictError):
            create_token(connection, "ci", "read", created_by="a test")
        create_token(connection, "other", "read", created_by="a test")
    assert {token.name for token in list_tokens(warehouse)} == {"ci", "other"}


@pytest.mark.parametrize("name", ["", " ci", "ci\n", "c\x00i", "x" * 101, "c\u202ei"])
def test_a_name_that_nobody_could_read_is_refused(warehouse: Warehouse, name: str) -> None:
    with pytest.raises(ConfigurationError, match="name"):
        make(warehouse, name)


@pytest.mark.parametrize("span", [timedelta(0), -DAY, timedelta(days=36_501)])
def test_a_span_that_makes_no_sense_is_refused(warehouse: Warehouse, span: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="expires in"):
        make(warehouse, expires_in=span)


def test_a_token_counts_until_it_is_revoked_though_it_has_expired(warehouse: Warehouse) -> None:
    assert not has_tokens(warehouse)
    make(warehouse)
    change(warehouse, "UPDATE etl_tokens SET expires_at = now()")
    assert has_tokens(warehouse)
    change(warehouse, "UPDATE etl_tokens SET revoked_at = now()")
    assert not has_tokens(warehouse)


def test_a_log_in_stands_for_its_token_until_it_is_ended(warehouse: Warehouse) -> None:
    text = make(warehouse).text.get_secret_value()
    login = log_in(warehouse, text, timedelta(hours=12))
    value = login.value.get_secret_value()
    assert token_of_login(warehouse, value).name == "ci"
    [(kept,)] = rows(warehouse, "SELECT to_jsonb(s)::text FROM etl_sessions AS s")
    assert value not in str(kept)
    assert (log_out(warehouse, value), log_out(warehouse, value)) == (True, False)
    for wrong in (value, text, "", "\ud800"):
        with pytest.raises(InvalidTokenError):
            token_of_login(warehouse, wrong)


def test_a_log_in_ends_with_its_time_and_with_its_token(warehouse: Warehouse) -> None:
    text = make(warehouse, expires_in=timedelta(hours=1)).text.get_secret_value()
    login = log_in(warehouse, text, timedelta(hours=12))
    assert login.expires_at == login.token.expires_at
    change(warehouse, "UPDATE etl_sessions SET expires_at = now()")
    with pytest.raises(InvalidTokenError):
        token_of_login(warehouse, login.value.get_secret_value())
    again = log_in(warehouse, text, timedelta(hours=12)).value.get_secret_value()
    assert rows(warehouse, "SELECT count(*) FROM etl_sessions") == [(1,)]
    revoke(warehouse)
    with pytest.raises(InvalidTokenError):
        token_of_login(warehouse, again)
