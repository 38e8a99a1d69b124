"""A service that echoes what it is sent, credentials too, beside terminal escapes."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEERING = "\x1b]0;owned\x07 \x9b2J \u202e"


class _Echo(BaseHTTPRequestHandler):
    """A service that refuses every request, and echoes it in the error."""

    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
        # What is secret first: the words of a server are cut somewhere.
        lines = [
            f"{name}: {', '.join(reversed(value.split(', ')))}"
            for name, value in reversed(self.headers.items())
        ]
        message = f"cannot take {sent[-250:]} {' '.join(lines)} {STEERING}"
        body = json.dumps({"errorMessages": [message], "error": message, "title": message}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the name is the library's

    def log_message(self, *_: object) -> None: ...


@contextmanager
def echoing() -> Iterator[str]:
    """Serve it on loopback; the address is yielded."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
