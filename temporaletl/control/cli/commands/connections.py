"""`etl connections`: the sites, tenants and namespaces that there are beside the environment's."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, examples, read_pairs
from temporaletl.errors import ConfigurationError

connections = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The connection's name.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="A setting; may be repeated."),
]
Env = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="SETTING=VARIABLE",
        help="A setting whose value, a secret, is in that variable of the services.",
    ),
]
SecretFile = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        metavar="SETTING=PATH",
        help="A setting whose value, a secret, is in that file of the services.",
    ),
]


@connections.command("list", epilog=examples("etl connections list", "etl connections list --json"))
def list_connections(as_json: AsJson = False) -> int:
    """List the connections of the file and of the warehouse; no secret is read."""
    from temporaletl.control.cli.views import connections as view

    return view.print_connections(as_json=as_json)


@connections.command(
    epilog=examples(
        "etl connections check  # all of them", "etl connections check acme  # one of them"
    )
)
def check(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only this one.", show_default="all of them"),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Try whether settings and secrets are there, and who each source says we are."""
    from temporaletl.control.cli.views import connections as view

    return view.print_checks(name, as_json=as_json)


@connections.command(
    epilog=examples(
        "etl connections create acme --source jira --set JIRA_URL=https://acme.atlassian.net "
        "--set JIRA_EMAIL=me@example.com --env JIRA_API_TOKEN=ACME_TOKEN"
    )
)
def create(
    name: Name,
    source: Annotated[
        str, typer.Option("--source", metavar="SOURCE", help="The source, such as jira.")
    ],
    settings: Set = None,
    env: Env = None,
    file: SecretFile = None,
    as_json: AsJson = False,
) -> None:
    """Store a connection in the warehouse, once its source takes the settings."""
    given, places = read_pairs("--set", settings), read_places(env, file)

    from temporaletl.control.cli.views import connections as view

    view.create(name, source, given, places, as_json=as_json)


@connections.command(
    epilog=examples(
        "etl connections replace acme --set JIRA_URL=https://acme.atlassian.net "
        "--set JIRA_EMAIL=me@example.com --file JIRA_API_TOKEN=/run/secrets/acme"
    )
)
def replace(
    name: Name,
    settings: Set = None,
    env: Env = None,
    file: SecretFile = None,
    version: Annotated[
        int | None,
        typer.Option(
            "--version",
            metavar="N",
            help="Only if this is its version still.",
            show_default="whatever it is",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replace all settings of a connection in the warehouse."""
    given, places = read_pairs("--set", settings), read_places(env, file)

    from temporaletl.control.cli.views import connections as view

    view.replace(name, given, places, version, as_json=as_json)


@connections.command(
    epilog=examples(
        "etl connections delete acme",
        "etl connections delete acme --force  # though it is scheduled, or being loaded",
    )
)
def delete(
    name: Name,
    force: Annotated[
        bool,
        typer.Option("--force", help="Though it has a schedule, or a run of it goes on."),
    ] = False,
) -> None:
    """Delete a connection from the warehouse, with its watermarks; its rows stay."""
    from temporaletl.control.cli.views import connections as view

    view.delete(name, force=force)


def read_places(env: list[str] | None, file: list[str] | None) -> dict[str, dict[str, str]]:
    """Where the values of settings are, by --env and --file.

    Raises:
        ConfigurationError: as `read_pairs`, or a setting is given by both.
    """
    found = {name: {"env": where} for name, where in read_pairs("--env", env).items()}
    for name, where in read_pairs("--file", file).items():
        if name in found:
            raise ConfigurationError(f"{name} is given by --env and by --file")
        found[name] = {"file": where}
    return found
