"""The fake ServiceTitan service: authentication, endpoints and error answers."""

import itertools
import secrets
import time
from typing import Literal

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import serving
from tests.fakes.servicetitan import export, listing
from tests.fakes.servicetitan.bodies import STREAMS
from tests.fakes.servicetitan.refusal import RefusedError, problem
from tests.fakes.servicetitan.tenant import Tenant

#: Faults in what ServiceTitan says, on top of those of any HTTP service.
OWN_FAULTS: dict[str, str] = {
    "repeated-token": "an export repeats the token of its request, though more follows",
    "expired-feed-token": "a token of an export is no longer taken: 400, from then on",
    "short-page": "a page with fewer records than it should have, though more follow",
    "empty-page": "an empty page in the middle, though more follow",
    "more-at-end": "hasMore on the last page, which an empty one follows",
    "changing-rows": "a record already given is saved again between two pages",
    "unstable-ties": "records of one time stand in another order than in the answer before",
    "ties": "shapes the data: this share of the records has the very same modifiedOn",
}

_MODULES = {"customers": "crm", "jobs": "jpm", "invoices": "accounting", "estimates": "sales"}
#: What the token server calls a refused client.
Reason = Literal["invalid_client", "unauthorized_client"]


class ServiceTitanService:
    """The service of one tenant; see `tests.fakes.server.Service`.

    `client` is the one that is let in, `ID:SECRET`.
    `export_rows` is what one answer of a feed holds at most; `order` is what lists do with the
    order they are asked for.
    """

    own_faults = OWN_FAULTS

    def __init__(
        self,
        tenant: Tenant,
        *,
        client: str = "cid.fake:cs1.fake",
        app_key: str = "ak1.fake",
        token_seconds: float = 900,
        export_rows: int = 1_000,
        order: Literal["kept", "ignored", "refused"] = "kept",
    ) -> None:
        self.tenant = tenant
        client_id, _, secret = client.partition(":")
        self.clients = {client_id: secret}
        self.app_keys = {app_key}
        self.token_seconds = token_seconds
        self.export_rows = export_rows
        self.order = order
        #: Streams whose scope the app has.
        self.scopes = set(STREAMS)
        self.foreign_tenant = 403
        self.refusing: Reason = "invalid_client"
        self.salts = itertools.count(1)
        self.expired_feed_tokens: set[str] = set()
        self.feed_tokens_expired = False
        self.faults = Faults(known=OWN_FAULTS)
        self._tokens: dict[str, tuple[str, float]] = {}

    def bind(self, base_url: str, faults: Faults) -> None:
        del base_url
        self.faults = faults
        if ties := faults.rate("ties"):
            self.tenant.shape_ties(ties, faults.seed)

    def expire_tokens(self) -> None:
        """Revoke all access tokens issued so far."""
        self._tokens.clear()

    def revoke_client(self, reason: Reason = "invalid_client") -> None:
        """Revoke the client's access, its tokens included."""
        self.clients.clear()
        self.refusing = reason
        self.expire_tokens()

    def refuse(self, status: int) -> Response:
        """Return a 401 or a 429 as the service words it."""
        response = problem(status)
        if status == 401:
            response.headers = {"WWW-Authenticate": "Bearer"}
        return response

    def complain(self, status: int, message: str) -> Response:
        return problem(status, title=message)

    def answer(self, request: Request) -> Response:
        try:
            if request.path == "/connect/token":
                return self._give_token(request)
            return self._route(request)
        except RefusedError as refused:
            if refused.status == 401:
                return self.refuse(401)
            return problem(refused.status, refused.errors)

    def _give_token(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(405, b"", "text/plain")
        form = request.form()
        if form.get("grant_type") != "client_credentials":
            return Response.of({"error": "unsupported_grant_type"}, 400)
        client = form.get("client_id", "")
        if self.clients.get(client, "") != form.get("client_secret") or client not in self.clients:
            return Response.of({"error": self.refusing}, 400)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = (client, time.monotonic() + self.token_seconds)
        return Response.of(
            {
                "access_token": token,
                "expires_in": int(self.token_seconds),
                "token_type": "Bearer",
                "scope": " ".join(f"tn.{_MODULES[each]}.{each}:r" for each in sorted(self.scopes)),
            }
        )

    def _route(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        match parts:
            case [module, "v2", "tenant", tenant, *rest] if rest:
                pass
            case _:
                raise RefusedError(404)
        exported = rest[0] == "export" and len(rest) > 1
        stream = "/".join(rest[1:] if exported else rest)
        if _MODULES.get(stream) != module:
            raise RefusedError(404)
        self._admit(request)
        if tenant != str(self.tenant.number):
            raise RefusedError(self.foreign_tenant)
        if stream not in self.scopes:
            raise RefusedError(403)
        if request.method != "GET":
            raise RefusedError(405)
        with self.tenant.lock:
            answer = export.page if exported else listing.page
            return answer(self, request, self.tenant.collections[stream])

    def _admit(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        client, expires = self._tokens.get(token.strip(), ("", 0.0))
        if scheme.lower() != "bearer" or expires <= time.monotonic() or client not in self.clients:
            raise RefusedError(401)
        if request.headers.get("st-app-key", "") not in self.app_keys:
            raise RefusedError(401)


serve = serving(ServiceTitanService)
