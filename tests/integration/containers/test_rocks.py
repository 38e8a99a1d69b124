"""The parts of a rock, put together as `rockcraft pack` does, and what they start."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documentation import ROOT
from tests.integration.containers.engine import BASE, PARTS, SERVICES, Engine, build_parts
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_NOT_CHECKED_OUT = shutil.ignore_patterns(".*", "__pycache__")
_DAEMON = 584792
_LIFECYCLE_WITHIN_SECONDS = 3000
_SAYS_WITHIN_SECONDS = 300
#: What each service says once it looks for its servers, of which there is none.
_FIRST_WORDS = {
    "worker": "warehouse_unavailable",
    "queuer": "warehouse_unavailable",
    "api": "did not answer",
}
#: As a rock's layer is put over its base: where that has a link, the link stays. Python itself is
#: the base's; rockcraft leaves the links to it out.
_OVER_THE_BASE = """
tar --directory /prime --create --exclude './bin/python*' . |
    tar --directory / --extract --keep-directory-symlink
"""
_ROCK = "rock:test"


def recipe(service: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / service / "rockcraft.yaml").read_text())
    return read


@pytest.fixture(scope="module")
def prime(bare_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the parts of a rock leave; those of all three rocks are the same."""
    checkout, work = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("work")
    shutil.copytree(ROOT, checkout, ignore=_NOT_CHECKED_OUT, symlinks=True, dirs_exist_ok=True)
    build_parts(bare_engine, tmp_path_factory.mktemp("parts") / "context")
    folder = (ROOT / "worker").resolve().relative_to(ROOT)
    ran = bare_engine.docker(
        *("run", "--rm", "--network", "host", "--workdir", f"/checkout/{folder}"),
        *("--volume", f"{checkout}:/checkout", "--volume", f"{work}:/work"),
        *(PARTS, "rockcraft.yaml", "/work"),
        within_seconds=_LIFECYCLE_WITHIN_SECONDS,
    )
    assert ran.splitlines()[-1] == "dependencies start"
    return work / "prime"


def test_a_rock_has_what_its_recipe_says(prime: Path) -> None:
    assert [path.name for path in (prime / "app/scripts").iterdir()] == ["start-worker.sh"]
    [packages] = prime.glob("lib/python3*/site-packages")
    assert (packages / "temporaletl/worker/__main__.py").is_file()
    assert not (packages / "pytest").exists()
    left = {path.name for path in prime.glob("bin/*")}
    assert "etl" in left
    assert not [name for name in left if name.startswith(("activate", "deactivate"))]
    assert not (prime / "CACHEDIR.TAG").exists()
    # It would hide what the base has there: no program would start.
    assert not (prime / "lib64").is_symlink()


@pytest.fixture(scope="module")
def rock(bare_engine: Engine, prime: Path) -> Engine:
    """The engine, with an image of the parts over the base."""
    container = bare_engine.docker(
        *("create", "--volume", f"{prime}:/prime:ro", BASE, "sh", "-euc", _OVER_THE_BASE)
    )
    bare_engine.docker("start", "--attach", container)
    bare_engine.docker("commit", container, _ROCK)
    bare_engine.docker("rm", container)
    return bare_engine


@pytest.mark.parametrize("service", SERVICES)
def test_a_rock_starts_its_service_and_ends_it(rock: Engine, prime: Path, service: str) -> None:
    # Where rockcraft has Python look for packages, too.
    [packages] = prime.glob("lib/python3*/site-packages")
    given = {
        **recipe(service)["environment"],
        "DATABASE_URL": "postgresql://nobody:nothing@127.0.0.1:1/none",
        "PYTHONPATH": f"/{packages.relative_to(prime)}",
    }
    container = rock.docker(
        *("run", "--detach", "--init", "--user", f"{_DAEMON}:{_DAEMON}"),
        *(word for name, value in given.items() for word in ("--env", f"{name}={value}")),
        *(_ROCK, "/app/scripts/start-worker.sh", service),
    )
    try:
        asyncio.run(
            until(
                lambda: _FIRST_WORDS[service] in rock.logs(container),
                within_seconds=_SAYS_WITHIN_SECONDS,
            )
        )
        rock.docker("stop", "--time", "70", container)
        state = json.loads(rock.docker("inspect", "--format", "{{json .State}}", container))
        # The API does not wait for its servers.
        assert state["ExitCode"] == 0 or service == "api", rock.logs(container)
    finally:
        rock.docker("rm", "--force", container)
