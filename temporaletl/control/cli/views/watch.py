"""`etl freshness`, `etl health`, `etl notify`: output of what is wrong, and of notifications."""

from rich.text import Text

from temporaletl.control.cli.output import (
    add_row,
    make_table,
    note,
    print_json,
    print_table,
    say,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations.freshness import ORDER, freshness
from temporaletl.control.operations.health import check_health
from temporaletl.control.operations.notifications import list_notifications, send_test as send
from temporaletl.names import label
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.warehouse.notifications import DeliveryState

_STYLES = {
    "ok": "green",
    "fresh": "green",
    "sent": "green",
    "unknown": "yellow",
    "degraded": "yellow",
    "pending": "yellow",
    "down": "bold red",
    "late": "bold red",
    "never loaded": "bold red",
    "failed": "bold red",
}


def print_freshness(*, as_json: bool) -> int:
    """Print the freshness of every stream, the most urgent first; 1 where one is late."""
    report = call(freshness)
    late = any(entry.late for entry in report.entries)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return int(late)
    if report.entries:
        table = make_table(
            *("source", "stream", "state", "loaded until", "late from", "cause"),
            below=("cause", "late from", "loaded until"),
        )
        for entry in sorted(report.entries, key=lambda entry: ORDER.index(entry.state)):
            add_row(
                table,
                *(label(entry.source, entry.connection), entry.stream, _styled(entry.state)),
                *(entry.loaded_until, entry.due_at, entry.cause),
            )
        print_table(table)
    else:
        say("nothing was loaded yet, nothing is scheduled, and nothing must be fresh")
    for fault in report.faults:
        note(f"not all can be judged: {fault}", style="yellow")
    return int(late)


def print_health(*, as_json: bool) -> int:
    """Print the health of every part; 1 where one is down."""
    health = call(check_health)
    down = health.verdict == "down"
    if as_json:
        print_json(health.model_dump(mode="json"))
        return int(down)
    table = make_table("part", "health", "since", "detail", below=("since", "detail"))
    for part in health.parts:
        add_row(table, part.name, _styled(part.verdict), part.since or "", part.detail)
    print_table(table)
    return int(down)


def print_notifications(limit: int, state: DeliveryState | None, *, as_json: bool) -> None:
    """List the latest notifications."""
    page = call(list_notifications, limit=limit, state=state)
    if as_json:
        print_json([one.model_dump(mode="json") for one in page.notifications])
        return
    if not page.notifications:
        say("no notifications" if state is None else f"no notifications that are {state}")
        return
    table = make_table(
        *("at", "destination", "state", "attempts", "event", "error"),
        right=("attempts",),
        below=("error", "event"),
    )
    for one in page.notifications:
        shown = one.event.get("text", one.event_key)
        add_row(
            table,
            *(one.created_at, one.destination, _styled(one.state), one.attempts),
            *(shown, one.error or ""),
        )
    print_table(table)
    if page.next is not None:
        note("and older ones (--limit)", style="dim")


def send_test(destination: str | None, *, as_json: bool) -> int:
    """Send a test, and print what came of it; 1 where a destination did not take it."""
    results = call(send, NotificationSettings.load(), destination)
    failed = not all(result.sent for result in results)
    if as_json:
        print_json([result.model_dump(mode="json") for result in results])
        return int(failed)
    for result in results:
        outcome = "took it" if result.sent else result.error or "did not take it"
        say(f"{result.destination}: {outcome}", style=None if result.sent else "bold red")
    return int(failed)


def _styled(state: str) -> Text:
    return Text(state, style=_STYLES.get(state, ""))
