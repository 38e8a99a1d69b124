"""Refreshes: runs of all members of a collection, started together."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from temporaletl.connections.providers import UnknownConnectionError
from temporaletl.control.operations.audit import local_author, record_outcome
from temporaletl.control.operations.collections import get_collection
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.runs import (
    RunGoesOnError,
    run_request,
    start_only_run,
    start_run,
)
from temporaletl.errors import ETLError, UnknownSourceError
from temporaletl.messages import Message, Mode
from temporaletl.names import label
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.collections import Collection, Member
from temporaletl.warehouse.runs import Engine

#: `running`: one was under way already, and none was started.
Outcome = Literal["started", "running", "refused"]


class MemberRefresh(Message):
    """What came of starting a member's run: the run, or why there is none."""

    source: str
    connection: str
    outcome: Outcome
    #: Of the run that was started, or that goes on.
    workflow_id: str | None = None
    run_id: str | None = None
    engine: Engine | None = None  # of the run that was started
    reason: str | None = None


class Refresh(Message):
    """The runs of a collection's members, in the collection's order."""

    collection: Collection
    members: tuple[MemberRefresh, ...]

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many members had each outcome."""
        return Counter(one.outcome for one in self.members)


async def refresh_collection(
    platform: Platform,
    key: str | UUID,
    *,
    mode: Mode = "incremental",
    notify: bool = True,
    force: bool = False,
    author: Author | None = None,
) -> Refresh:
    """Start a run of each member; with `force` also of those of which one goes on.

    What is wrong with one is its result, and keeps no other from being started. The audit has one
    entry of all.

    Raises:
        NotFoundError: there is no such collection.
        ETLError: as `Platform.current_warehouse`.
    """
    collection, by = await get_collection(platform, key), author or local_author()
    members = [
        await _refresh(platform, member, mode=mode, notify=notify, force=force, by=by.name)
        for member in collection.members
    ]
    done = Refresh(collection=collection, members=tuple(members))
    await record_outcome(
        platform,
        by,
        "collection.refresh",
        collection.name,
        "refused" if members and done.counts["refused"] == len(members) else "done",
        details={
            label(one.source, one.connection): one.workflow_id or one.outcome for one in members
        },
    )
    return done


async def _refresh(
    platform: Platform,
    member: Member,
    *,
    mode: Mode,
    notify: bool,
    force: bool,
    by: str,
) -> MemberRefresh:
    starting = start_run if force else start_only_run
    try:
        run = await starting(
            platform,
            run_request(member.source, connection=member.connection, mode=mode, notify=notify),
            by=by,
        )
    except RunGoesOnError as error:
        return MemberRefresh(
            **member.model_dump(),
            outcome="running",
            workflow_id=error.workflow_id,
            reason=str(error),
        )
    except (UnknownConnectionError, UnknownSourceError) as error:
        reason = (
            f"{member} is declared no longer: take it out of the collection, or declare it again "
            f"({error})"
        )
        return MemberRefresh(**member.model_dump(), outcome="refused", reason=reason)
    except ETLError as error:
        return MemberRefresh(**member.model_dump(), outcome="refused", reason=str(error))
    run.ending.cancel()  # nobody waits here
    return MemberRefresh(
        **member.model_dump(),
        outcome="started",
        workflow_id=run.workflow_id,
        run_id=run.run_id,
        engine=run.engine,
    )
