"""`etl logs`: the end of a run's log."""

from rich.text import Text

from temporaletl.control.cli.output import note, print_json, say, show_time
from temporaletl.control.cli.session import call
from temporaletl.control.operations.history import read_run_log

_STYLES = {"info": "green", "warning": "yellow"}


def print_log(run: str, limit: int, *, as_json: bool) -> None:
    """Print the last lines of a run's log, one event a line."""
    found = call(read_run_log, run, limit=limit)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    if not found.lines:
        say(f"no line was logged of {run}")
        return
    if found.earlier:
        note("earlier lines are not shown (--limit), or no longer kept", style="dim")
    if found.dropped:
        note(f"{found.dropped:,} lines were dropped: more than could be written", style="yellow")
    for line in found.lines:
        fields = {"job_id": line.job_id, **line.fields}
        shown = " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
        say(
            Text.assemble(
                (show_time(line.at), "dim"),
                f" {line.level:<7} ",
                (line.event, _STYLES.get(line.level, "")),
                f" {shown}",
            )
        )
