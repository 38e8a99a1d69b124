"""Output of the commands: tables for people, one JSON document for programs.

Results go to standard output, everything else to standard error. Texts from outside are never
taken for markup.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import typer
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from temporaletl.errors import ConfigurationError
from temporaletl.secrets import cleaned
from temporaletl.terminal import erase_sign, fit_to_print, printable, printable_json

if TYPE_CHECKING:
    from pydantic import SecretStr

    from temporaletl.messages import Window

#: Wide enough that nothing is cut where no terminal sets the width.
_UNBOUNDED_WIDTH = 1_000_000
#: Between the columns of a table; and what is left to a text that is wrapped, or goes below.
_GAP, _LEAST_TEXT, _LEAST_CELL = 2, 40, 8

STATE_STYLES = {
    "completed": "green",
    "running": "cyan",
    "pausing": "yellow",
    "paused": "yellow",
    "cancelling": "magenta",
    "planning": "cyan",
    "waiting": "yellow",
    "failed": "bold red",
    "lost": "bold red",
    "cancelled": "magenta",
    "skipped": "yellow",
}


@cache
def out() -> Console:
    return _console(stderr=False)


@cache
def err() -> Console:
    return _console(stderr=True)


class _SafeConsole(Console):
    """A console to which no text's control characters go."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


def _console(*, stderr: bool) -> Console:
    console = _SafeConsole(
        stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False
    )
    # From now on it may be written to.
    erase_sign()
    if not console.is_terminal:
        console.width = _UNBOUNDED_WIDTH
    return console


def say(line: str | Text, style: str | None = None) -> None:
    """A line of the result."""
    _print(out(), _fit(line), style)
    out().file.flush()


def note(line: str | Text, style: str | None = None) -> None:
    """A line beside the result."""
    _print(err(), _fit(line), style)


def _print(console: Console, line: Text, style: str | None = None) -> None:
    """Print a line; a terminal gets it wrapped between words, and all else in one piece."""
    if not console.is_terminal:
        console.print(line, style=style, soft_wrap=True)
        return
    for part in _lines(line, console.width) or [Text()]:
        console.print(part, style=style, soft_wrap=True)


def _fit(line: str | Text) -> Text:
    if isinstance(line, str):
        return Text(fit_to_print(line))
    fit = fit_to_print(line.plain)
    # Its colours are of other places then.
    return line if fit == line.plain else Text(fit, style=line.style)


def cut_off(text: str, length: int) -> str:
    """A text of at most so many characters; what is cut off is shown by a mark."""
    mark = "…" if out().encoding.startswith("utf") else "~"
    return text if len(text) <= length else f"{text[: length - 1]}{mark}"


def confirm(question: str, *, meaning: str) -> None:
    """Ask a person whether that is meant; returns only if so.

    Raises:
        typer.Abort: it is not.
        ConfigurationError: there is no terminal to ask on; begins with the meaning.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{meaning}: add --yes if that is meant")
    erase_sign()
    typer.confirm(question, abort=True, err=True)


def waiting(text: str) -> AbstractContextManager[object]:
    """Show on a terminal that something is waited for."""
    if not err().is_terminal:
        return nullcontext()
    return err().status(text, spinner="dots" if err().encoding.startswith("utf") else "line")


def print_json(document: Any, *, secrets: "Mapping[str, SecretStr] | None" = None) -> None:
    """Print the one document of a `--json` command.

    `secrets` are fields of it that are printed as they are: what the command is there to show.
    """
    shown = {name: secret.get_secret_value() for name, secret in (secrets or {}).items()}
    document = cleaned(document) | shown if shown else cleaned(document)
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = printable_json(json.dumps(document, indent=2, ensure_ascii=not unicode))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_secret(secret: "SecretStr") -> None:
    """Print a secret as a line of the result: what the command is there to show."""
    erase_sign()
    sys.stdout.write(f"{secret.get_secret_value()}\n")
    sys.stdout.flush()


@dataclass
class Table:
    """A table without a frame, and what becomes of its columns on a narrow terminal.

    Columns in `drop` are left out where there is no room, the first of them first: other columns
    say the same, or few ask. Then those in `below` go below their row, in lines of their own.
    """

    columns: tuple[str, ...]
    right: frozenset[str] = frozenset()
    drop: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    rows: list[list[Text]] = field(default_factory=list)

    def layout(self, width: int) -> tuple[list[int], list[int]]:
        """The columns that are shown beside each other on `width`, and those below them."""
        shown = [*range(len(self.columns))]
        below: list[int] = []
        for name in (*self.drop, *self.below):
            others = sum(self.width_of(column) + _GAP for column in shown[:-1])
            fits = others + self.width_of(shown[-1]) <= width
            wraps = self.columns[shown[-1]] in self.below and width - others >= _LEAST_TEXT
            if fits or wraps:
                break
            column = self.columns.index(name)
            if column in shown:
                shown.remove(column)
            if name in self.below:
                below.append(column)
        return shown, sorted(below)

    def width_of(self, column: int) -> int:
        return max(cell_len(self.columns[column]), *(row[column].cell_len for row in self.rows), 0)


def make_table(
    *columns: str, right: Iterable[str] = (), drop: Sequence[str] = (), below: Sequence[str] = ()
) -> Table:
    """A table; the columns in `right` hold numbers. For the others see `Table`."""
    return Table(columns, frozenset(right), tuple(drop), tuple(below))


def add_row(table: Table, *cells: object) -> None:
    shown = (_fit(cell) if isinstance(cell, Text) else Text(_shown(cell)) for cell in cells)
    # A row is a row, whatever its cells hold.
    table.rows.append([Text(" ").join(cell.split("\n")) for cell in shown])


def print_table(table: Table) -> list[str]:
    """Print a table; return the columns that were left out, as there is no room for them.

    Where no terminal is, every row is one line with all columns.
    """
    console = out()
    shown, below = table.layout(console.width)
    widths = [table.width_of(column) for column in shown]
    if widths:
        # What is too wide even so is wrapped in its column, or else in the widest one.
        room = console.width - sum(widths) - _GAP * (len(widths) - 1)
        widest = widths.index(max(widths))
        last = len(widths) - 1 if table.columns[shown[-1]] in table.below else widest
        widths[last] = max(widths[last] + min(room, 0), min(widths[last], _LEAST_CELL))
    _print_row(table, shown, widths, [Text(name, style="bold") for name in table.columns])
    for row in table.rows:
        _print_row(table, shown, widths, row)
        said = [(table.columns[one], row[one]) for one in below if row[one].plain not in ("", "-")]
        _print_below(said)
    hidden = {*range(len(table.columns))} - {*shown, *below}
    return [table.columns[column] for column in sorted(hidden)]


def _print_row(table: Table, shown: list[int], widths: list[int], row: Sequence[Text]) -> None:
    cells = [
        _lines(row[column], width, right=table.columns[column] in table.right)
        for column, width in zip(shown, widths, strict=True)
    ]
    for parts in zip_longest(*cells, fillvalue=Text()):
        line = Text()
        for part, width in zip(parts, widths, strict=True):
            line.append_text(part)
            line.append(" " * (width - part.cell_len + _GAP))
        line.rstrip()
        out().print(line, soft_wrap=True)
    out().file.flush()


def _lines(cell: Text, width: int, *, right: bool = False) -> list[Text]:
    wrapped = [*cell.wrap(out(), width, overflow="fold")]
    for line in wrapped:
        line.rstrip()
        if right:
            line.pad_left(max(width - line.cell_len, 0))
    return wrapped


def _print_below(said: Sequence[tuple[str, Text]]) -> None:
    """Print what is below a row, as much in a line as there is room for."""
    line = Text()
    for name, cell in said:
        label = Text(f"  {name}  ", style="dim")
        if line and line.cell_len + label.cell_len + cell.cell_len > out().width:
            out().print(line, soft_wrap=True)
            line = Text()
        if label.cell_len + cell.cell_len > out().width:
            say_hanging(label, cell)
        else:
            line.append_text(label).append_text(cell)
    if line:
        out().print(line, soft_wrap=True)


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    shown = [(name, value) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        label = Text(f"  {name:<{width}}  ", style="dim")
        text = _fit(value) if isinstance(value, Text) else Text(_shown(value))
        say_hanging(label, text)


def say_hanging(label: Text, text: Text, *, indent: int | None = None) -> None:
    """A label and what it is about; further lines begin below the text, or at `indent`."""
    if indent is None:
        indent = label.cell_len
        first, *others = _lines(text, max(out().width - indent, _LEAST_CELL)) or [Text()]
        first = Text.assemble(label, first)
    else:
        first, *others = _lines(Text.assemble(label, text), max(out().width - indent, _LEAST_CELL))
    out().print(first, soft_wrap=True)
    for line in others:
        out().print(Text.assemble(" " * indent, line), soft_wrap=True)
    out().file.flush()


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case datetime():
            return show_time(value)
        case _:
            return fit_to_print(str(value))


def state_text(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(state, ""))


def show_time(timestamp: datetime | None) -> str:
    """A timestamp in UTC, to the second."""
    if timestamp is None:
        return "-"
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def show_span(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 job`, `1,234 jobs`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def show_window(window: "Window") -> str:
    """A span of time, its end exclusive."""
    start = show_time(window.start) if window.start else "the beginning"
    return f"{start} to {show_time(window.end) if window.end else 'now'}"
