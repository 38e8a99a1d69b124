"""What a source is asked beside the planning of a batch: its account view, and its people."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from temporaletl.accounts import account_views, login_was_accepted, when_accepted
from temporaletl.external.threads import abandon
from temporaletl.messages import BatchMetadata
from temporaletl.queuer.generated import in_blocks
from temporaletl.queuer.narrowed import hold_narrowed
from temporaletl.rows import Identity
from temporaletl.strategies import Plan, people, rows_only_people
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.identities import record_people

_PEOPLE_AT_ONCE = 1_000

#: Sources and connections whose last batch had jobs, as far as this process planned it.
_with_jobs: set[tuple[str, str]] = set()


@contextlib.asynccontextmanager
async def beside_planning(
    warehouse: Warehouse, metadata: BatchMetadata
) -> AsyncGenerator["BesidePlanning"]:
    """Ask for a batch's account view and people while its jobs are planned in the body.

    A login that was not accepted before is tried first and alone. Where the view cannot be had,
    its error comes before the body's: both have the same reason, and it says so best.

    Raises: as `hold_narrowed`, and as the source's identities method.
    """
    is_known = metadata.source not in account_views or login_was_accepted(metadata.source)
    accepted, loop = asyncio.Event(), asyncio.get_running_loop()

    def accept() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(accepted.set)

    with when_accepted(accept):
        account = asyncio.create_task(asyncio.to_thread(hold_narrowed, warehouse, metadata))
    account.add_done_callback(lambda _: accepted.set())
    beside = BesidePlanning(warehouse, metadata, account)
    try:
        if not is_known:
            await accepted.wait()
            if account.done():
                await account
        beside.begin()
        try:
            yield beside
        except Exception:
            await account
            raise
    finally:
        await beside.abandon()


class BesidePlanning:
    """The account view and the people of one batch; see `beside_planning`."""

    def __init__(
        self, warehouse: Warehouse, metadata: BatchMetadata, account: "asyncio.Task[None]"
    ) -> None:
        self._warehouse = warehouse
        self._metadata = metadata
        self._account = account
        self._recording: asyncio.Task[None] | None = None
        self._done = False

    def begin(self) -> None:
        """Begin to read the people, where it is likely that somebody needs them."""
        if self._needs_people_always or self._key in _with_jobs:
            self._record()

    async def done(self, *, has_jobs: bool) -> None:
        """Wait until all is known that jobs need, or the end of a batch without any."""
        if self._done:
            return
        if has_jobs or self._needs_people_always:
            self._record()
        (_with_jobs.add if has_jobs else _with_jobs.discard)(self._key)
        await self._account
        if self._recording is not None:
            await self._recording
        self._done = True

    async def abandon(self) -> None:
        await abandon([task for task in (self._recording, self._account) if task is not None])

    @property
    def _key(self) -> tuple[str, str]:
        return self._metadata.source, self._metadata.connection

    @property
    def _needs_people_always(self) -> bool:
        metadata = self._metadata
        return metadata.source in people and not (
            metadata.mode == "incremental" and metadata.source in rows_only_people
        )

    def _record(self) -> None:
        if self._recording is None and self._metadata.source in people:
            self._recording = asyncio.create_task(self._record_people())

    async def _record_people(self) -> None:
        found = in_blocks(people.get(self._metadata.source)(Plan(self._metadata)))
        waiting: list[Identity] = []
        async with contextlib.aclosing(found) as blocks:
            async for block in blocks:
                waiting += block
                while len(waiting) >= _PEOPLE_AT_ONCE:
                    await self._enter(waiting[:_PEOPLE_AT_ONCE])
                    del waiting[:_PEOPLE_AT_ONCE]
        await self._enter(waiting)

    async def _enter(self, some: list[Identity]) -> None:
        # The people of another site are none of this connection's.
        await asyncio.shield(self._account)
        await asyncio.to_thread(record_people, self._warehouse, self._metadata.connection, some)
