"""`etl logs`: the end of a run's log."""

from rich.text import Text

from temporaletl.control.cli.output import note, print_json, say, say_hanging, show_time
from temporaletl.control.cli.session import call
from temporaletl.control.operations.history import read_run_log
from temporaletl.terminal import fit_to_print

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
        begin = Text.assemble((show_time(line.at), "dim"), f" {line.level:<7} ")
        event = (line.event, _STYLES.get(line.level, ""))
        say_hanging(begin, Text.assemble(event, f" {fit_to_print(shown)}"), indent=4)
