"""Events of which destinations are notified, and their texts.

What came from a source, such as an error, is in a text neutralised: it mentions no channel, and is
no markup, wherever the text is shown.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import quote

from pydantic import Field, JsonValue

from temporaletl.messages import BatchSummary, Message, UtcTime
from temporaletl.names import label
from temporaletl.secrets import cleaned
from temporaletl.terminal import fit_to_print
from temporaletl.warehouse.notifications import Kind

#: What opens markup or a mention in Slack's mrkdwn, Markdown, HTML or a chat, and what is shown in
#: its place: it looks alike, and means nothing.
_LOOK_ALIKES = str.maketrans(
    {
        "<": "\u2039",
        ">": "\u203a",
        "&": "\uff06",
        "@": "\uff20",
        "#": "\uff03",
        "[": "\uff3b",
        "]": "\uff3d",
        "*": "\u2217",
        "~": "\u223c",
        "`": "\u02cb",
        "|": "\u2223",
        "\\": "\uff3c",
    }
)
_LONGEST_QUOTE = 500
_MOST_STREAMS = 20

#: The types of events, by kind, as webhooks get them.
TYPES: dict[Kind, str] = {
    "finished": "run.finished",
    "failed": "run.failed",
    "late": "stream.late",
    "recovered": "stream.recovered",
    "test": "test",
}


class Event(Message):
    """An event: its key, which is the same however often it is sent, and what is said of it."""

    key: str
    kind: Kind
    source: str
    connection: str = "default"
    at: UtcTime
    text: str
    data: dict[str, JsonValue] = Field(default_factory=dict)


class LateStream(Message):
    """A stream in an event about lateness."""

    stream: str
    loaded_until: datetime | None
    due_at: datetime | None
    cause: str


def neutral(text: str) -> str:
    """Return a text from outside as one line that is shown as it is, and does nothing.

    For Slack, Markdown and HTML: what could open markup or a mention is replaced by what looks
    alike. No secret that this process knows is in it, and no control character.
    """
    shown = " ".join(fit_to_print(text).split()).translate(_LOOK_ALIKES)
    # Between letters, as in names, an underscore is no markup.
    shown = "".join(
        "\u02cd" if mark == "_" and not (before.isalnum() and after.isalnum()) else mark
        for before, mark, after in zip(" " + shown, shown, shown[1:] + " ", strict=False)
    )
    return shown if len(shown) <= _LONGEST_QUOTE else f"{shown[: _LONGEST_QUOTE - 1]}…"


def end_of(summary: BatchSummary, at: datetime, *, web_address: str | None = None) -> Event:
    """The event of a run's end; `web_address` is the dashboard's, for a link."""
    kind: Kind = "failed" if summary.state == "failed" else "finished"
    text = sentence(summary)
    if web_address is not None:
        text += f" {web_address}/runs/{quote(summary.workflow_id)}"
    return Event(
        key=f"{kind}:{summary.batch_id or summary.workflow_id}",
        kind=kind,
        source=summary.source,
        connection=summary.connection,
        at=at,
        text=text,
        data={"summary": cleaned(summary.model_dump(mode="json"), fit_to_print)},
    )


def sentence(summary: BatchSummary) -> str:
    """The summary in one line that a person can act on."""
    rows = summary.rows
    line = (
        f"{label(summary.source, summary.connection)} {summary.mode} {summary.state} "
        f"in {summary.seconds:.0f} s: "
        f"{summary.jobs.completed} of {summary.jobs.planned} jobs, "
        f"{rows.inserted} rows inserted, {rows.updated} updated, {rows.unchanged} unchanged, "
        f"{rows.rejected} rejected"
    )
    if summary.failures:
        first = summary.failures[0]
        line += f"; {summary.jobs.failed} failed, first {neutral(first.job)}: "
        line += neutral(first.error)
    if summary.notes:
        line += f"; {neutral(summary.notes[0].note)}"
    if summary.error:
        line += f"; {neutral(summary.error)}"
    return f"{line} ({neutral(summary.workflow_id)})"


def lateness_of(source: str, connection: str, streams: Sequence[LateStream], at: datetime) -> Event:
    """The event of streams of one connection that have become late."""
    parts = []
    for one in streams[:_MOST_STREAMS]:
        due = "" if one.due_at is None else f", due {_shown(one.due_at)}"
        parts.append(f"{neutral(one.stream)} {_until(one.loaded_until)}{due}: {neutral(one.cause)}")
    listed = [one.model_dump(mode="json") for one in streams]
    return _of_streams("late", source, connection, listed, parts, at)


def recovery_of(
    source: str, connection: str, streams: Sequence[tuple[str, datetime | None]], at: datetime
) -> Event:
    """The event of streams that are late no more; each with up to when it is loaded."""
    parts = [f"{neutral(stream)} {_until(until)}" for stream, until in streams[:_MOST_STREAMS]]
    listed: list[JsonValue] = [
        {"stream": stream, "loaded_until": None if until is None else until.isoformat()}
        for stream, until in streams
    ]
    return _of_streams("recovered", source, connection, listed, parts, at)


def _of_streams(
    kind: Kind,
    source: str,
    connection: str,
    streams: Sequence[JsonValue],
    parts: list[str],
    at: datetime,
) -> Event:
    whose = label(source, connection)
    if len(streams) > len(parts):
        parts.append(f"and {len(streams) - len(parts)} more")
    return Event(
        key=f"{kind}:{whose}:{at:%Y%m%dT%H%M%S.%fZ}",
        kind=kind,
        source=source,
        connection=connection,
        at=at,
        text=f"{whose} {'is late' if kind == 'late' else 'has recovered'}: {'; '.join(parts)}",
        data={"source": source, "connection": connection, "streams": [*streams]},
    )


def _until(watermark: datetime | None) -> str:
    return "never loaded" if watermark is None else f"loaded up to {_shown(watermark)}"


def _shown(timestamp: datetime) -> str:
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
