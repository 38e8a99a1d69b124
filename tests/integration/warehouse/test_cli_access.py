"""`etl token` and `etl audit`."""

import json
from datetime import datetime, timedelta

import pytest

from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.tokens import InvalidTokenError, authenticate
from tests.integration.warehouse.command import Etl, etl

__all__ = ["etl"]


def test_a_token_is_printed_once_and_alone(etl: Etl, warehouse: Warehouse) -> None:
    status, out, err = etl("token", "create", "ci", "--scope", "operate")
    assert status == 0, err
    text = out.removesuffix("\n")
    token = authenticate(warehouse, text)
    assert (token.name, token.scope, token.expires_at) == ("ci", "operate", None)
    assert token.created_by.startswith("cli:")
    assert "created token ci (operate), valid for ever" in err
    for arguments in (("token", "list"), ("token", "list", "--json"), ("audit", "list")):
        status, out, err = etl(*arguments)
        assert status == 0
        assert text not in out + err
        assert text[-43:] not in out + err


def test_a_token_as_json_holds_its_text_beside_its_fields(etl: Etl, warehouse: Warehouse) -> None:
    _, out, err = etl("token", "create", "ci", "--expires-in-days", "0.5", "--json")
    document = json.loads(out)
    assert err == ""
    assert authenticate(warehouse, document["token"]).token_id == document["token_id"]
    created, expires = (
        datetime.fromisoformat(document[f"{name}_at"]) for name in ("created", "expires")
    )
    assert timedelta(hours=12) <= expires - created < timedelta(hours=13)


def test_a_revoked_token_is_listed_and_refused(etl: Etl, warehouse: Warehouse) -> None:
    _, text, _ = etl("token", "create", "ci")
    assert etl("token", "revoke", "ci")[:2] == (
        0,
        "revoked token ci: requests with it are refused from now on\n",
    )
    with pytest.raises(InvalidTokenError):
        authenticate(warehouse, text.strip())
    status, _, err = etl("token", "revoke", "ci")
    assert (status, "no token 'ci' to revoke" in err) == (1, True)
    [listed] = json.loads(etl("token", "list", "--json")[1])
    assert listed["revoked_at"] is not None
    assert listed.keys().isdisjoint({"token", "secret_sha256"})
    assert " revoked " in etl("token", "list")[1]


def test_what_does_not_fit_is_refused_in_one_line(etl: Etl) -> None:
    etl("token", "create", "ci")
    for arguments, expected, told in (
        (("ci",), 1, "there is a token 'ci' already"),
        (("ci2", "--scope", "all"), 2, "'all' is not one of 'read', 'decrypt', 'operate'"),
        (("ci2", "--expires-in-days", "0"), 2, "not before it is created"),
        (("ci2", "--expires-in-days", "nan"), 2, "no number of days"),
        (("ci2", "--expires-in-days", "1e300"), 2, "no number of days"),
        ((" ",), 2, "no blanks around it"),
    ):
        status, out, err = etl("token", "create", *arguments)
        assert (status, out, told in err) == (expected, "", True), err
        assert len(err.splitlines()) == 1


def test_the_audit_is_listed_with_the_latest_first(etl: Etl) -> None:
    assert etl("audit", "list")[1].startswith("nothing has been done")
    assert etl("token", "list")[1].startswith("no tokens")
    etl("token", "create", "ci")
    etl("state", "set", "jira", "--watermark", "2024-01-01")
    etl("token", "revoke", "ci")
    listed = json.loads(etl("audit", "list", "--json")[1])
    assert [entry["action"] for entry in listed] == ["token.revoke", "state.set", "token.create"]
    assert listed[1]["details"]["watermark"] == "2024-01-01T00:00:00+00:00"
    status, out, err = etl("audit", "list", "--limit", "2")
    assert (status, err) == (0, "and older ones (--limit)\n")
    assert "streams=issues" in out
    assert "token.create" not in out
