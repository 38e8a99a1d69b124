"""A relay for TCP in front of a server of the tests, which can stop forwarding without a word."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_LOOK_SECONDS = 0.05
#: How long a peer may take nothing before its connection ends: nobody else is served meanwhile.
_SEND_SECONDS = 10


class TcpRelay:
    """Listens on loopback; `url` is the target's, through the relay.

    `freeze` keeps all connections open and passes nothing on any more, as a pooler or a network
    does that is stuck. `admitting` lets new ones through all the same. `cut` ends all connections,
    those that are stuck too; later ones are let through.
    """

    def __init__(self, target: str) -> None:
        self._target = {k: str(v) for k, v in conninfo_to_dict(target).items() if v is not None}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._frozen: set[socket.socket] = set()
        self._doomed: set[socket.socket] = set()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._admitting = True
        self._ended = False
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        parts = {k: v for k, v in self._target.items() if k not in ("host", "hostaddr", "port")}
        host, port = self._listener.getsockname()
        return make_conninfo(**parts, host=host, port=str(port), sslmode="disable")

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def freeze(self, *, admitting: bool) -> None:
        with self._lock:
            self._frozen |= set(self._peers)
            self._admitting = admitting

    def cut(self) -> None:
        with self._lock:
            self._doomed |= set(self._peers)
            self._admitting = True

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        self._thread.join(timeout=120)
        for each in (self._listener, *self._peers):
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ended:
            for key, _ in self._selector.select(_LOOK_SECONDS):
                if key.fileobj is self._listener:
                    self._admit()
                else:
                    self._pass_on(key.fileobj)
            with self._lock:
                doomed, self._doomed = self._doomed, set()
            for each in doomed:
                self._part(each)

    def _admit(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = self._connect()
        except OSError:  # the server is down
            client.close()
            return
        with self._lock:
            self._peers.update({client: server, server: client})
            if not self._admitting:
                self._frozen |= {client, server}
        for each in (client, server):
            each.settimeout(_SEND_SECONDS)
            self._selector.register(each, selectors.EVENT_READ)

    def _connect(self) -> socket.socket:
        host, port = self._target.get("host", "127.0.0.1"), int(self._target.get("port", 5432))
        if host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{host}/.s.PGSQL.{port}")
            return server
        return socket.create_connection((host, port), timeout=60)

    def _pass_on(self, origin: object) -> None:
        assert isinstance(origin, socket.socket)
        with self._lock:
            if origin in self._frozen:
                self._selector.unregister(origin)
                return
            peer = self._peers.get(origin)
        with contextlib.suppress(OSError):
            if peer is None:  # it parted while its event was waiting
                return
            if data := origin.recv(65_536):
                peer.sendall(data)
                return
        self._part(origin)

    def _part(self, one: socket.socket) -> None:
        """End a connection at both ends; harmless when repeated."""
        with self._lock:
            ends = {one, self._peers[one]} if one in self._peers else set()
            for each in ends:
                del self._peers[each]
            self._frozen -= ends
        for each in ends:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(each)
            each.close()
