"""The wheel, installed in an environment of its own beside a distribution with a taken name."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.checkout import PROJECT

# The Python Control Systems Library, whose package was once overwritten by one of ours.
_NEIGHBOUR = "control==0.10.2"
#: How commands, certificates and package indexes are found here.
_KEPT = ("PATH", "HOME", "UV_", "SSL_", "HTTP", "http", "ALL_PROXY", "NO_PROXY")


def run(*command: str | Path, folder: Path) -> str:
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={name: os.environ[name] for name in os.environ if name.startswith(_KEPT)},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended.stdout


def uv(*arguments: str | Path, folder: Path) -> None:
    script = (
        f'source "{PROJECT}/scripts/environment.sh"; find_uv; UV_SYSTEM_CERTS=true exec "$uv" "$@"'
    )
    run("bash", "-c", script, "uv", *arguments, folder=folder)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=PROJECT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.timeout(600)
def test_it_stands_beside_a_distribution_that_has_a_package_called_control(
    wheel: Path, tmp_path: Path
) -> None:
    python = tmp_path / "env" / "bin" / "python"
    uv("venv", "--quiet", "--python", sys.executable, tmp_path / "env", folder=tmp_path)
    ours_for_jira = f"temporaletl[jira] @ {wheel.as_uri()}"
    uv("pip", "install", "--quiet", "--python", python, ours_for_jira, _NEIGHBOUR, folder=tmp_path)

    listed = json.loads(run(python.parent / "etl", "sources", "--json", folder=tmp_path))
    assert {"jira", "launchpad", "temporal"} <= {each["source"] for each in listed}
    ours, theirs = (
        set(json.loads(run(python, "-c", _TOP_LEVEL, name, folder=tmp_path)))
        for name in ("temporaletl", "control")
    )
    assert (ours, theirs) == ({"temporaletl"}, {"control"})
    faults = json.loads(run(python, "-c", _FAULTS, folder=tmp_path))
    assert faults["trino"] == (
        "the library trino is not installed: `pip install 'temporaletl[trino]'`"
    )
    assert faults["jira"].startswith("JIRA_URL is not set")
    assert faults["ai_agent"] == (
        "the library openai is not installed: `pip install 'temporaletl[ai]'`"
    )
    for services in ("temporaletl.queuer", "temporaletl.worker"):
        run(python, "-c", f"import control, temporaletl, {services}", folder=tmp_path)


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    build = (sys.executable, "-m", "hatchling", "build", "-d", tmp_path, "-t")
    run(*build, "sdist", folder=PROJECT)
    (source,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(source, tmp_path, filter="data")
    run(*build, "wheel", folder=tmp_path / source.name.removesuffix(".tar.gz"))
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


_FAULTS = """
import json
from temporaletl.control.operations.checks import settings_faults
from temporaletl.errors import ConfigurationError
from temporaletl.worker.pipelines.model.chat import model_library
faults = dict(settings_faults())
try:
    model_library()
except ConfigurationError as error:
    faults["ai_agent"] = str(error)
print(json.dumps(faults))
"""
# What a distribution puts beside all others in an environment.
_TOP_LEVEL = """
import importlib.metadata, json, sys
files = importlib.metadata.files(sys.argv[1])
tops = {file.parts[0] for file in files if ".." not in file.parts}
print(json.dumps(sorted(top for top in tops if not top.endswith(".dist-info"))))
"""
