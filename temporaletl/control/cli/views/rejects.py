"""`etl rejects list`: the records that could not become rows."""

from collections.abc import Sequence

from temporaletl.control.cli.output import add_row, make_table, note, print_json, print_table, say
from temporaletl.control.cli.session import call
from temporaletl.control.operations.rejects import list_rejects
from temporaletl.names import label


def print_rejects(
    source: str, streams: Sequence[str], connection: str, limit: int, *, as_json: bool
) -> None:
    """Print the latest rejects of a connection."""
    found, total = call(list_rejects, source, streams, connection=connection, limit=limit)
    if as_json:
        print_json([reject.model_dump(mode="json") for reject in found])
        return
    if not found:
        say(f"no rejects of {label(source, connection)}")
        return
    table = make_table(
        *("id", "stream", "stage", "record", "reason", "times", "last seen"),
        right=("id", "times"),
        below=("reason", "record"),
    )
    for reject in found:
        add_row(
            table,
            str(reject.reject_id),
            reject.stream,
            reject.stage,
            reject.key,
            reject.reason,
            reject.times,
            reject.last_seen,
        )
    print_table(table)
    if total > len(found):
        note(f"and {total - len(found):,} more (--limit)", style="dim")
