"""What images, rocks and the compose file say: it is valid, agrees, and names what there is."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from fastapi.routing import APIRoute

from temporaletl.control.api.routes import health
from temporaletl.embedded.temporal_server import MATCHING
from temporaletl.setting_catalogue import platform_settings, settings_of_source
from temporaletl.strategies import import_sources
from tests.documentation import ROOT

#: The services, by the folder with the files of their images.
SERVICES = {name: ROOT / name for name in ("queuer", "worker", "api")}
_COMPOSE = ROOT / "docker-compose.yml"
_DEVELOPMENT = ROOT / "docker-compose.dev.yml"
_VERSION = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
#: What other programs than ours read.
_FOREIGN = {
    *("HOME", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED", "USER", "UV_*"),
    *("TEMPORALETL_SERVICE",),
}
_GRACE = re.compile(r"(\d+)s$")


def run(*command: str | Path, folder: Path = ROOT) -> str:
    ended = subprocess.run(
        [str(Path(sys.executable).with_name(str(command[0]))), *map(str, command[1:])],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def composed(*files: Path) -> Mapping[str, Any]:
    """The services as compose understands them: it fails on a word that it does not know."""
    given = [argument for file in files for argument in ("--file", str(file))]
    shown = run("docker-compose", *given, "--profile", "*", "config", "--format", "json")
    services: Mapping[str, Any] = json.loads(shown)["services"]
    return services


def is_known(variable: str) -> bool:
    """Whether a variable is a setting of ours, or another program's."""
    import_sources("temporaletl.queuer.sources")
    settings = [*platform_settings(), *(settings_of_source("trino"))]
    names = {name for one in settings for name in (*one.names, *one.files)} | _FOREIGN
    return any(fnmatchcase(variable, name) for name in names)


def rock(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((folder / "rockcraft.yaml").read_text())
    return read


@contextmanager
def answering(path: str) -> Iterator[int]:
    """A port where one path is answered with 200, and all others with 404."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == path else 404)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


# -- images ------------------------------------------------------------------------------------


def test_dockerfiles_differ_in_their_last_stage_alone() -> None:
    texts = [(folder / "Dockerfile").read_text() for folder in SERVICES.values()]
    shared = {text.rpartition("\nFROM runtime\n")[0] for text in texts}
    assert len(shared) == 1
    assert "USER 584792:584792\n" in shared.pop()


@pytest.mark.parametrize("service", SERVICES)
def test_a_dockerfile_is_clean_and_starts_its_service(service: str) -> None:
    dockerfile = SERVICES[service] / "Dockerfile"
    run("hadolint", "--no-color", dockerfile)
    lines = dockerfile.read_text().splitlines()
    assert lines[-1] == f'CMD ["{service}"]'
    words = [word for line in lines if line.startswith("ENV ") for word in line.split()[1:]]
    assert all(is_known(word.partition("=")[0]) for word in words), words


@pytest.mark.parametrize("service", ["queuer", "worker"])
@pytest.mark.parametrize("path", ["/ready", "/health"])
def test_a_container_is_healthy_once_its_service_is_ready(service: str, path: str) -> None:
    (check,) = re.findall(
        r"HEALTHCHECK .*\n +CMD (.+)\n", (SERVICES[service] / "Dockerfile").read_text()
    )
    _, *arguments = json.loads(check)
    with answering(path) as port:
        asked = subprocess.run(
            [sys.executable, *arguments],
            env={"ETL_METRICS_PORT": str(port)},
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (asked.returncode == 0) == (path == "/ready"), asked.stderr


def test_the_api_is_asked_for_its_health_where_it_tells_of_it() -> None:
    """By the image, and by Pebble."""
    (check,) = rock(SERVICES["api"])["checks"].values()
    addresses = (SERVICES["api"] / "Dockerfile").read_text(), check["http"]["url"]
    asked = [found for text in addresses for found in re.findall(r"[0-9}](/[a-z0-9/]+)", text)]
    served = {route.path for route in health.router.routes if isinstance(route, APIRoute)}
    assert len(asked) == 2
    assert {*asked} <= served


def test_shell_scripts_are_clean() -> None:
    folders = (ROOT / "scripts", ROOT / ".ci", ROOT / "tests/integration/containers")
    files = [file for folder in folders for file in folder.iterdir() if file.is_file()]
    scripts = [file for file in files if re.match(r"#.*(\b|/)(ba)?sh\n", file.read_text())]
    assert len(scripts) > 8
    run("shellcheck", "-x", "-P", ROOT / "scripts", "--severity", "warning", *scripts)


# -- compose -----------------------------------------------------------------------------------


def test_services_of_the_compose_file_have_settings_that_exist_and_secrets_by_file() -> None:
    services = composed(_COMPOSE)
    ours = {name for name, each in services.items() if "temporaletl-" in each["image"]}
    assert ours == {*SERVICES, "etl"}
    for name in ours:
        each = services[name]
        unknown = [one for one in each["environment"] if not is_known(one)]
        assert not unknown, name
        assert each["read_only"] is True
        assert each["image"].endswith(f":{_version()}")
        given = {one: value for one, value in each["environment"].items() if value}
        assert [one for one in given if "PASSWORD" in one] == ["WPE_DB_PASSWORD_FILE"]


def test_whatever_the_compose_file_runs_has_no_more_rights_than_it_needs() -> None:
    services = composed(_COMPOSE)
    ports: dict[str, list[str]] = {}
    for name, each in services.items():
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in each
        ports |= {name: [p["host_ip"] for p in each["ports"]]} if "ports" in each else {}
    assert ports == {"api": ["127.0.0.1"], "temporal-ui": ["127.0.0.1"]}
    assert services["temporal"]["environment"]["NUM_HISTORY_SHARDS"] == "512"


def test_the_development_override_opens_ports_to_this_machine_alone() -> None:
    services = composed(_COMPOSE, _DEVELOPMENT)
    published = [port for each in services.values() for port in each.get("ports", [])]
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    numbers = [port["published"] for port in published]
    assert sorted(numbers) == ["5432", "7233", "8080", "8081", "8233"]
    assert all(is_known(name) for name in services["worker"]["environment"])


def test_temporal_of_the_compose_file_has_the_settings_of_the_embedded_one() -> None:
    settings = yaml.safe_load((ROOT / "deploy/temporal.yaml").read_text())
    found = {f"{name}={str(one['value']).lower()}" for name, (one,) in settings.items()}
    assert found == {*MATCHING}
    mounted = {each["source"] for each in composed(_COMPOSE)["temporal"]["volumes"]}
    assert mounted == {str(ROOT / "deploy/temporal.yaml")}


def _version() -> str:
    assert _VERSION is not None
    return _VERSION[1]


# -- rocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_a_rock_is_what_rockcraft_takes(service: str, recorded: Path) -> None:
    schema = json.loads((recorded / "schemas" / "rockcraft.json").read_text())
    check = jsonschema_rs.validator_for(schema)
    assert [error.message for error in check.iter_errors(rock(SERVICES[service]))] == []
    misspelt = rock(SERVICES[service])
    misspelt["parts"]["start"]["sauce"] = "."
    assert not check.is_valid(misspelt)


@pytest.mark.parametrize("service", SERVICES)
def test_a_rock_names_what_there_is(service: str) -> None:
    """What the schema lacks: services, files, and sources that the build's instance can see."""
    described = rock(SERVICES[service])
    assert (described["name"], described["version"]) == (f"temporaletl-{service}", _version())
    assert all(is_known(name) for name in described["environment"])
    assert "entrypoint-service" not in described
    # Python looks from where a folder is, not from the link that leads there.
    folder = SERVICES[service].resolve()
    for name, part in described["parts"].items():
        if "source" in part:
            source = (folder / part["source"]).resolve()
            assert source.is_relative_to(ROOT), name
            for file in part.get("organize", {}):
                assert (source / file).is_file(), file
    assert (folder / described["parts"]["dependencies"]["source"] / "uv.lock").is_file()
    (unit,) = described["services"].values()
    start, given = unit["command"].split()
    assert (start, given) == ("/app/scripts/start-worker.sh", service)
    assert start[1:] in described["parts"]["start"]["organize"].values()
    assert described["run-user"] == unit["user"] == "_daemon_"


def test_rocks_are_built_alike_and_charmed_ones_run_their_service_without_an_argument() -> None:
    built = [
        yaml.dump(rock(folder)["parts"]).replace("../../..", "../..")
        for folder in SERVICES.values()
    ]
    assert len(set(built)) == 1
    for service in ("queuer", "worker"):
        described = rock(SERVICES[service])
        assert [*described["services"]] == ["temporal-worker"]
        assert described["environment"]["TEMPORALETL_SERVICE"] == service


def test_whoever_stops_a_service_waits_longer_than_it_takes() -> None:
    (default,) = (
        float(setting.default)
        for setting in platform_settings()
        if "ETL_GRACEFUL_SHUTDOWN_SECONDS" in setting.names
    )
    services = composed(_COMPOSE)
    for service, folder in SERVICES.items():
        (unit,) = rock(folder)["services"].values()
        graces = unit["kill-delay"], services[service]["stop_grace_period"]
        for grace in graces:
            minutes, _, seconds = grace.rpartition("m")
            found = _GRACE.match(seconds)
            assert found is not None
            assert int(minutes or 0) * 60 + int(found[1]) > default
