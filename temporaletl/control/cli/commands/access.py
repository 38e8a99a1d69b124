"""`etl token` and `etl audit`: who may use the API, and who did what."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, TokenScope, examples

token = typer.Typer(no_args_is_help=True)
audit = typer.Typer(no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name (`etl token list`).")]


@token.command(
    epilog=examples(
        "etl token create grafana",
        "etl token create ci --scope operate --expires-in-days 90",
        "ETL_API_TOKEN=$(etl token create laptop --scope operate)",
    )
)
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who or what it is for.")],
    scope: Annotated[
        TokenScope,
        typer.Option(
            "--scope", metavar="SCOPE", help="read: look at everything; operate: change it, too."
        ),
    ] = "read",
    expires_in_days: Annotated[
        float | None,
        typer.Option(
            "--expires-in-days", metavar="N", help="When it expires.", show_default="never"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a token for the API, and print it: this once, and nowhere else."""
    from temporaletl.control.cli.views import access as view

    view.create(name, scope, expires_in_days, as_json=as_json)


@token.command("list", epilog=examples("etl token list", "etl token list --json"))
def list_tokens(as_json: AsJson = False) -> None:
    """List the tokens, expired and revoked ones too; no secret is kept that could be shown."""
    from temporaletl.control.cli.views import access as view

    view.print_tokens(as_json=as_json)


@token.command(epilog=examples("etl token revoke ci"))
def revoke(name: Name) -> None:
    """Revoke a token: the next request with it is refused, and its browsers are logged out."""
    from temporaletl.control.cli.views import access as view

    view.revoke(name)


@audit.command("list", epilog=examples("etl audit list", "etl audit list --limit 100 --json"))
def list_audit(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1000, help="How many, latest first.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List who did what, and why: tokens, connections and watermarks that were changed."""
    from temporaletl.control.cli.views import access as view

    view.print_audit(limit, as_json=as_json)
