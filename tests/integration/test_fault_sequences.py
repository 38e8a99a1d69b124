"""Fault sequences from a seed, over changing data: every source ends as a fresh load.

`FAULT_SEEDS="1 2 3" scripts/test --slow tests/integration/test_fault_sequences.py` tries others.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from temporaletl.testing.fault_sequences import run_fault_sequence
from temporaletl.testing.harness import make_harness
from temporaletl.testing.source_fixture import SourceFixture
from tests.integration.trino_server import TrinoServer
from tests.integration.wheels import installed
from tests.source_fixtures.jira import JiraFixture, JiraServerFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.shop import ShopFixture
from tests.source_fixtures.trino import TrinoFixture

SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split()]
FIXTURES = (
    JiraFixture,
    JiraServerFixture,
    LaunchpadFixture,
    SalesforceFixture,
    ServiceTitanFixture,
    ShopFixture,
    TrinoFixture,
)
_FEW, _MANY = 6, 50

each_fixture = pytest.mark.parametrize("kind", FIXTURES, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module", autouse=True)
def _example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the example source."""
    with installed(tmp_path_factory.mktemp("wheels"), "shop", "tests.examples.shop"):
        yield


def run(
    kind: type[SourceFixture],
    seed: int,
    faults: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> None:
    if kind is TrinoFixture:
        server: TrinoServer = request.getfixturevalue("trino_server")
        if server.secured is None:
            pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
        TrinoFixture.use(server)
    with make_harness(kind, request, monkeypatch, caplog, folder) as harness:
        done = run_fault_sequence(harness, seed=seed, faults=faults)
        assert len(done.steps) == faults


@each_fixture
def test_some_faults_in_sequence_over_changing_data(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    kind: type[SourceFixture],
) -> None:
    run(kind, 7, _FEW, request, monkeypatch, caplog, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", SEEDS)
@each_fixture
def test_fifty_faults_in_sequence_over_changing_data(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    kind: type[SourceFixture],
    seed: int,
) -> None:
    run(kind, seed, _MANY, request, monkeypatch, caplog, tmp_path)
