"""The command line as far as it gets without any server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from temporaletl.command import run_command
from temporaletl.control.cli import session
from temporaletl.control.cli.main import app
from temporaletl.control.cli.signs import SIGNS, SILENT

ELSEWHERE = ("TEMPORAL_HOST", "DATABASE_URL", "WPE_DB_HOST", "TEMPORAL_API_KEY", "JIRA_URL")

Etl = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def etl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Etl:
    """Run `etl` with arguments; answers its exit status, standard output and standard error."""
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    # Nothing listens on port 1.
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    # The logs of this process are the tests'.
    monkeypatch.setattr(session, "quiet_logs", lambda: None)

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr("sys.argv", ["etl", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(app, "etl")
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("bogus", "No such command 'bogus'"),
        ("run", "Missing argument 'SOURCE'"),
        ("run nope", "there is no source 'nope'; the sources are "),
        (
            "run jira --mode some",
            "'--mode': 'some' is not one of 'incremental', 'full', 'backfill'",
        ),
        ("run jira --stream nope", "no stream 'nope'; its streams: issues"),
        ("run jira --from yesterday", "--from 'yesterday' is no ISO date such as 2025-01-31"),
        ("run jira --from 2025-01-01 --to 2025-13-01", "--to '2025-13-01' is no ISO date"),
        ("run jira --from 2025-02-01 --to 2025-01-01", "is not after its start"),
        ("run jira --mode backfill", "a backfill needs a start date (--from)"),
        ("run jira --to 2025-01-01", "a backfill needs a start date (--from)"),
        ("run jira --mode full --from 2025-01-01", "mode full finds its own window"),
        ("run jira --param jql", "--param 'jql' is not KEY=VALUE"),
        ("run jira --param jql=[abc", "--param jql: '[abc' is not JSON"),
        ("run jira --param a=1 --param a=2", "--param a is given twice"),
        (
            "run jira --param nosuch=1",
            "jira takes no parameter 'nosuch'; it takes: jql, issues_per_job",
        ),
        ("run jira --param issues_per_job=0", "jira: issues_per_job: Input should be greater"),
        (
            "run temporal --param nosuch=1",
            "temporal takes no parameter 'nosuch'; it takes: namespaces, ",
        ),
        ("run jira --max-in-flight 0", "--max-in-flight"),
        ("cancel", "Missing argument 'WORKFLOW_ID'"),
        ("schedule nope", "there is no source 'nope'"),
        ("schedule jira 9", "day of week '9'"),
        ("schedule jira Noday 3", "day of week 'Noday'"),
        ("schedule jira 1 24", "hour '24'"),
        ("schedule jira 1 3 --timezone Mars", "time zone 'Mars'"),
        ("schedule jira 1 3 --overlap some", "'buffer-one'"),
        ("schedule jira 1 3 --catchup-window-minutes 0", "catchup_window_minutes"),
        ("schedule jira 1 3 --mode backfill", "--mode"),
        ("schedule-backfill jira --from 2025-01-01", "Missing option '--to'"),
        ("schedule-backfill jira --from x --to y", "--from 'x' is no ISO date"),
        ("preview nope", "there is no source 'nope'"),
        ("preview jira --limit 0", "--limit"),
        ("preview jira", "JIRA_URL is not set"),
        ("check nope", "there is no source 'nope'"),
        ("state show jira", "no warehouse is configured: set WPE_DB_HOST"),
        ("state set jira", "Missing option '--watermark'"),
        ("state set jira --watermark soon", "--watermark 'soon' is no ISO date"),
        ("state set jira --stream nope --watermark 2025-01-01", "no stream 'nope'"),
        ("state set jira --watermark 2999-01-01", "lies in the future"),
        ("state reset nope", "there is no source 'nope'"),
        ("rejects list jira", "no warehouse is configured"),
        ("up --workers 0", "--workers"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(etl: Etl, arguments: str, told: str) -> None:
    status, out, err = etl(*arguments.split())
    *before, line = err.splitlines()
    assert status == 2
    assert out == ""
    assert line.startswith("etl: ")
    assert told in line
    assert all("no warehouse is configured here" in each for each in before)


@pytest.mark.parametrize(
    "arguments",
    ["run jira", "status", "pause some-id", "cancel some-id", "schedules", "schedule-pause jira"],
)
def test_a_temporal_that_is_away_is_one_line_and_status_1(etl: Etl, arguments: str) -> None:
    status, out, err = etl(*arguments.split())
    *before, line = err.splitlines()
    assert (status, out) == (1, "")
    assert line.startswith("etl: no Temporal server answers at 127.0.0.1:1 (TEMPORAL_ADDRESS)")
    assert "etl up" in line
    assert all("no warehouse is configured here" in each for each in before)


@pytest.mark.parametrize("arguments", ["up", "serve", "new-source shop", "preview jira"])
def test_what_is_of_this_machine_is_refused_where_the_api_is_used(
    etl: Etl, monkeypatch: pytest.MonkeyPatch, arguments: str
) -> None:
    monkeypatch.setenv("ETL_API_URL", "http://127.0.0.1:1")
    status, out, err = etl(*arguments.split())
    assert (status, out) == (2, "")
    assert err.startswith("etl: that is not done over the API: unset ETL_API_URL")


def commands() -> list[list[str]]:
    group: Any = typer.main.get_command(app)
    found = []
    for name, command in group.commands.items():
        found += [[name, sub] for sub in getattr(command, "commands", {})] or [[name]]
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_each_command_explains_itself_with_examples(
    etl: Etl, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = etl(*command, "--help")
    assert (status, err) == (0, "")
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert "<bool>" not in out
    assert "Examples" in out
    assert f"$ etl {' '.join(command)}" in out


def test_the_help_names_every_command(etl: Etl) -> None:
    status, out, _ = etl("--help")
    assert status == 0
    assert all(f" {name} " in out for name in {command[0] for command in commands()})


def test_each_command_gives_a_terminal_a_sign_or_is_known_to_need_none() -> None:
    assert {command[0] for command in commands()} == SIGNS.keys() | SILENT
    assert not SIGNS.keys() & SILENT


@pytest.mark.parametrize("group", [[], ["state"], ["rejects"]])
def test_without_a_command_the_help_is_shown_once(etl: Etl, group: list[str]) -> None:
    status, out, err = etl(*group)
    assert status == 2
    assert (out + err).count("Usage:") == 1


def test_the_version_is_printed(etl: Etl) -> None:
    status, out, _ = etl("--version")
    assert status == 0
    assert out.strip()[0].isdigit()


def test_sources_are_listed_with_their_streams_and_tables(etl: Etl) -> None:
    status, out, _ = etl("sources", "--json")
    assert status == 0
    jira = next(source for source in json.loads(out) if source["source"] == "jira")
    assert jira["version"]
    assert jira["specific_version"]
    [issues] = jira["streams"]
    assert issues["tables"] == ["events"]
    assert issues["place"].startswith("temporaletl.worker.sources.jira.")
    assert issues["fault"] is None


def test_sources_are_a_table_for_people(etl: Etl) -> None:
    _, out, _ = etl("sources")
    header, *lines = out.splitlines()
    assert header.split() == ["source", "stream", "tables", "version", "place"]
    assert any(line.split()[:3] == ["jira", "issues", "events"] for line in lines)
    assert not any(line.endswith(" ") for line in lines)


def test_a_check_names_all_that_is_wrong(etl: Etl) -> None:
    status, out, _ = etl("check", "jira", "--json")
    report = json.loads(out)
    assert status == 2
    assert report["ok"] is False
    wrong = {check["name"]: check["detail"] for check in report["checks"] if not check["ok"]}
    assert wrong.keys() == {"settings", "warehouse", "Temporal"}
    assert "JIRA_URL is not set" in wrong["settings"]
    assert "WPE_DB_HOST" in wrong["warehouse"]
    assert "no Temporal server answers" in wrong["Temporal"]


def test_a_check_is_a_line_each(etl: Etl) -> None:
    status, out, _ = etl("check", "jira")
    assert status == 2
    assert [line.split()[0] for line in out.splitlines()] == ["wrong"] * 3
