"""`etl connections create`, `replace` and `delete`."""

import json

import pytest

from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import find_stored
from tests.integration.warehouse.command import Etl, etl

__all__ = ["etl"]

URL = ("--set", "JIRA_URL=https://acme.example.com", "--set", "JIRA_EMAIL=me@acme.example.com")
TOKEN = ("--env", "JIRA_API_TOKEN=ACME_TOKEN")


@pytest.fixture(autouse=True)
def _without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_CONNECTIONS", raising=False)
    monkeypatch.setenv("ACME_TOKEN", "acme-token-of-a-test")


def test_a_connection_is_created_listed_replaced_and_deleted(
    etl: Etl, warehouse: Warehouse
) -> None:
    assert etl("connections", "list")[1].startswith("Only `default`")
    created = etl("connections", "create", "acme", "--source", "jira", *URL, *TOKEN)
    assert created == (0, "created connection jira@acme, version 1\n", "")
    assert find_stored(warehouse, "acme").secrets == {"JIRA_API_TOKEN": {"env": "ACME_TOKEN"}}
    status, out, _ = etl("connections", "list")
    assert (status, out.splitlines()[1].split()[:3]) == (0, ["acme", "jira", "warehouse"])
    status, out, err = etl(
        *("connections", "replace", "acme", *URL, *TOKEN, "--version", "1", "--json"),
        *("--set", "JIRA_PAGE_SIZE=10"),
    )
    document = json.loads(out)
    assert (document["version"], document["settings"]["JIRA_PAGE_SIZE"]) == (2, "10")
    assert (status, document["notes"], err) == (0, [], "")
    stale = etl("connections", "replace", "acme", *URL, *TOKEN, "--version", "1")
    assert (stale[0], "has version 2, not 1" in stale[2]) == (1, True)
    status, _, err = etl("connections", "delete", "acme")
    assert (status, "whether jira@acme has a schedule cannot be known" in err) == (1, True)
    assert etl("connections", "delete", "acme", "--force")[1] == "deleted connection jira@acme\n"
    assert etl("connections", "delete", "acme")[0] == 1


def test_what_is_not_readable_here_is_noted(etl: Etl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_TOKEN")
    status, _, err = etl("connections", "create", "acme", "--source", "jira", *URL, *TOKEN)
    assert status == 0
    assert "not checked here, where it cannot be read: JIRA_API_TOKEN" in err


def test_what_is_wrong_is_one_line_without_values(etl: Etl) -> None:
    for arguments, told in (
        (("--set", "literal-secret"), "--set: what is given is not of the form NAME=…"),
        (("--set", "A=1", "--set", "A=2"), "--set A is given twice"),
        (("--env", "A=1", "--file", "A=2"), "A is given by --env and by --file"),
        ((*URL, "--set", "JIRA_API_TOKEN=literal-secret"), "JIRA_API_TOKEN is a secret"),
        ((*URL, *TOKEN, "--set", "JIRA_PAGE_SIZE=literal-number"), "JIRA_PAGE_SIZE is wrong"),
    ):
        status, out, err = etl("connections", "create", "acme", "--source", "jira", *arguments)
        assert (status, out, told in err) == (2, "", True), err
        assert len(err.splitlines()) == 1
        assert "literal-" not in err
