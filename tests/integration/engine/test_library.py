"""`temporaletl.run`: the example of the documentation, in a program and in a notebook."""

import re
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import temporaletl
import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.connection import Warehouse
from tests.documentation import text_of
from tests.integration.engine.running import keys, select
from tests.source_fixtures.jira import JiraServerFixture


def _example() -> str:
    section = text_of("engine.md").partition("## From a program")[2]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_the_documentation_loads_a_site(
    warehouse: Warehouse,
    postgres_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WPE_DB_SCHEMA", warehouse.schema)
    fixture = JiraServerFixture()
    with contextmanager(fixture.serve)() as settings:
        text = _example()
        assert len(text.splitlines()) <= 20
        for shown, real in (
            ("postgresql://etl@db.example.com/warehouse", postgres_url),
            ("https://jira.example.com", settings["JIRA_URL"]),
            ("a-personal-token", fixture.credentials["JIRA_PERSONAL_TOKEN"]),
        ):
            assert shown in text
            text = text.replace(shown, real)
        world: dict[str, Any] = {}
        exec(compile(text, "<the example>", "exec"), world)  # noqa: S102
    assert capsys.readouterr().out.splitlines()[-1].startswith("completed, ")
    [(rows,)] = select(warehouse, "SELECT count(*) FROM events WHERE source_kind_id = 'jira'")
    assert rows == fixture.expected()["issues"] == world["summary"].rows.inserted
    assert select(warehouse, "SELECT engine FROM etl_batches") == [("local",)]


async def test_it_runs_in_a_notebook_and_awaited(warehouse: Warehouse, postgres_url: str) -> None:
    given = {"WPE_DB_SCHEMA": warehouse.schema}
    first = temporaletl.run(
        "numbers", warehouse=postgres_url, settings=given, mode="full", params={"size": 3}
    )
    second = await temporaletl.run_async(
        "numbers", settings={**given, "DATABASE_URL": postgres_url}, mode="full", params={"size": 5}
    )
    assert (first.rows.inserted, second.rows.inserted, second.rows.unchanged) == (3, 2, 3)
    assert len(keys(warehouse)) == 5
    with pytest.raises(ConfigurationError, match="there is no source 'nothing'"):
        temporaletl.run("nothing", warehouse=postgres_url, settings=given)
