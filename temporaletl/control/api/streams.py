"""Streams: server-sent events, bounded in number, and ended with their tokens."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.operations.live import Follower, Live, Update
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tokens import has_tokens, valid_tokens
from temporaletl.errors import ETLError, RetryableError

#: What is sent where nothing has changed for so long, so that nobody between takes it for dead.
HEARTBEAT = timedelta(seconds=15)
_RETRY_AFTER = timedelta(seconds=10)
_CHECKED_EVERY = timedelta(seconds=1)
#: Whose streams are of no token: those of this machine, while there is none.
LOCAL = "local"
_HEARTBEAT = b": nothing new\n\n"
_LINE_END = re.compile(r"\r\n|\r|\n")
_REVOKED = "its token is valid no longer"


class TooManyStreamsError(RetryableError):
    """A stream is refused: as many are open as may be, of this token or of all."""

    def __init__(self, message: str, *, of_token: bool) -> None:
        super().__init__(message, delay=_RETRY_AFTER)
        self.of_token = of_token


class Streams:
    """The open streams of a process.

    One query an interval says whose tokens are still valid. For one event loop.
    """

    def __init__(self, platform: Platform, live: Live, settings: ApiSettings) -> None:
        self._platform = platform
        self._live = live
        self._most = settings.streams
        self._most_of_token = settings.streams_per_token
        self._open: dict[Follower, str] = {}
        self._counts: Counter[str] = Counter()
        self._watch: asyncio.Task[None] | None = None
        self._closing = False

    @asynccontextmanager
    async def opened(self, token_id: str, run: str | None) -> AsyncGenerator[Follower]:
        """Follow all runs or one, for a caller; ends with its token, and with the server.

        Raises:
            TooManyStreamsError: of the caller, or of all; or the server is about to end.
            ETLError: as `Live.follow`.
        """
        self._check(token_id)
        self._counts[token_id] += 1
        try:
            follower = await self._live.follow(run)
            try:
                self._open[follower] = token_id
                if self._watch is None or self._watch.done():
                    self._watch = asyncio.create_task(self._check_tokens())
                if self._closing:
                    follower.end("the server ends")
                yield follower
            finally:
                self._open.pop(follower, None)
                self._live.leave(follower)
        finally:
            self._counts[token_id] -= 1
            if not self._counts[token_id]:
                del self._counts[token_id]

    def _check(self, token_id: str) -> None:
        if self._counts[token_id] >= self._most_of_token:
            raise TooManyStreamsError(
                f"{self._most_of_token:,} streams of this caller are open "
                "(ETL_API_STREAMS_PER_TOKEN): close some",
                of_token=True,
            )
        if self._counts.total() >= self._most or self._closing:
            raise TooManyStreamsError(
                f"{self._most:,} streams of this process are open (ETL_API_STREAMS), or it is "
                "about to end: try again later",
                of_token=False,
            )

    def close(self) -> None:
        """End every stream, and open no others."""
        self._closing = True
        for follower in self._open:
            follower.end("the server ends")

    async def _check_tokens(self) -> None:
        """End streams whose tokens are no longer valid, until there are no streams."""
        while self._open:
            await asyncio.sleep(_CHECKED_EVERY.total_seconds())
            checked = set(self._open.values())
            try:
                valid = await self._valid(checked)
            except ETLError:
                # They were valid; the warehouse, which cannot be asked, cannot revoke them either.
                continue
            for follower, token_id in self._open.items():
                # Not of one that was opened meanwhile.
                if token_id in checked and token_id not in valid:
                    follower.end(_REVOKED)

    async def _valid(self, token_ids: set[str]) -> Collection[str]:
        valid = await valid_tokens(self._platform, token_ids - {LOCAL})
        if LOCAL in token_ids and not await has_tokens(self._platform):
            valid.add(LOCAL)
        return valid


class EventStream(StreamingResponse):
    """Server-sent events of one who follows all runs, or one; `render` makes the data of each.

    What keeps it from being opened is answered as a problem.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        streams: Streams,
        token_id: str,
        run: str | None,
        *,
        render: Callable[[Update], str] = lambda update: update.json,
    ) -> None:
        # Proxies that buffer answers would hold events back.
        super().__init__((), headers={"X-Accel-Buffering": "no", "Cache-Control": "no-store"})
        self._streams = streams
        self._token_id = token_id
        self._run = run
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._streams.opened(self._token_id, self._run) as follower:
            self.body_iterator = self._events(follower)
            await super().__call__(scope, receive, send)

    async def _events(self, follower: Follower) -> AsyncGenerator[bytes]:
        yield b"retry: 2000\n\n"
        while follower.ended is None:
            update = await follower.next(HEARTBEAT)
            if update is not None:
                yield event(update.kind, self._render(update))
            elif follower.ended is None:
                yield _HEARTBEAT
        yield event("end", follower.ended)


def event(kind: str, data: str) -> bytes:
    """An event as it is sent; data may have several lines."""
    # Not `splitlines`: what else it takes for ends of lines may be within a text of JSON.
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(data))
    return f"event: {kind}\n{lines}\n".encode()
