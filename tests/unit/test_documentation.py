"""The documentation says what there is: its names exist, and every name that exists is in it.

Tables and their columns are compared by `tests/integration/test_documented_tables.py`.
"""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
from pydantic import AliasChoices, BaseModel
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

import temporaletl
from temporaletl.control.cli.main import app
from temporaletl.deletions import scan_planners
from temporaletl.external.rest import TokenSettings
from temporaletl.query import ACCEPT_DELETIONS
from temporaletl.queuer import sources as queuer_sources
from temporaletl.queuer.sources.jira.params import JiraParams
from temporaletl.queuer.sources.launchpad.params import LaunchpadParams
from temporaletl.queuer.sources.salesforce.params import SalesforceParams
from temporaletl.queuer.sources.servicetitan.params import ServiceTitanParams
from temporaletl.queuer.sources.temporal.params import BacklogParams
from temporaletl.queuer.sources.trino.params import TrinoParams
from tests.documentation import (
    DOCS,
    ROOT,
    code_in,
    named_tests,
    pages,
    sections,
    tables,
    text_of,
)

#: Read by no settings class: by the SDK's environment configuration, or where a stack's folder is.
OTHERS = {
    "TEMPORAL_API_KEY",
    "TEMPORAL_TLS",
    "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CLIENT_CERT_DATA",
    "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_CLIENT_KEY_DATA",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
    "TEMPORAL_TLS_SERVER_NAME",
    "TEMPORAL_GRPC_META_*",
    "TEMPORAL_PROFILE",
    "TEMPORAL_CONFIG_FILE",
    "SOURCE_TEMPORAL_API_KEY",
    "SOURCE_TEMPORAL_TLS",
    "SOURCE_TEMPORAL_TLS_*",
    "ETL_DATA_DIR",
    "XDG_DATA_HOME",
    "XDG_CACHE_HOME",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    *(
        f"OTEL_EXPORTER_OTLP_{signal}_{what}"
        for signal in ("TRACES", "METRICS")
        for what in ("ENDPOINT", "HEADERS", "PROTOCOL")
    ),
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_SDK_DISABLED",
}
#: Those of them that may be in a file, as each secret of a settings class may.
OTHERS_IN_FILES = {"TEMPORAL_API_KEY", "TEMPORAL_GRPC_META_*", "SOURCE_TEMPORAL_API_KEY"}
#: Defaults that a page gives by another name than the field has.
NAMED_DEFAULTS = {"LP_SERVICE_ROOT": "production"}

PARAMETERS: Mapping[str, type[BaseModel]] = {
    "jira": JiraParams,
    "launchpad": LaunchpadParams,
    "salesforce": SalesforceParams,
    "servicetitan": ServiceTitanParams,
    "temporal": BacklogParams,
    "trino": TrinoParams,
}
#: Set by no person.
INNER_PARAMETERS = {"keep_undecodable"}


@cache
def settings_fields() -> Mapping[str, Any]:
    """The fields of all settings classes of the platform, by their environment variables.

    Not those of a source that somebody has added to the checkout.
    """
    added = "|".join([r"temporaletl\.testing|__main__|\.templates", *map(_part, sources_added())])
    for module in pkgutil.walk_packages(temporaletl.__path__, "temporaletl."):
        if not re.search(added, module.name):
            importlib.import_module(module.name)
    found: dict[str, Any] = {}
    todo: list[type[BaseSettings]] = [BaseSettings]
    while todo:
        cls = todo.pop()
        todo.extend(cls.__subclasses__())
        if re.match(r"temporaletl\.", cls.__module__) and not re.search(added, cls.__module__):
            for field in cls.model_fields.values():
                alias = field.validation_alias
                names = alias.choices if isinstance(alias, AliasChoices) else [alias]
                # Those of a base class for sources get their names where it is subclassed.
                found.update({str(name): field for name in names if name is not None})
    return found


def sources_added() -> set[str]:
    there = {module.name for module in pkgutil.iter_modules(queuer_sources.__path__)}
    return there - PARAMETERS.keys()


def _part(source: str) -> str:
    return rf"\.{source}(\.|$)"


def documented_settings() -> Mapping[str, str]:
    """Every documented setting with its default; each is in one table alone."""
    found: dict[str, str] = {}
    for page in (DOCS / "reference" / "settings.md", *sorted((DOCS / "sources").glob("*.md"))):
        for head, rows in tables(page.read_text("utf-8")):
            if head[0] == "setting":
                for setting, default, meaning in rows:
                    assert meaning, setting
                    for name in code_in(setting):
                        assert name not in found, name
                        found[name] = default
    return found


def test_every_source_has_a_page() -> None:
    described = {page.stem for page in (DOCS / "sources").glob("*.md")} - {"index"}
    assert described - sources_added() == PARAMETERS.keys(), "each source has one in docs/sources"


def test_the_way_from_a_clone_to_rows_of_ones_own_is_four_commands() -> None:
    [block] = re.findall(
        r"## Load a system of your own\n.*?```console\n(.*?)```", text_of("first-use.md"), re.DOTALL
    )
    commands = [line.split("  #")[0].strip() for line in block.splitlines()]
    assert len(commands) == 4
    assert (commands[0], commands[-1][:11]) == ("$ scripts/quickstart", "$ etl run j")


def test_every_setting_is_documented_and_no_other() -> None:
    fields = settings_fields()
    secrets = {name for name, field in fields.items() if "SecretStr" in str(field.annotation)}
    files = {f"{name}_FILE" for name in secrets | OTHERS_IN_FILES}
    known = fields.keys() | OTHERS | files
    assert set(documented_settings()) == known


@pytest.mark.parametrize("name", sorted(settings_fields()))
def test_the_default_of_a_setting_is_as_documented(name: str) -> None:
    documented = documented_settings()[name]
    field = settings_fields()[name]
    default = field.get_default()
    if name in NAMED_DEFAULTS:
        assert documented == f"`{NAMED_DEFAULTS[name]}`"
    elif default is PydanticUndefined:
        assert documented == "required"
    elif default in (None, (), ""):
        assert not documented
    else:
        shown = str(default).lower() if isinstance(default, bool) else f"{default}"
        assert documented == f"`{shown}`"


def test_variables_that_no_class_reads_are_in_the_code() -> None:
    code = "\n".join(path.read_text("utf-8") for path in (ROOT / "temporaletl").rglob("*.py"))
    for name in OTHERS:
        stem = name.removesuffix("_*").removesuffix("_DATA").removeprefix("SOURCE_")
        assert stem in code, name
    read = set(re.findall(r"\benviron(?:\.get\(|\[)\"([A-Z_]+)\"", code)) - {"GOFLAGS"}
    assert read <= OTHERS


@pytest.mark.parametrize("source", PARAMETERS)
def test_every_parameter_of_a_source_is_documented_and_no_other(source: str) -> None:
    documented = {
        code_in(row[0])[0]: row[1]
        for head, rows in tables(text_of(f"sources/{source}.md"))
        if head[0] == "parameter"
        for row in rows
    }
    fields = PARAMETERS[source].model_fields
    if source in scan_planners:
        # The platform's own, of every source that has deletion scans.
        assert documented.pop(ACCEPT_DELETIONS) == "`false`"
    assert documented.keys() == fields.keys() - INNER_PARAMETERS
    for name, shown in documented.items():
        default = fields[name].get_default(call_default_factory=True)
        assert shown == ("" if default in (None, ()) else f"`{str(default).lower()}`"), name


def test_the_settings_of_a_rest_source_are_as_documented() -> None:
    documented = {
        row[0].removeprefix("SHOP_").lower(): row[1]
        for head, rows in tables(text_of("authoring/rest.md"))
        if head[0].startswith("setting")
        for row in rows
    }
    defaults = {name: field.get_default() for name, field in TokenSettings.model_fields.items()}
    assert documented == {
        name: "required"
        if default is PydanticUndefined
        else ""
        if default is None
        else f"{default}"
        for name, default in defaults.items()
    }


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    written = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs_commands.py"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert text_of("reference/commands.md") == written.stdout, "run scripts/docs"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, by its words behind `etl`."""

    def below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from below((*words, name), inner)
        if not hasattr(command, "commands"):
            yield words, command

    yield from below((), typer.main.get_command(app))


def test_every_command_and_option_is_documented() -> None:
    text = dict(sections(text_of("reference/commands.md")))
    for words, command in commands():
        described = text[f"etl {' '.join(words)}"]
        for parameter in command.params:
            names = parameter.opts if parameter.param_type_name == "option" else []
            assert all(f"`{name}" in described for name in names), (words, names)


def shown_commands() -> Iterator[tuple[str, str]]:
    for page in pages():
        for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("$ "):
                    yield page.name, line[2:].partition("  #")[0].strip()


def test_every_command_that_a_page_shows_exists() -> None:
    known = dict(commands())
    options = {words: {name for one in known[words].params for name in one.opts} for words in known}
    shown = [(page, line) for page, line in shown_commands() if re.search(r"(^|\s)etl ", line)]
    assert len(shown) > len(known)
    for page, line in shown:
        words = re.sub(r"^.*?\betl ", "", line).split()
        firsts = words[0].split("|")
        for first in firsts:
            two = [(first, second) for second in (words[1] if words[1:] else "").split("|")]
            found = [one for one in [(first,), *two] if one in known]
            assert found, (page, line)
            taken = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", line.partition("etl ")[2]))
            for one in found:
                # Where unknown options are ignored, they are another program's.
                is_all = not known[one].context_settings.get("ignore_unknown_options")
                assert not is_all or taken <= options[one], (page, line)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_commands_of_a_page_can_be_run_as_they_stand(page: Path) -> None:
    text = page.read_text("utf-8")
    # Beside a running `etl up`, which has these ports.
    assert not re.findall(r"fakes?[._]\S+ --port (?:5432|7233|8080|8233)\b.*", text)
    # The scripts fetch a uv of their own, which is not on PATH.
    assert not re.search(r"^\$ uvx? ", text, re.MULTILINE) or "[uv](https://" in text


def test_every_script_and_module_that_a_page_names_exists() -> None:
    for page in pages():
        text = page.read_text("utf-8")
        for name in re.findall(r"\bscripts/[a-z][a-z_./-]*[a-z]", text):
            assert (ROOT / name).exists(), (page.name, name)
        for name in re.findall(r"python -m ([a-z_.]+[a-z_])", text):
            if name not in {"http.server", "tests.fakes.demo"}:
                assert importlib.util.find_spec(name) is not None, (page.name, name)


@pytest.mark.parametrize("page", ["guarantees.md", "security.md"])
def test_every_guarantee_names_tests_that_exist(page: str) -> None:
    guarantees = list(sections(text_of(page)))[1:]
    assert guarantees
    for heading, text in guarantees:
        if heading == "What is left to you":
            continue
        named = re.findall(r"^- `([a-z_/]+\.py)::(test_\w+)`( \(\*slow\*\))?$", text, re.MULTILINE)
        assert named, heading
        assert len(named) == text.count("::"), heading
        for path, name, slow in named:
            assert (ROOT / path).is_file(), path
            assert name in named_tests(path), f"{path}::{name}"
            assert named_tests(path)[name] == bool(slow), f"{path}::{name}"


def test_the_source_that_is_shown_is_the_one_that_is_tested() -> None:
    shown = re.findall(r"```python\n(.*?)```", text_of("authoring/rest.md"), re.DOTALL)
    for example in ("shop.py", "helpdesk.py"):
        assert (ROOT / "tests" / "examples" / example).read_text("utf-8") in shown


def test_the_source_of_the_readme_is_a_source() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (source,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    ask = (
        "from temporaletl.strategies import planners, resolve\n"
        "assert resolve('shop', 'orders').rows and planners.get('shop').streams == ('orders',)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", source + ask], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_the_engines_script_says_which_setting_is_missing_and_its_notebook_is_python(
    tmp_path: Path,
) -> None:
    _, script, *cells = re.findall(r"```python\n(.*?)```", text_of("engine.md"), re.DOTALL)
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WPE_DB_") and name != "DATABASE_URL"
    }
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    (line,) = ran.stderr.splitlines()
    assert line.startswith("load.py: no warehouse is configured: set ")
    shown = "\n".join(cells)
    compile(shown, "engine.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for argument in ("connection=", "streams=", "date_start=", "date_end=", "params="):
        assert argument in shown


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "first-use.md"], ids=lambda p: p.name)
def test_each_terminal_of_the_first_use_is_given_all_it_needs(page: Path) -> None:
    text = page.read_text("utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    first, second = (b for b in blocks if "$ source .venv/bin/activate\n" in b)
    told = text[: text.index(first)] + first
    assert re.search(r"has made the `.venv`|scripts/quickstart +# makes the .venv", told)
    assert re.search(
        r"activate\n\$ etl init jira .* \.env\n\$ etl run jira .*--engine local\n", first
    )
    assert second.startswith("$ source .venv/bin/activate\n$ etl check jira ")
    before = text[: text.index(second)].splitlines()[-3]
    assert before.endswith("in the same folder, where the `.env` is:")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 160


@pytest.mark.parametrize("page", [path for path in pages() if DOCS not in path.parents])
def test_links_of_the_repositorys_front_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if urlsplit(link).scheme:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        if anchor:
            headings = [slug(heading) for heading, _ in sections(target.read_text("utf-8"))]
            assert anchor in headings, link


def slug(heading: str) -> str:
    kept = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
    return re.sub(r"\s+", "-", kept.strip())
