"""Transport: connections that are slow to send a request, or to take an answer, are ended."""

import asyncio
import json
import socket
import sys
import uuid
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from temporaletl.control.api.problems import MEDIA_TYPE
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.api")

#: In bytes: the request's line and its headers.
MOST_HEAD = 32 * 1024
#: How long a client may leave an answer unread once the buffers between are full.
UNREAD = timedelta(seconds=10)


class BoundedProtocol(H11Protocol):
    """HTTP/1.1, with bounds on a request's head and on how slow a reader may be.

    A head that is too large or wrong, or does not arrive in time, is answered with a problem.
    """

    #: How long a head may take, from its first byte or the connection's beginning.
    head_within = timedelta(seconds=10)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # asyncio does so for sockets of its own alone; without it, an answer, whose head and body
        # are written one after the other, waits 40 ms for an acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is None and self._is_idle():
            self._await_head()
        super().data_received(data)
        if not self._is_idle():
            self._forget_head()

    def _is_idle(self) -> bool:
        """Whether no request is under way: what comes is the head of one."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _await_head(self) -> None:
        self._head = self.loop.call_later(self.head_within.total_seconds(), self._end_slow_head)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def on_response_complete(self) -> None:
        # The keep-alive timer takes over, until the first byte of another head.
        self._forget_head()
        super().on_response_complete()

    def _end_slow_head(self) -> None:
        self._head = None
        if not self.transport.is_closing() and self._is_idle():
            self._answer(
                HTTPStatus.REQUEST_TIMEOUT,
                "too-slow",
                f"the request did not arrive within {self.head_within.total_seconds():g} seconds",
            )

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - the server's name of it
        """Answer what is no request, in the handler of the error that says why."""
        self._forget_head()
        hint = getattr(sys.exception(), "error_status_hint", None)
        if hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            status, code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head-too-large"
            detail = f"line and headers of the request have more than {MOST_HEAD:,} bytes"
        else:
            status, code, detail = HTTPStatus.BAD_REQUEST, "no-http", "this is no HTTP request"
        self._answer(status, code, detail)

    def _answer(self, status: HTTPStatus, code: str, detail: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        request_id = uuid.uuid4().hex
        problem = {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "detail": detail,
            "code": code,
            "request_id": request_id,
        }
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
            (b"connection", b"close"),
        ]
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
        self.transport.write(line + head + b"\r\n" + body)
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD.total_seconds(), self._drop)

    def resume_writing(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None
        super().resume_writing()

    def _drop(self) -> None:
        """Give up on who does not read; what waits for it ends as if the client had gone."""
        log.info("slow_reader_dropped", seconds=UNREAD.total_seconds())
        self.transport.abort()
