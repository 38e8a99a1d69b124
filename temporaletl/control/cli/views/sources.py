"""`etl sources` and `etl check`: output of sources, and of the results of checks."""

from rich.text import Text

from temporaletl.checks.messages import Check
from temporaletl.command import FAILED, MISUSED
from temporaletl.control.cli.output import (
    add_row,
    make_table,
    note,
    out,
    print_json,
    print_table,
    say_hanging,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations.checks import check_source, status_of
from temporaletl.control.operations.sources import list_sources
from temporaletl.terminal import fit_to_print

EXIT_STATUS = {"good": 0, "failed": FAILED, "misconfigured": MISUSED}
_MARKS = {"ok": ("ok   ", "green"), "wrong": ("wrong", "bold red"), "note": ("note ", "yellow")}


def print_sources(*, as_json: bool) -> None:
    """List what is registered."""
    sources = call(list_sources)
    if as_json:
        print_json(
            [
                {
                    "source": source.name,
                    "version": source.version,
                    "specific_version": source.specific_version,
                    "place": source.place,
                    "streams": [
                        {
                            "stream": stream.name,
                            "tables": list(stream.tables),
                            "place": stream.place,
                            "fault": stream.fault,
                        }
                        for stream in source.streams
                    ],
                }
                for source in sources
            ]
        )
        return
    table = make_table(
        *("source", "stream", "tables", "version", "place"),
        drop=("place", "version"),
        below=("tables",),
    )
    for source in sources:
        for position, stream in enumerate(source.streams):
            # For people, once is enough; a program reads line by line.
            named = position == 0 or not out().is_terminal
            version = f"{source.version} ({source.specific_version})"
            add_row(
                table,
                source.name if named else "",
                stream.name,
                Text(stream.fault, style="red") if stream.fault else ", ".join(stream.tables),
                version if named else "",
                stream.place or source.place,
            )
    if hidden := print_table(table):
        note(f"no room for {' and '.join(hidden)}: --json has all", style="dim")


def say_check(check: Check) -> None:
    """Print the result of one check: a line, which a narrow terminal gets with others below it."""
    mark, style = _MARKS[check.verdict]
    detail = Text(fit_to_print(f"{check.name}: {check.detail}"))
    say_hanging(Text.assemble((mark, style), "  "), detail)


def print_check(source: str, connection: str, *, as_json: bool) -> int:
    """Print the results of a source's checks; 2 where a setting is wrong, 1 for other failures."""

    def report(check: Check) -> None:
        if not as_json:
            say_check(check)

    def notice(trouble: str) -> None:
        note(f"waiting: {trouble}", style="yellow")

    checks = call(check_source, source, report, connection=connection, notice=notice)
    status = status_of(checks)
    if as_json:
        results = [
            check.model_dump(exclude={"misconfigured"}) | {"ok": check.verdict != "wrong"}
            for check in checks
        ]
        print_json(
            {"source": source, "connection": connection, "ok": status == "good", "checks": results}
        )
    return EXIT_STATUS[status]
