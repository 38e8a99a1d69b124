"""The images and the compose file, built and run by an engine of the tests' own."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pytest

from tests.integration.containers.engine import SERVICES, Engine, build_ours, build_stand_ins
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

#: The least that a container gets.
_CONFINED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),  # noqa: S108 - of the container
    *("--security-opt", "no-new-privileges"),
)
#: More than a service without work takes to end, and less than the grace after which it is killed.
_ENDS_WITHIN_SECONDS = 30
_GRACE_SECONDS = 70
_COMES_SO_FAR_WITHIN_SECONDS = 300
_FOREIGN_TOOLS = ("gcc", "cc", "as", "ld", "make", "uv")
#: Of a container of the stack, in seconds, when it is stopped.
_AGES = (0, 1, 3, 30)


@pytest.fixture(scope="module")
def engine(bare_engine: Engine) -> Engine:
    """An engine that has our images."""
    build_ours(bare_engine)
    return bare_engine


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


def state_of(engine: Engine, container: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(
        engine.docker("inspect", "--format", "{{json .State}}", container)
    )
    return state


def has_come_so_far(engine: Engine, container: str, moment: str) -> bool:
    """Whether a service has come to a moment of its start, or beyond it."""
    match moment:
        case "started":
            return True
        case "python":
            ended = not state_of(engine, container)["Running"]
            return ended or "python" in engine.docker("top", container, "-eo", "comm,pid")
        case _:
            # What has no servers says so, and waits or ends.
            said = engine.logs(container)
            return "warehouse_unavailable" in said or "did not answer" in said


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("moment", ["started", "python", "looks for its servers"])
def test_a_service_ends_cleanly_whenever_it_is_stopped(
    engine: Engine, service: str, moment: str
) -> None:
    """Without its servers: the API, which does not wait for them, may have ended by itself."""
    nowhere = "DATABASE_URL=postgresql://nobody:nothing@127.0.0.1:1/none"
    container = engine.docker("run", "--detach", *_CONFINED, "--env", nowhere, image_of(service))
    asyncio.run(
        until(
            lambda: has_come_so_far(engine, container, moment),
            within_seconds=_COMES_SO_FAR_WITHIN_SECONDS,
        )
    )
    stopped_at = datetime.now(UTC)
    engine.docker("stop", "--time", str(_GRACE_SECONDS), container)
    state, logs = state_of(engine, container), engine.logs(container)
    engine.docker("rm", container)
    ended_by_itself = service == "api" and "did not answer" in logs
    assert state["ExitCode"] == 0 or ended_by_itself, state
    lasted = datetime.fromisoformat(state["FinishedAt"]) - stopped_at
    assert lasted.total_seconds() < _ENDS_WITHIN_SECONDS


@pytest.fixture(scope="module")
def stack(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine, with images for all that the compose file names; what it runs is removed."""
    build_stand_ins(engine, tmp_path_factory.mktemp("stand-ins") / "context")
    engine.run("scripts/compose-secrets", within_seconds=60)
    try:
        yield engine
    finally:
        engine.compose("down", "--volumes", "--timeout", "10")


def states_of(stack: Engine) -> list[dict[str, Any]]:
    """What compose knows of each container of the stack."""
    shown = stack.compose("ps", "--all", "--format", "json")
    return [json.loads(line) for line in shown.splitlines()]


def start(stack: Engine, *options: str) -> None:
    """Start the stack and wait until all is well: on a busy machine a check may fail before."""
    stack.compose("up", "--detach", "--no-build", *options)
    asyncio.run(
        until(
            lambda: all(
                each["Health"] in ("", "healthy") and each["ExitCode"] == 0
                for each in states_of(stack)
            ),
            within_seconds=_COMES_SO_FAR_WITHIN_SECONDS,
        )
    )


def rows_of(stack: Engine) -> int:
    counted = "SELECT count(*) FROM workplace.temporal_workflows"
    shown = stack.compose(
        *("exec", "--no-TTY", "warehouse", "psql", "--username", "temporaletl"),
        *("--tuples-only", "--command", counted),
    )
    return int(shown)


def etl(stack: Engine, *arguments: str) -> str:
    return stack.compose("run", "--rm", "--no-TTY", "etl", *arguments)


def container_of(stack: Engine, service: str) -> str:
    """The first container of a service of the compose file."""
    return stack.compose("ps", "--all", "--quiet", service).split()[0]


def polls_after_seconds(stack: Engine, container: str) -> float:
    """The time from the start of a service's container to its first poll, by its own words."""
    began = datetime.fromisoformat(state_of(stack, container)["StartedAt"])
    said = [json.loads(line) for line in stack.logs(container).splitlines() if line[:1] == "{"]
    polls = [one["timestamp"] for one in said if one["event"] == "service_started"]
    return (datetime.fromisoformat(polls[-1]) - began).total_seconds()


def stopped_at(stack: Engine, container: str, age: int) -> float:
    """How long it takes to stop a container that has run for so many seconds."""
    stack.docker("start", container)
    began = datetime.fromisoformat(state_of(stack, container)["StartedAt"])
    asyncio.run(
        until(lambda: (datetime.now(UTC) - began).total_seconds() >= age, within_seconds=60)
    )
    asked = datetime.now(UTC)
    stack.docker("stop", "--time", str(_GRACE_SECONDS), container)
    state = state_of(stack, container)
    assert state["ExitCode"] == 0, (age, state, stack.logs(container)[-2000:])
    return (datetime.fromisoformat(state["FinishedAt"]) - asked).total_seconds()


def test_services_of_the_stack_are_small_and_end_cleanly_at_any_age(
    stack: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints are the figures of docs/containers.md."""
    start(stack)
    shown = []
    for service in SERVICES:
        container, image = container_of(stack, service), image_of(service)
        user = stack.docker("exec", container, "id", "-u")
        assert user == "584792"
        size = int(stack.docker("inspect", "--format", "{{.Size}}", image)) / 1e6
        used = stack.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container)
        line = f"{service}: user {user}, {size:.0f} MB, memory {used.partition(' /')[0]}"
        if service != "api":
            line += f", polls {polls_after_seconds(stack, container):.1f} s after its start"
        stack.docker("stop", "--time", str(_GRACE_SECONDS), container)
        ends = [f"{age} s: {stopped_at(stack, container, age):.1f} s" for age in _AGES]
        shown.append(f"{line}; stopped at the age of {', '.join(ends)}")
    with capsys.disabled():
        print("", *shown, sep="\n")  # noqa: T201 - what it is for


def test_the_stack_loads_is_scaled_ends_and_goes_on_with_its_data(stack: Engine) -> None:
    start(stack)
    token = etl(stack, "token", "create", "test", "--scope", "operate")
    etl(stack, "run", "temporal", "--mode", "full", "--wait")
    first = rows_of(stack)
    assert first > 0

    start(stack, "--scale", "worker=3")
    etl(stack, "run", "temporal", "--wait")
    second = rows_of(stack)
    assert second > first
    assert len(stack.compose("ps", "--quiet", "worker").split()) == 3

    stack.compose("stop")
    ours = [each for each in states_of(stack) if each["Service"] in SERVICES]
    assert {each["ExitCode"] for each in ours} == {0}, ours
    stack.compose("down")

    start(stack)
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
