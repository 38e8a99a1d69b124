"""`etl backup`, `etl restore`, `etl upgrade`, `etl uninstall`: what `etl up` keeps."""

from pathlib import Path
from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson
from temporaletl.control.cli.commands.stack import Data


def backup(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="The file to write, or a folder for it.",
            show_default="temporaletl-TIME.backup.zip, where you are",
        ),
    ] = None,
    data: Data = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of this name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write all that `etl up` keeps to one file, while it runs or is down."""
    from temporaletl.control.cli.views import upkeep as view

    view.back_up(data, file, overwrite=overwrite, as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `etl backup` wrote.")],
    data: Data = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put it in the place of the data that is there."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before --replace replaces.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a backup into the data folder; after an error, what was there before is there still."""
    from temporaletl.control.cli.views import upkeep as view

    view.restore(data, file, replace=replace, yes=yes, as_json=as_json)


def upgrade(
    data: Data = None,
    old_programs: Annotated[
        Path | None,
        typer.Option(
            "--old-programs",
            metavar="FOLDER",
            file_okay=False,
            help="The programs of the PostgreSQL that the data is of.",
            show_default="those that were installed with these",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move the warehouse of `etl up` to the PostgreSQL that is installed here.

    Where that is of the same major version, indexes are built anew if this system sorts otherwise.
    """
    from temporaletl.control.cli.views import upkeep as view

    view.upgrade(data, old_programs, as_json=as_json)


def uninstall(
    data: Data = None,
    keep_data: Annotated[
        bool,
        typer.Option("--keep-data", help="Leave the data folder, with the warehouse, as it is."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> int:
    """Remove what the platform put on this machine: data, logs, caches, completion.

    It says what that is, and asks first. A running `etl up` is ended.
    """
    from temporaletl.control.cli.views import upkeep as view

    return view.uninstall(data, keep_data=keep_data, yes=yes)
