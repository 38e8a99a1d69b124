"""Arguments and options that several commands share, and the parsing of their values."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from temporaletl.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from temporaletl.messages import QueuerInput

Mode = Literal["incremental", "full", "backfill"]
TokenScope = Literal["read", "decrypt", "operate"]

Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="The source, such as jira (`etl sources`).")
]
Connection = Annotated[
    str,
    typer.Option(
        "--connection",
        metavar="NAME",
        help="Which connection of the source (`etl connections list`).",
    ),
]
Streams = Annotated[
    list[str] | None,
    typer.Option("--stream", metavar="NAME", help="Only this stream; may be repeated."),
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="KEY=VALUE",
        help="A parameter of the source: a text, or JSON. May be repeated.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--from", metavar="DATE", help="Start, inclusive; UTC unless it says."),
]
Until = Annotated[
    str | None,
    typer.Option("--to", metavar="DATE", help="End, exclusive; UTC unless it says."),
]
Wait = Annotated[
    bool,
    typer.Option("--wait", help="Stay until it has ended, and show how it goes."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
WorkflowId = Annotated[
    str,
    typer.Argument(
        metavar="WORKFLOW_ID", help="A run or a job, as `etl run` and `etl status` name them."
    ),
]


def examples(*lines: str) -> str:
    """An epilog that shows command lines, each with what it does behind two spaces and a #."""
    shown = []
    for line in lines:
        command, mark, meaning = line.partition("  # ")
        shown.append(f"$ [bold]{command}[/bold]" + (f"  [dim]# {meaning}[/dim]" if mark else ""))
    return "\n".join(["[yellow]Examples[/yellow]", *shown])


def read_timestamp(text: str | None, option: str) -> datetime | None:
    """Read an ISO date or date-time; without a zone it is UTC.

    Raises:
        ConfigurationError: it is neither; names the option.
    """
    if text is None:
        return None
    try:
        timestamp = datetime.fromisoformat(text.strip())
        return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{option} {text!r} is no ISO date such as 2025-01-31, or date-time such as "
            f"2025-01-31T06:00 or 2025-01-31T06:00+02:00"
        ) from None


def read_request(
    source: str,
    connection: str,
    streams: Sequence[str] | None,
    start: str | None,
    end: str | None,
    params: Sequence[str] | None,
) -> "QueuerInput":
    """Read what a command reads of a source without a run: all of it, or what its dates say.

    Raises:
        ConfigurationError: an option is wrong.
    """
    date_start, date_end = read_timestamp(start, "--from"), read_timestamp(end, "--to")
    given = read_params(params)

    from temporaletl.control.operations.runs import run_request

    return run_request(
        source,
        connection=connection,
        mode="full" if date_start is None and date_end is None else None,
        streams=streams or (),
        date_start=date_start,
        date_end=date_end,
        params=given,
    )


def read_params(texts: Sequence[str] | None) -> "dict[str, JsonValue]":
    """Read KEY=VALUE pairs. What is no JSON is a text; `"1"` in quotes is one, too.

    Raises:
        ConfigurationError: one is not of that form, a key comes twice, or a list or an object is
            no JSON.
    """
    params: dict[str, JsonValue] = {}
    for text in texts or ():
        key, separator, value = text.partition("=")
        key = key.strip()
        if not separator or not key:
            raise ConfigurationError(f"--param {text!r} is not KEY=VALUE")
        if key in params:
            raise ConfigurationError(f"--param {key} is given twice")
        try:
            params[key] = json.loads(value, parse_constant=_refuse_constant)
        except RecursionError:
            raise ConfigurationError(f"--param {key}: its value is nested too deep") from None
        except ValueError:
            if value[:1] in ("{", "[", '"'):
                raise ConfigurationError(f"--param {key}: {value!r} is not JSON") from None
            params[key] = value
    return params


def _refuse_constant(word: str) -> None:
    raise ValueError(word)  # NaN and its like are none of JSON


def read_pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    """Read NAME=TEXT pairs, whose values are not repeated: one may be a secret by mistake.

    Raises:
        ConfigurationError: one is not of that form, or a name comes twice.
    """
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, separator, value = text.partition("=")
        name = name.strip()
        if not separator or not name:
            raise ConfigurationError(f"{option}: what is given is not of the form NAME=…")
        if name in pairs:
            raise ConfigurationError(f"{option} {name} is given twice")
        pairs[name] = value
    return pairs
