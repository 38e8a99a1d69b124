"""`start-worker.sh`, a container's first process: which service, with what, and how it ends."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.documentation import ROOT

_WITHIN_SECONDS = 180
#: In the place of Python: says that it has begun, and what it was started with.
_SAYS = 'echo "$@"; env\n'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script in an image's folder, whose Python is to be written."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    return Path(shutil.copy(ROOT / "scripts" / "start-worker.sh", tmp_path / "scripts"))


def write_python(script: Path, text: str) -> None:
    python = script.parents[1] / ".venv" / "bin" / "python"
    python.write_text(f"#!/usr/bin/env bash\n{text}")
    python.chmod(0o755)


def started(script: Path, *arguments: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """What Python is started with: arguments and environment."""
    write_python(script, _SAYS)
    ended = subprocess.run(
        [script, *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=_WITHIN_SECONDS,
        check=True,
    )
    first, *lines = ended.stdout.splitlines()
    return first.split(), dict(line.split("=", 1) for line in lines if "=" in line)


@contextlib.contextmanager
def running(script: Path, python: str, *before: str) -> Iterator["subprocess.Popen[str]"]:
    """The script with such a Python, once that has printed a line."""
    write_python(script, python)
    with subprocess.Popen([*before, str(script)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("arguments", "environment", "command"),
    [
        ([], {}, "-m temporaletl.worker"),
        (["worker"], {}, "-m temporaletl.worker"),
        ([], {"TEMPORALETL_SERVICE": "queuer"}, "-m temporaletl.queuer"),
        (["queuer"], {"TEMPORALETL_SERVICE": "worker"}, "-m temporaletl.queuer"),
        (["worker", "--processes", "2"], {}, "-m temporaletl.worker --processes 2"),
        (["api"], {}, "-m temporaletl.control.cli serve"),
    ],
)
def test_it_starts_the_service_that_is_asked_for(
    script: Path, arguments: list[str], environment: dict[str, str], command: str
) -> None:
    assert started(script, *arguments, **environment)[0] == command.split()


def test_another_service_is_refused(script: Path) -> None:
    ended = subprocess.run([script, "warehouse"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "usage: start-worker.sh [worker|queuer|api]\n"


def test_the_charms_configuration_becomes_settings(script: Path) -> None:
    key = "3q2+7w=="
    charm = {"HOST": "temporal:7233", "NAMESPACE": "etl", "QUEUE": "loads", "TLS_ROOT_CAS": ""}
    charm["PROMETHEUS_PORT"] = "9000"
    given = {f"{prefix}_{name}": charm[name] for prefix in ("TWC", "TEMPORAL") for name in charm}
    _, worker = started(script, "worker", TWC_ENCRYPTION_KEY=key, **given)
    assert worker["TEMPORAL_ADDRESS"] == "temporal:7233"
    assert worker["TEMPORAL_NAMESPACE"] == "etl"
    assert worker["TEMPORAL_ETL_QUEUE"] == "loads"
    assert (worker["ETL_METRICS_HOST"], worker["ETL_METRICS_PORT"]) == ("0.0.0.0", "9000")  # noqa: S104
    assert not {"TEMPORAL_HOST", "TEMPORAL_QUEUE", "TEMPORAL_TLS_SERVER_CA_CERT_DATA"} & {*worker}
    digest = sha256(key.encode()).hexdigest()[:12]
    assert worker["ETL_PAYLOAD_KEYS"] == f"twc-{digest}:{key}"

    given |= {"TWC_TLS_ROOT_CAS": "PEM", "ETL_PAYLOAD_KEYS_FILE": "/keys"}
    _, queuer = started(script, "queuer", TWC_ENCRYPTION_KEY=key, **given)
    assert (queuer["TEMPORAL_QUEUE"], "TEMPORAL_ETL_QUEUE" in queuer) == ("loads", False)
    assert queuer["TEMPORAL_TLS_SERVER_CA_CERT_DATA"] == "PEM"
    assert "ETL_PAYLOAD_KEYS" not in queuer


def test_without_the_charm_settings_stay_as_they_are(script: Path) -> None:
    mine = {"TEMPORAL_QUEUE": "plans", "TEMPORAL_HOST": "temporal", "ETL_PAYLOAD_KEYS": "k1:AA=="}
    _, environment = started(script, "queuer", **mine)
    assert {name: environment.get(name) for name in mine} == mine
    assert not {"TEMPORAL_ADDRESS", "ETL_METRICS_HOST"} & {*environment}


@pytest.mark.parametrize("status", [0, 2, 143])
def test_a_service_that_ends_by_itself_gives_its_status(script: Path, status: int) -> None:
    with running(script, f"echo begun; exit {status}") as process:
        assert process.wait(_WITHIN_SECONDS) == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("ends_with", [0, 5])
def test_a_stopped_service_finishes_however_often_it_is_told(
    script: Path, number: signal.Signals, ends_with: int
) -> None:
    asked, finish = script.with_name("asked"), script.with_name("finish")
    for fifo in (asked, finish):
        os.mkfifo(fifo)
    python = (
        "trap told=yes TERM\necho begun\nuntil [[ ${told:-} ]]; do sleep 0.05; done\n"
        f"trap '' TERM\necho >{asked}\nread <{finish}\nexit {ends_with}"
    )
    with running(script, python) as process:
        process.send_signal(number)
        asked.read_text()  # returns once the service has been told
        process.send_signal(number)
        finish.write_text("\n")
        assert process.wait(_WITHIN_SECONDS) == ends_with


def test_a_service_that_had_not_begun_is_stopped_at_once_also_by_a_first_process(
    script: Path,
) -> None:
    """The kernel gives a first process no signal that it has no handler for."""
    alone = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        alone = []  # no right to make one: the script's own part of it is left
    with running(script, "echo begun; exec sleep 1000", *alone) as process:
        first = process.pid
        if alone:
            first = int(Path(f"/proc/{first}/task/{first}/children").read_text())
        os.kill(first, signal.SIGTERM)
        assert process.wait(_WITHIN_SECONDS) == 0
