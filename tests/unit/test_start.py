"""What processes import: commands what they use, services the libraries of what they read."""

import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from temporaletl.temporal import sdk
from temporaletl.worker.pipelines.steps.steps import STEPS, step_of

#: Libraries of single sources, and what they bring along.
_VENDORS = {
    "jira": ("jira",),
    "launchpad": ("launchpadlib", "lazr", "wadllib", "httplib2"),
    "salesforce": ("simple_salesforce", "zeep"),
    "trino": ("trino", "google.auth"),
}
_OF_SOURCES = tuple(name for names in _VENDORS.values() for name in names)
_HEAVY = (
    *("temporalio", "pydantic", "psycopg", "requests", "structlog", "rich.live"),
    *("asyncio", "ssl", "importlib.metadata", "temporaletl.control.operations"),
)
_HELP = """
import temporaletl.control.cli.main
"""
_VIEWS = """
import importlib, pkgutil
from temporaletl.control.cli import views
for found in pkgutil.iter_modules(views.__path__, f"{views.__name__}."):
    importlib.import_module(found.name)
import temporaletl.control.client.calls
"""
_WORKER = """
import temporaletl.queuer.__main__, temporaletl.worker.__main__
from temporaletl.telemetry.logs import configure_logs
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings, WorkerSettings
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
configure_logs()
import_sources("temporaletl.queuer.sources")
import_sources("temporaletl.worker.sources")
service = temporaletl.worker.__main__.service_of(WorkerSettings())
warehouse = Warehouse(WarehouseSettings(host="db.example.com"))
assert service.activities(warehouse, TemporalSettings())
"""
#: What the nodes of pipelines bring, and what draws on terminals.
_OF_SOME_NODES = ("httpx2", "httpcore2", "anyio", "jsonschema_rs", "openai", "pydantic_monty")
_DRAWING = ("rich", "pygments")
_JIRA = f"""
{_WORKER}
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import JiraSite
JiraSite(JiraSettings(url="https://jira.example.com", personal_token="x" * 20)).close()
"""


@pytest.mark.parametrize(
    ("code", "without"),
    [
        (_HELP, _HEAVY),
        (_VIEWS, ("temporalio", "structlog", "fastapi", "apprise", *_OF_SOURCES)),
        (_WORKER, ("fastapi", "typer", *_OF_SOURCES, *_OF_SOME_NODES, *_DRAWING)),
        (_JIRA, ("fastapi", "typer", *(name for name in _OF_SOURCES if name != "jira"))),
    ],
    ids=["help", "commands", "services", "services that read Jira"],
)
def test_nothing_is_imported_that_is_not_used(code: str, without: tuple[str, ...]) -> None:
    ask = f"import json, sys; print(json.dumps([n for n in {without!r} if n in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join((code, ask))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_what_is_looked_for_has_these_names() -> None:
    """A misspelt one would never be found."""
    for name in (*_HEAVY, *_OF_SOURCES, *_OF_SOME_NODES, *_DRAWING, "fastapi", "apprise", "typer"):
        assert find_spec(name) is not None, name


def test_every_type_of_node_has_a_step() -> None:
    """They are found by name, with the first node of their type."""
    waits = {"approval", "delay", "load", "map", "pipeline", "source", "wait_for_webhook"}
    assert {kind for kind in STEPS if step_of(kind).close is not None} == waits


def test_every_name_of_the_sdk_is_the_one_that_types_are_checked_by() -> None:
    """The SDK has some of them twice: its own, and those of its messages."""
    [block] = (n for n in ast.parse(inspect.getsource(sdk)).body if isinstance(n, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    named = {(node.module or "", name.name) for node in imports for name in node.names}
    assert len(named) > 20
    for module, name in named:
        assert getattr(sdk, name) is getattr(import_module(module), name), name
    assert len(named) == sum(len(names) for names in vars(sdk)["_NAMES"].values())
    with pytest.raises(AttributeError, match="has no attribute 'Worker'"):
        _ = sdk.Worker  # type: ignore[attr-defined]
