"""A real HTTP server of webhooks, which takes, refuses, redirects or hangs as its path says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Post:
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Webhooks:
    """The path `/NNN/…` answers with that status; `/hang/…` and `/drip/…` never end by themselves.

    `answers` gives the next statuses of a path instead, one for each post.
    """

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: dict[str, list[int]] = {}
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._answer(self)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...  # whoever hung up

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        raw = request.rfile.read(int(request.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.posts.append(Post(request.path, headers, raw))
        kind = request.path.split("/")[1]
        if kind in ("hang", "drip"):
            while not self._closing.wait(0.2):
                if kind == "drip":
                    request.wfile.write(b"H")
            return
        following = self.answers.get(request.path)
        status = following.pop(0) if following else int(kind) if kind.isdigit() else 200
        request.send_response(status)
        if 300 <= status < 400:
            nowhere = request.path.endswith("/nowhere")
            place = "http://[" if nowhere else self.url("/200/elsewhere")
            request.send_header("Location", place)
        # Slack says no more, and Apprise insists on it.
        request.send_header("Content-Length", "2" if status != 204 else "0")
        request.end_headers()
        if status != 204:
            request.wfile.write(b"ok")

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def running_webhooks() -> Iterator[Webhooks]:
    opened = Webhooks()
    try:
        yield opened
    finally:
        opened.close()
