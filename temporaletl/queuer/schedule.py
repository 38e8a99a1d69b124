"""`python schedule.py <source_kind_id> [name] [day_of_week] [hour]`: when a source is synced.

`python schedule.py jira 1 3` syncs Jira on Mondays at 03:00 UTC. It is `etl schedule` by itself,
and finds the platform as that does.
"""

import typer

from temporaletl.command import be_command
from temporaletl.control.cli.commands.schedules import schedule

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(schedule)

if __name__ == "__main__":
    be_command(app, "schedule.py")
