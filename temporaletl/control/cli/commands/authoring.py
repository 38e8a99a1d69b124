"""`etl new-source`."""

from pathlib import Path
from typing import Annotated

import typer


def new_source(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The source's name, as in `etl run NAME`.")
    ],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="DIR",
            file_okay=False,
            help="The checkout, or where the package goes.",
            show_default="around the current folder",
        ),
    ] = None,
    wheel: Annotated[
        bool,
        typer.Option("--wheel", help="A package of its own, also within a checkout."),
    ] = False,
) -> None:
    """Write a source that runs and is tested, to be made your own."""
    from rich.text import Text

    from temporaletl.control.cli.output import note, say
    from temporaletl.control.cli.session import refuse_api
    from temporaletl.control.scaffold import new_source as sources

    refuse_api()
    written = sources.new_source(name, folder, wheel=wheel)
    note(f"source {name} in {written.folder}:")
    for path in written.paths:
        say(str(path))
    note("next:")
    for command, meaning in written.steps:
        note(Text.assemble(f"  {command}", (f"  # {meaning}" if meaning else "", "dim")))
