"""The comparison with other tools: its shape, and what proves our column."""

import re
import tomllib

import pytest

from tests.documentation import ROOT, named_tests, text_of

PEERS = ["dlt", "Airbyte", "Meltano", "ingestr", "Sling", "Fivetran", "Singer", "Estuary", "Kestra"]
ROWS = [
    (int(number), own, peers.split(" | "))
    for number, own, peers in re.findall(
        r"^\| (\d+) \| .+? \| ([YPN]) \| (.*) \|$", text_of("comparison.md"), re.MULTILINE
    )
]
PROOFS = {
    int(number): (path, name)
    for number, path, name in re.findall(
        r"^- (\d+): `([a-z_/]+\.py)::(test_\w+)`$", text_of("comparison.md"), re.MULTILINE
    )
}


def test_the_table_has_every_cell() -> None:
    assert [number for number, _, _ in ROWS] == [*range(1, 55)]
    assert all(len(peers) == len(PEERS) and {*peers} <= {*"YPN?"} for _, _, peers in ROWS)
    headers = re.findall(
        r"^\| \| \| TemporalETL \| (.*) \|$", text_of("comparison.md"), re.MULTILINE
    )
    assert set(headers) == {" | ".join(PEERS)}
    assert PROOFS.keys() == {number for number, own, _ in ROWS if own != "N"}


@pytest.mark.parametrize("number", PROOFS)
def test_what_we_claim_names_a_test_that_exists(number: int) -> None:
    path, name = PROOFS[number]
    assert name in named_tests(path)


def test_the_licence_is_the_one_that_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "MPL-2.0"
    assert (ROOT / "LICENSE").read_text("utf-8").startswith("Mozilla Public License Version 2.0\n")
