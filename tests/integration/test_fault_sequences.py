"""Faults in sequence, drawn from a seed, over changing data: every source ends as a fresh load.

`FAULT_SEEDS="1 2 3" scripts/test --slow tests/integration/test_fault_sequences.py` tries others.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from temporaletl.testing.bench import make_bench
from temporaletl.testing.fault_sequences import run_fault_sequence
from temporaletl.testing.rig import Rig
from tests.integration.trino_server import TrinoServer
from tests.integration.wheels import publish
from tests.rigs.jira import JiraRig, JiraServerRig
from tests.rigs.launchpad import LaunchpadRig
from tests.rigs.salesforce import SalesforceRig
from tests.rigs.servicetitan import ServiceTitanRig
from tests.rigs.shop import ShopRig
from tests.rigs.trino import TrinoRig

SEEDS = [int(seed) for seed in os.environ.get("FAULT_SEEDS", "1").split()]
RIGS = (
    *(JiraRig, JiraServerRig, LaunchpadRig, SalesforceRig, ServiceTitanRig, ShopRig),
    TrinoRig,
)
_FEW, _MANY = 6, 50

each_rig = pytest.mark.parametrize("kind", RIGS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module", autouse=True)
def _published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the example be found as a wheel's source is."""
    folder = tmp_path_factory.mktemp("wheels")
    publish(folder, "shop", "tests.examples.shop")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def run(
    kind: type[Rig],
    seed: int,
    faults: int,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> None:
    if kind is TrinoRig:
        server: TrinoServer = request.getfixturevalue("trino_server")
        if server.secured is None:
            pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
        TrinoRig.use(server)
    with make_bench(kind, request, monkeypatch, caplog, folder) as bench:
        done = run_fault_sequence(bench, seed=seed, faults=faults)
        assert len(done.steps) == faults


@pytest.mark.timeout(300)
@each_rig
def test_some_faults_in_sequence_over_changing_data(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    kind: type[Rig],
) -> None:
    run(kind, 7, _FEW, request, monkeypatch, caplog, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", SEEDS)
@each_rig
def test_fifty_faults_in_sequence_over_changing_data(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    kind: type[Rig],
    seed: int,
) -> None:
    run(kind, seed, _MANY, request, monkeypatch, caplog, tmp_path)
