"""A container engine of the tests' own, with base images that are made of Debian's packages."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from temporaletl.embedded.temporal_command import cache_folder, find_temporal
from tests.documentation import ROOT
from tests.integration.temporal_production import production_temporal
from tests.waiting import until

_HERE = Path(__file__).parent
#: Debian's own: others may want a plugin for builds, which is not there.
_DOCKER = "/usr/bin/docker"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE = "python:3.13-slim-trixie"
_IN_BASE = "ca-certificates,python3,python3-venv"
_DEBIAN = "deb http://deb.debian.org/debian trixie main"
_UV = "ghcr.io/astral-sh/uv:0.13.9"
_STARTED_WITHIN_SECONDS = 60
_BUILT_WITHIN_SECONDS = 1800
#: Where Debian has what only root runs.
_PATH = f"{os.environ['PATH']}:/usr/sbin"
#: Others of this machine may have those of the compose file.
_ANY_PORTS = {"ETL_API_PORT": "0", "TEMPORAL_UI_PORT": "0"}
SERVICES = ("worker", "queuer", "api")
#: The images of docker-compose.yml that are not ours, by the stage of stand-ins.Dockerfile.
_STAND_INS = {
    "postgres:17": "postgres",
    "temporalio/admin-tools:1.31.0": "temporal",
    "temporalio/server:1.31.0": "temporal",
    "temporalio/ui:2.49.1": "page",
    "trinodb/trino:476": "page",
}
#: Where the lifecycle of a rock's parts runs.
PARTS = "rock-parts:test"


@dataclass(frozen=True)
class Engine:
    """A running engine, by the address of its socket."""

    address: str

    def docker(self, *arguments: str | Path, within_seconds: float = 300) -> str:
        """What a docker command prints; it must succeed."""
        return self.run(_DOCKER, *arguments, within_seconds=within_seconds)

    def compose(self, *arguments: str | Path, within_seconds: float = 600) -> str:
        """The same for docker-compose, with the checkout's file, and nothing to be pulled."""
        compose = Path(sys.executable).with_name("docker-compose")
        return self.run(compose, *arguments, within_seconds=within_seconds)

    def run(self, *command: str | Path, within_seconds: float) -> str:
        """What a command prints that finds this engine; it must succeed."""
        ended = subprocess.run(
            [str(word) for word in command],
            cwd=ROOT,
            env={**os.environ, **_ANY_PORTS, "DOCKER_HOST": self.address, "DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            timeout=within_seconds,
            check=False,
        )
        assert ended.returncode == 0, f"{command}: {ended.stdout[-2000:]}{ended.stderr[-4000:]}"
        return ended.stdout.strip()

    def logs(self, container: str) -> str:
        """All that a container has said."""
        ended = subprocess.run(
            [_DOCKER, "--host", self.address, "logs", container],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=True,
        )
        return ended.stdout

    def build(self, tag: str, dockerfile: Path, context: Path, *more: str) -> None:
        asked = ["build", "--quiet", "--network", "host", "--tag", tag, "--file", str(dockerfile)]
        self.docker(*asked, *more, str(context), within_seconds=_BUILT_WITHIN_SECONDS)


def missing() -> str | None:
    """What an engine cannot be started for here; None: nothing."""
    if os.geteuid():
        return "a container engine takes root"
    absent = [one for one in ("dockerd", "mmdebstrap") if shutil.which(one, path=_PATH) is None]
    if not Path(_DOCKER).exists():
        absent.append(_DOCKER)
    return f"no {' and '.join(absent)}" if absent else None


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """Start an engine that keeps everything in a folder, and end it with all that it runs."""
    log = folder / "log"
    engine = Engine(f"unix://{folder / 'socket'}")
    with log.open("wb") as writes:
        process = subprocess.Popen(
            [
                *("dockerd", "--data-root", folder / "data", "--exec-root", folder / "exec"),
                *("--pidfile", folder / "pid", "--host", engine.address),
                *("--default-ulimit", "nofile=20000:20000"),
            ],
            stdout=writes,
            stderr=writes,
            env={**os.environ, "PATH": _PATH},
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        asked = [_DOCKER, "--host", engine.address, "version"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    try:
        asyncio.run(until(answers, within_seconds=_STARTED_WITHIN_SECONDS))
        yield engine
    finally:
        process.terminate()
        process.wait(_STARTED_WITHIN_SECONDS)
        _unmount_below(folder)


def _unmount_below(folder: Path) -> None:
    """Unmount what an engine leaves, such as its network's namespace: else the folder stays."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounted):
        if Path(mount).is_relative_to(folder):
            subprocess.run(["umount", mount], check=True)


def import_base_images(engine: Engine, folder: Path) -> None:
    """Give the engine what the Dockerfiles build from: a Debian with Python, and uv."""
    base, uv = folder / "base", folder / "uv"
    for each in (base, uv):
        each.mkdir()
    made = cache_folder() / "debian-trixie.tar"
    if not made.exists():
        part = made.with_suffix(".part")
        including = f"--include={_IN_BASE}"
        engine.run(
            *("mmdebstrap", "--mode=root", "--format=tar", "--variant=minbase", including),
            *("trixie", part, _DEBIAN),
            within_seconds=_BUILT_WITHIN_SECONDS,
        )
        part.rename(made)
    engine.docker("import", made, "debian-with-python")
    shutil.copy(_CERTIFICATES, base)
    (base / "Dockerfile").write_text(
        f"FROM debian-with-python\nCOPY {_CERTIFICATES.name} {_CERTIFICATES}\n"
    )
    engine.build(BASE, base / "Dockerfile", base)
    asked = f'source "{ROOT}/scripts/environment.sh"; find_uv; printf %s "$uv"'
    shutil.copy(engine.run("bash", "-c", asked, within_seconds=300), uv / "uv")
    (uv / "Dockerfile").write_text("FROM scratch\nCOPY uv /uv\n")
    engine.build(_UV, uv / "Dockerfile", uv)


def build_ours(engine: Engine) -> None:
    """The three images, under the names of docker-compose.yml."""
    for service in SERVICES:
        engine.build(
            f"temporaletl-{service}:{version('temporaletl')}",
            ROOT / service / "Dockerfile",
            ROOT,
            *("--build-arg", "UV_SYSTEM_CERTS=true"),
        )


def build_stand_ins(engine: Engine, folder: Path) -> None:
    """The other images of docker-compose.yml: the same programs or smaller ones."""
    server = production_temporal()
    _build_stages(engine, folder, _STAND_INS, server=server)


def build_parts(engine: Engine, folder: Path) -> None:
    """An image that runs the lifecycle of parts: rock_parts.py."""
    _build_stages(engine, folder, {PARTS: "parts"})


def _build_stages(
    engine: Engine, folder: Path, stages: Mapping[str, str], *, server: Path | None = None
) -> None:
    shutil.copytree(_HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    if server is not None:
        temporal = find_temporal()
        assert temporal is not None, "no Temporal command"
        shutil.copy(temporal, folder / "temporal")
        shutil.copytree(server, folder / "server")
    for tag, stage in stages.items():
        engine.build(tag, folder / "stand-ins.Dockerfile", folder, "--target", stage)
