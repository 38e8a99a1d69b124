"""The subjects of a job, people and targets, and the searches for each."""

from collections.abc import Callable, Sequence
from datetime import datetime

from temporaletl import ConfigurationError, Reject
from temporaletl.external.launchpad.site import DEVEL, STABLE, LaunchpadSite
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery

log = get_logger("temporaletl.worker.sources.launchpad")

#: In searches a status has more shades than a bug shows, and "Unknown" is none of them.
_SHADES = ("Incomplete (with response)", "Incomplete (without response)")
_NOT_SEARCHED = "Unknown"
_BUG_STATUSES = (
    "New",
    "Incomplete",
    "Opinion",
    "Invalid",
    "Won't Fix",
    "Expired",
    "Confirmed",
    "Triaged",
    "In Progress",
    "Fix Committed",
    "Fix Released",
)
_PROPOSAL_STATUSES = (
    "Work in progress",
    "Needs review",
    "Approved",
    "Rejected",
    "Merged",
    "Code failed to merge",
    "Queued",
    "Superseded",
)
_QUESTION_STATUSES = ("Open", "Needs information", "Answered", "Solved", "Expired", "Invalid")

_REMEDY = (
    "renamed, gone or private; correct LP_MEMBERS, the parameter members, or the name in Salesforce"
)

#: The URLs of all searches about one subject. May ask Launchpad; blocks.
Searches = Callable[[LaunchpadSite, str], list[str]]


def subjects_of(query: LaunchpadQuery) -> tuple[str, ...]:
    """Return a job's subjects in a fixed order: people with a tilde, targets without."""
    return (*(f"~{member}" for member in query.members), *query.targets)


def bug_searches(site: LaunchpadSite, subject: str, since: datetime | None) -> list[str]:
    """The bugs that a person reported, owns, comments on or follows, or all of a target.

    Of every status, duplicates too, those that changed after `since`, oldest change first.
    """
    statuses = site.options("bug_task", "status", STABLE) or _BUG_STATUSES
    query = {
        "status": [*(s for s in statuses if s != _NOT_SEARCHED), *_SHADES],
        "omit_duplicates": False,
        "order_by": ["date_last_updated"],
    }
    if since is not None:
        query["modified_since"] = since
    return _there(site.search_url(subject, "searchTasks", STABLE, **query))


def proposal_searches(site: LaunchpadSite, subject: str) -> list[str]:
    """The proposals of a person's branches and those to review, or all of a target."""
    statuses = site.options("branch_merge_proposal", "queue_status", STABLE)
    status = statuses or list(_PROPOSAL_STATUSES)
    urls = _there(site.search_url(subject, "getMergeProposals", STABLE, status=status))
    if subject.startswith("~"):
        urls += _there(site.search_url(subject, "getRequestedReviews", STABLE, status=status))
    return urls


def question_searches(site: LaunchpadSite, subject: str) -> list[str]:
    """The questions that a person asked, answered, discusses or follows, or all of a target."""
    status = site.options("question", "status", DEVEL) or list(_QUESTION_STATUSES)
    return _there(
        site.search_url(subject, "searchQuestions", DEVEL, status=status, sort="oldest first")
    )


def _there(url: str | None) -> list[str]:
    return [] if url is None else [url]


class Hidden:
    """Rejects for items that Launchpad hides from the account, held until a page has records.

    In a run that finds nothing new, a private bug or somebody who is gone would be all there is,
    and a job of nothing but rejects fails; there they are noted in the log.
    """

    def __init__(self, *, resumed: bool) -> None:
        self._held: list[Reject] = []
        #: Whether Launchpad showed any person or target; before a cursor, it did.
        self.shown = resumed

    def note(self, *rejects: Reject) -> None:
        for reject in rejects:
            log.warning("not_shown", key=reject.key, reason=reject.reason)
            self._held.append(reject)

    def note_subject(self, site: LaunchpadSite, subject: str, error: UnreadableError) -> None:
        """Note a person; the others of the job are read.

        Raises:
            CredentialsError: nothing may be read any more.
            ConfigurationError: it is a target.
        """
        if error.may_be_credentials:
            site.check_access()
        if not subject.startswith("~"):
            raise ConfigurationError(
                f"launchpad: target {subject!r} may not be read, or is not there (HTTP "
                f"{error.status}); correct LP_TARGETS or the parameter targets"
            )
        reason = f"Launchpad shows nobody called {subject} (HTTP {error.status}): {_REMEDY}"
        self.note(Reject(stage="extract", reason=reason, key=subject, payload={"member": subject}))

    def release(self) -> list[Reject]:
        """Return what is held, for a page."""
        held, self._held = self._held, []
        return held

    def end(self) -> None:
        """End the job.

        Raises:
            ConfigurationError: Launchpad showed none of the job's people.
        """
        if self._held and not self.shown:
            names = ", ".join(str(reject.key) for reject in self._held)
            raise ConfigurationError(f"launchpad: nobody is called {names}: {_REMEDY}")


def pick_up(subjects: Sequence[str], subject: str | None) -> Sequence[str]:
    """Return the subjects from one on; all, where that one is not among them."""
    return subjects[subjects.index(subject) :] if subject in subjects else subjects
