"""What stands between us and Trino, and can go wrong: see `tests.fakes.faults`."""

import ssl
from pathlib import Path

import jwt
import requests

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer

_PASSED_ON_SECONDS = 30


class TrinoRelay:
    """Passes requests on to the real Trino, whose answers lead back through the relay.

    `absent` answers 404 to everything, as a server does that never heard of the query.
    `public_key` makes it a gateway that lets in only tokens which have not expired: Trino itself
    asks for them where a query begins, but not where its results are fetched.
    """

    def __init__(
        self,
        target: str,
        *,
        absent: bool = False,
        public_key: str | None = None,
        authority: Path | None = None,
    ) -> None:
        self.own_faults: dict[str, str] = {}
        self.absent = absent
        self.refused = 0
        self._target = target
        self._public_key = public_key
        # Many threads share it; it holds no state but connections.
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = True if authority is None else str(authority)

    def bind(self, base_url: str, faults: Faults) -> None:
        """Nothing depends on it: Trino builds its links from the request's Host."""

    def answer(self, request: Request) -> Response:
        if self.absent:
            return Response(404, b"not found", "text/plain")
        if self._public_key is not None and not self._let_in(request):
            self.refused += 1
            return Response(401, b"the token has expired", "text/plain")
        answer = self._session.request(
            request.method,
            f"{self._target}{request.target}",
            headers=request.headers,
            data=request.body,
            timeout=_PASSED_ON_SECONDS,
        )
        kind = answer.headers.get("Content-Type", "text/plain")
        return Response(answer.status_code, answer.content, kind)

    def _let_in(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            jwt.decode(token, self._public_key or "", ["RS256"], options={"verify_aud": False})
        except jwt.InvalidTokenError:
            return False
        return True

    def refuse(self, status: int) -> Response:
        return Response(status, b"refused", "text/plain")


def over_tls(server: FakeServer, folder: Path) -> FakeServer:
    """Have a server, not started yet, speak TLS with the certificate of the tests' Trino."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server._http.socket = context.wrap_socket(server._http.socket, server_side=True)
    return server
