"""`etl migrate` and `etl schema`: output of tables and their changes."""

from temporaletl.control.cli.output import (
    add_row,
    count,
    make_table,
    note,
    print_json,
    print_table,
    say,
)
from temporaletl.control.cli.session import begin_here, call
from temporaletl.control.operations.tables import (
    TableSchema,
    describe_tables,
    list_changes,
    migrate_warehouse,
)
from temporaletl.worker.loading.evolution import Change


def migrate(*, as_json: bool) -> None:
    """Bring the warehouse's tables up to date, and print each change as it is begun."""
    begin_here()
    made = call(migrate_warehouse, notice=_announce)
    if as_json:
        print_json([_document(change) for change in made])
        return
    say(f"{count(len(made), 'change')} made" if made else "everything is up to date")


def print_changes(source: str | None, *, as_json: bool) -> None:
    """Print what the next run, or `etl migrate`, would change."""
    begin_here()
    changes = call(list_changes, source)
    if as_json:
        print_json([_document(change) for change in changes])
        return
    if not changes:
        say("everything is up to date")
        return
    table = make_table("table", "change", "made by")
    for change in changes:
        by = "the next run" if change.by == "run" else "etl migrate"
        add_row(table, change.table, change.words, by)
    print_table(table)


def print_tables(source: str | None, *, as_json: bool) -> None:
    """Print the tables as this version declares them."""
    begin_here()
    tables = call(describe_tables, source)
    if as_json:
        print_json([_described(table) for table in tables])
        return
    for table in tables:
        _print_table(table)


def _print_table(found: TableSchema) -> None:
    say(found.table, style="bold")
    note(found.comment, style="dim")
    table = make_table("column", "type", "null", "meaning")
    for column in found.columns:
        null = "" if column.name in found.required else "null"
        add_row(table, column.name, column.type, null, column.comment)
    print_table(table)
    indexes = [f"{name} ({', '.join(columns)})" for name, columns in found.indexes.items()]
    note(f"key: {', '.join(found.key)}; indexes: {', '.join(indexes) or 'none'}", style="dim")


def _announce(change: Change) -> None:
    note(f"{change.table}: {change.words}", style="dim")


def _document(change: Change) -> dict[str, str]:
    return {"table": change.table, "change": change.words, "by": change.by}


def _described(found: TableSchema) -> dict[str, object]:
    return {
        "source": found.source,
        "table": found.table,
        "comment": found.comment,
        "columns": [
            {
                "column": column.name,
                "type": column.type,
                "null": column.name not in found.required,
                "comment": column.comment,
            }
            for column in found.columns
        ],
        "key": list(found.key),
        "indexes": {name: list(columns) for name, columns in found.indexes.items()},
    }
