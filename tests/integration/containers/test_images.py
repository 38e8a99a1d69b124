"""The images and the compose file, built and run by an engine of the tests' own."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import version

import pytest

from tests.integration.containers.engine import (
    SERVICES,
    Engine,
    build_ours,
    build_stand_ins,
    import_base_images,
    missing,
    running_engine,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

#: The least that a container gets.
_CONFINED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # noqa: S108 - of the container
    *("--security-opt", "no-new-privileges"),
)
#: More than a service without work takes to end, and less than the grace after which it is killed.
_ENDS_WITHIN_SECONDS = 30
_GRACE_SECONDS = 70
_FOREIGN_TOOLS = ("gcc", "cc", "as", "ld", "make", "uv")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has our images."""
    if reason := missing():
        pytest.skip(reason)
    with running_engine(tmp_path_factory.mktemp("engine")) as one:
        import_base_images(one, tmp_path_factory.mktemp("base"))
        build_ours(one)
        yield one


def image_of(service: str) -> str:
    return f"temporaletl-{service}:{version('temporaletl')}"


def test_an_image_runs_as_nobody_special_and_brings_no_tools(engine: Engine) -> None:
    asks = f"id -u; for tool in {' '.join(_FOREIGN_TOOLS)}; do command -v $tool; done; ls -A /app"
    shown = engine.docker(
        "run", "--rm", *_CONFINED, "--entrypoint", "sh", image_of("worker"), "-c", asks
    )
    assert shown.split() == ["584792", ".venv", "scripts"]
    layers = [
        json.loads(engine.docker("inspect", "--format", "{{json .RootFS.Layers}}", image_of(one)))
        for one in SERVICES
    ]
    assert layers[0] == layers[1] == layers[2]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("after_seconds", [0, 1, 4])
def test_a_service_ends_cleanly_whenever_it_is_stopped(
    engine: Engine, service: str, after_seconds: int
) -> None:
    """Without its servers: the API, which does not wait for them, may have ended by itself."""
    nowhere = "DATABASE_URL=postgresql://nobody:nothing@127.0.0.1:1/none"
    container = engine.docker("run", "--detach", *_CONFINED, "--env", nowhere, image_of(service))
    time.sleep(after_seconds)  # it is when the signal comes that is tried
    engine.docker("stop", "--time", str(_GRACE_SECONDS), container)
    shown = engine.docker("inspect", "--format", "{{json .State}}", container)
    state = json.loads(shown)
    logs = engine.docker("logs", container)
    engine.docker("rm", container)
    ended_by_itself = service == "api" and "did not answer" in logs
    assert state["ExitCode"] == 0 or ended_by_itself, state
    lasted = datetime.fromisoformat(state["FinishedAt"]) - datetime.fromisoformat(
        state["StartedAt"]
    )
    assert lasted.total_seconds() < after_seconds + _ENDS_WITHIN_SECONDS


@pytest.fixture
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine, with images for all that the compose file names; what it runs is removed."""
    build_stand_ins(engine, tmp_path_factory.mktemp("stand-ins") / "context")
    engine.run("scripts/compose-secrets", within_seconds=60)
    try:
        yield engine
    finally:
        engine.compose("down", "--volumes", "--timeout", "10")


def rows_of(stack: Engine) -> int:
    counted = "SELECT count(*) FROM workplace.temporal_workflows"
    shown = stack.compose(
        *("exec", "--no-TTY", "warehouse", "psql", "--username", "temporaletl"),
        *("--tuples-only", "--command", counted),
    )
    return int(shown)


def etl(stack: Engine, *arguments: str) -> str:
    return stack.compose("run", "--rm", "--no-TTY", "etl", *arguments)


def test_the_stack_loads_is_scaled_ends_and_goes_on_with_its_data(stack: Engine) -> None:
    stack.compose("up", "--detach", "--no-build", "--wait")
    token = etl(stack, "token", "create", "test", "--scope", "operate")
    etl(stack, "run", "temporal", "--mode", "full", "--wait")
    first = rows_of(stack)
    assert first > 0

    stack.compose("up", "--detach", "--no-build", "--wait", "--scale", "worker=3")
    etl(stack, "run", "temporal", "--wait")
    second = rows_of(stack)
    assert second > first
    assert len(stack.compose("ps", "--quiet", "worker").split()) == 3

    stack.compose("stop")
    states = [
        json.loads(line) for line in stack.compose("ps", "--all", "--format", "json").splitlines()
    ]
    ours = [each for each in states if each["Service"] in SERVICES]
    assert {each["ExitCode"] for each in ours} == {0}, ours
    stack.compose("down")

    stack.compose("up", "--detach", "--no-build", "--wait")
    assert rows_of(stack) == second
    asks = (
        "import sys, urllib.request as r; print(r.urlopen(r.Request("
        "'http://api:8080/api/v1/runs', headers={'Authorization': f'Bearer {sys.argv[1]}'}"
        ")).status)"
    )
    answered = stack.compose(
        *("run", "--rm", "--no-TTY", "--entrypoint", "python", "etl", "-c", asks, token.split()[-1])
    )
    assert answered.endswith("200")
