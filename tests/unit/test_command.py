import subprocess
import sys
from collections.abc import Callable
from typing import Annotated, Any

import pytest
import typer

from temporaletl.command import run_command
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    SchemaConflictError,
    UnknownSourceError,
    WarehouseUnavailableError,
)


def run(
    monkeypatch: pytest.MonkeyPatch, body: Callable[[], Any], *arguments: str
) -> int | str | None:
    """Run a command `etl go [--count N]` as a process would; return its exit status."""
    app = typer.Typer(add_completion=False)

    @app.callback()
    def several() -> None: ...

    @app.command()
    def go(count: Annotated[int, typer.Option()] = 0) -> Any:
        assert count >= 0
        return body()

    monkeypatch.setattr("sys.argv", ["etl", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command(app, "etl")
    return ended.value.code


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1), ("text", 0)])
def test_a_command_ends_with_the_status_it_returns(
    monkeypatch: pytest.MonkeyPatch, returned: object, status: int
) -> None:
    assert run(monkeypatch, lambda: returned, "go") == status


@pytest.mark.parametrize(
    ("stream", "status", "told"),
    [
        (">/dev/full", 1, "etl: the output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        ("2>&- >/dev/full", 1, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_an_output_that_takes_nothing_is_one_line_and_a_status(
    stream: str, status: int, told: str
) -> None:
    code = (
        "import typer; from temporaletl.command import be_command\n"
        "app = typer.Typer()\n"
        "@app.command()\n"
        "def go() -> None: print('rows', flush=True)\n"
        "be_command(app, 'etl')"
    )
    command = ["sh", "-c", f'exec "$@" {stream}', "sh", sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (status, told)


def test_a_command_may_end_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, raising(typer.Exit(1)), "go") == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigurationError("set WPE_DB_HOST"), 2),
        (UnknownSourceError("no such source"), 2),
        (CredentialsError("refused"), 2),
        (SchemaConflictError("the column is too narrow"), 1),
        (WarehouseUnavailableError("did not answer"), 1),
    ],
)
def test_an_error_of_the_platform_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: ETLError,
    status: int,
) -> None:
    assert run(monkeypatch, raising(error), "go") == status
    printed = capsys.readouterr()
    assert printed.err == f"etl: {error}\n"
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["come"], "No such command 'come'"),
        (["go", "--number", "3"], "No such option: --number"),
        (["go", "--count", "three"], "'--count'"),
        (["go", "too", "many"], "(too many)"),
    ],
)
def test_wrong_usage_is_one_line_that_points_to_the_help(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    assert run(monkeypatch, raising(AssertionError()), *arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("etl: ")
    assert told in line
    assert line.endswith("(--help says more)")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), typer.Abort()])
def test_an_interrupted_command_says_so_by_its_status(
    monkeypatch: pytest.MonkeyPatch, interruption: BaseException
) -> None:
    assert run(monkeypatch, raising(interruption), "go") == 130


def test_a_command_without_arguments_shows_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, raising(AssertionError())) == 2
    printed = capsys.readouterr()
    assert "Usage" in printed.out + printed.err or "Missing command" in printed.err


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, raising(ZeroDivisionError()), "go")
