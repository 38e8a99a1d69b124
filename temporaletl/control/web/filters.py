"""Filters of the templates: times with their zone, spans, numbers, and texts in one line."""

from datetime import UTC, datetime, timedelta

import msgspec
from markupsafe import Markup, escape
from pydantic import JsonValue

from temporaletl.control.operations.progress import done_of
from temporaletl.names import label
from temporaletl.secrets import redacted
from temporaletl.terminal import fit_to_print

_LONGEST_LINE = 200
#: What is not known, or is not there.
_NOTHING = "\N{EN DASH}"


def show_time(value: datetime | None) -> str | Markup:
    """A timestamp as an element that programs can read, in UTC, to the second."""
    if value is None:
        return _NOTHING
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds").replace("+00:00", "Z"), f"{utc:%Y-%m-%d %H:%M:%S} UTC"
    )


def show_clock(value: datetime) -> Markup:
    """The time of day of a timestamp, in UTC."""
    utc = value.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds").replace("+00:00", "Z"), f"{utc:%H:%M:%S} UTC"
    )


def show_span(value: timedelta | None) -> str:
    """A span in its two largest units: `2 d 3 h`, `4 min 5 s`."""
    if value is None:
        return _NOTHING
    seconds = max(0, int(value.total_seconds()))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    named = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    first = next((place for place, (number, _) in enumerate(named) if number), len(named) - 1)
    shown = [f"{number} {unit}" for number, unit in named[first : first + 2] if number]
    return " ".join(shown) or "0 s"


def took(started: datetime | None, ended: datetime | None, now: datetime) -> str:
    """How long something took, or has taken until now."""
    return _NOTHING if started is None else show_span((ended or now) - started)


def show_number(value: int | None) -> str:
    """A number with its thousands apart; what is not known is a dash."""
    return _NOTHING if value is None else f"{value:,}"


def show_count(value: int, word: str, words: str | None = None) -> str:
    """A number of things: `1 job`, `2 jobs`."""
    return f"{value:,} {word if value == 1 else words or f'{word}s'}"


def one_line(text: str | None, most: int = _LONGEST_LINE) -> str:
    """The first line of a text, cut where it is long."""
    line = next(iter((text or "").strip().splitlines()), "").strip()
    return line if len(line) <= most else f"{line[: most - 1]}…"


def show_json(value: JsonValue) -> str:
    """A value as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def show_prose(text: str) -> Markup:
    """A sentence; commands in it, which stand between backticks, as code."""
    shown = fit_to_print(text)
    parts = shown.split("`")
    if len(parts) % 2 == 0:  # one is not closed
        return escape(shown)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def show_field(value: object) -> Markup:
    """The value of a form's field, as it was given: it is sent back so."""
    return escape(redacted(value)) if isinstance(value, str) else escape(value)


FILTERS = {
    "time": show_time,
    "clock": show_clock,
    "span": show_span,
    "number": show_number,
    "count": show_count,
    "one_line": one_line,
    "indented": show_json,
    "field": show_field,
    "prose": show_prose,
}
GLOBALS = {"label": label, "took": took, "done_of": done_of}
