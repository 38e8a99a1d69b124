"""The backlog of source `launchpad`: members by slices, and targets."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import JsonValue, NonNegativeInt, PositiveInt

from temporaletl import Plan, Query, params_method
from temporaletl.external.launchpad.account import launchpad_account
from temporaletl.external.launchpad.settings import LaunchpadSettings, People, Targets
from temporaletl.queuer.sources.launchpad.members import members_of_salesforce

#: Importing it registers it.
ACCOUNT = launchpad_account
STREAMS = ("bugs", "merge_proposals", "questions")


class LaunchpadParams(Query):
    """Parameters of a run of source `launchpad`.

    `members` and `targets` replace what the settings say, both of them as soon as one is given.
    A job reads the work of `members_per_job` people, or one target. `closed_days` leaves out of
    incremental runs what was closed so many days before their window.
    """

    members: People | None = None
    targets: Targets | None = None
    members_per_job: PositiveInt = 20
    closed_days: NonNegativeInt | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """The slices of members, one for each job, and the targets, one for each job."""

    slices: tuple[tuple[str, ...], ...]
    targets: tuple[str, ...]


def _scope() -> dict[str, JsonValue]:
    settings = LaunchpadSettings.load()
    named = {"LP_MEMBERS": settings.members, "LP_TARGETS": settings.targets}
    return {name: [*sorted(values)] for name, values in named.items() if values}


@params_method(
    "launchpad",
    streams=STREAMS,
    # Searches are answered by copies of the database that lag behind, and clocks differ.
    overlap=timedelta(minutes=10),
    lag=timedelta(minutes=1),
    settings=LaunchpadSettings.load,
    params=LaunchpadParams,
    filters=("members", "targets", "closed_days"),
    scope=_scope,
)
def describe_backlog(plan: Plan) -> Backlog:
    """Resolve the members and targets of a run; may query Salesforce.

    Raises:
        ConfigurationError: nobody and nothing is configured, or a parameter is wrong.
    """
    params = LaunchpadParams.from_dict(plan.metadata.params)
    members, targets = members_and_targets(params)
    size = params.members_per_job
    slices = tuple(members[first : first + size] for first in range(0, len(members), size))
    return Backlog(slices, targets)


def members_and_targets(params: LaunchpadParams) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return members and targets: the request's, else the settings', else Salesforce's members."""
    if params.members is not None or params.targets is not None:
        members, targets = params.members or (), params.targets or ()
    else:
        settings = LaunchpadSettings.load()
        members, targets = settings.members, settings.targets
    return (members or (() if targets else members_of_salesforce())), targets
