"""What a terminal shows at once, while a command gets ready: importing takes most of a second."""

from collections.abc import Sequence

from temporaletl.terminal import show_sign

#: These are answered at once, or for a program.
_AT_ONCE = frozenset(("--help", "-h", "--json"))
#: By command. Those that are not here say themselves what they do, or hand the terminal over.
SIGNS = {
    "run": "Starting the run",
    "status": "Reading the status",
    "follow": "Looking for the run",
    "logs": "Reading the log",
    "retry": "Starting the run",
    "freshness": "Reading how fresh the data are",
    "health": "Looking at the parts",
    "notify": "Reading the notifications",
    "pause": "Pausing",
    "resume": "Resuming",
    "cancel": "Cancelling",
    "sources": "Reading the sources",
    "check": "Checking",
    "connections": "Reading the connections",
    "preview": "Reading the source",
    "schedule": "Changing the schedule",
    "schedules": "Reading the schedules",
    "schedule-pause": "Changing the schedule",
    "schedule-resume": "Changing the schedule",
    "schedule-delete": "Changing the schedule",
    "schedule-backfill": "Starting the runs",
    "schema": "Reading the tables",
    "ledger": "Weighing the ledger",
    "partitions": "Weighing the events",
    "migrate": "Looking at the tables",
    "verify": "Reading the source",
    "state": "Reading the watermarks",
    "rejects": "Reading the rejects",
    "identities": "Reading the people",
    "pipeline": "Reading the definition",
    "token": "Reading the tokens",
    "key": "Reading the payload keys",
    "audit": "Reading the audit",
    "settings": "Reading the settings",
    "backup": "Getting ready to back up",
    "restore": "Getting ready to restore",
    "upgrade": "Getting ready to move the warehouse",
    "uninstall": "Looking at what is there",
}
SILENT = frozenset(("up", "worker", "down", "serve", "psql", "init", "new-source"))


def show_sign_of(arguments: Sequence[str]) -> None:
    """Show the sign of a command line, where a terminal reads it; see `show_sign`."""
    sign = SIGNS.get(arguments[0]) if arguments else None
    if sign is not None and not _AT_ONCE.intersection(arguments):
        show_sign(sign)
