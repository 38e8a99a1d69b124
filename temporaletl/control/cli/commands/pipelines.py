"""`etl pipeline`: definitions of pipelines, checked and drawn."""

from pathlib import Path
from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, examples

pipeline = typer.Typer(no_args_is_help=True)

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        readable=True,
        help="A definition: YAML, or JSON where its name ends with .json.",
    ),
]


@pipeline.command(epilog=examples("etl pipeline validate orders.yaml"))
def validate(file: File, as_json: AsJson = False) -> int:
    """Name everything that is wrong with a definition, with its place."""
    from temporaletl.control.cli.views import pipelines as view

    return view.print_validation(file, as_json=as_json)


@pipeline.command(epilog=examples("etl pipeline graph orders.yaml > orders.mmd"))
def graph(file: File) -> int:
    """Print the graph of a definition, for Mermaid."""
    from temporaletl.control.cli.views import pipelines as view

    return view.print_graph(file)


@pipeline.command(epilog=examples("etl pipeline schema > pipeline.schema.json"))
def schema() -> None:
    """Print the JSON Schema of definitions, for editors."""
    from temporaletl.control.cli.views import pipelines as view

    view.print_schema()
