"""The fake Salesforce service: authentication, endpoints and error answers."""

import itertools
import re
import threading
from datetime import UTC, datetime, timedelta

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.salesforce import bulk, finding, login
from tests.fakes.salesforce.org import Org, shape_null_people, shape_ties
from tests.fakes.salesforce.refusal import RefusedError
from tests.fakes.server import serving

#: Faults in what Salesforce says, on top of those of any HTTP service.
OWN_FAULTS: dict[str, str] = {
    "session-ended": "a session is no longer valid: 401 until a new login",
    "query-timeout": "a query ran for too long: 400",
    "locator-evicted": "a query's cursor is gone: 400 INVALID_QUERY_LOCATOR",
    "repeated-locator": "a page or piece repeats the locator of its request",
    "short-page": "a page with fewer rows than requested, though more follow",
    "empty-page": "an answer without rows, though some follow",
    "short-piece": "a piece of bulk results with fewer rows than requested, though more follow",
    "concurrent-limit": "too many long requests at once: 403",
    "daily-limit": "the day's requests are used up: 403",
    "server-unavailable": "503 with a code of Salesforce's",
    "changing-rows": "a row of the object is changed between two queries",
    "bulk-slow": "a bulk job takes longer",
    "bulk-failed": "a bulk job fails by a timeout",
    "bulk-aborted": "somebody aborts a bulk job",
    "bulk-gone": "a bulk job's results are gone: 404",
    "ties": "shapes the data: this share of the rows has the very same stamp",
    "null-people": "shapes the data: this share of the rows names nobody",
}

_TYPE_IN_QUERY = re.compile(r"\bFROM\s+(\w+)", re.IGNORECASE)


class SalesforceService:
    """The service of one org; see `tests.fakes.server.Service`.

    `daily_limit` bounds the API requests; `bulk_looks` is how often a bulk job is looked at
    before it is complete.
    """

    own_faults = OWN_FAULTS

    def __init__(
        self,
        org: Org,
        *,
        doors: login.Doors | None = None,
        daily_limit: int = 5_000_000,
        bulk_looks: int = 2,
    ) -> None:
        self.org = org
        self.doors = doors or login.Doors()
        self.daily_limit = daily_limit
        self.used = 0
        self.bulk_looks = bulk_looks
        self.cursors = finding.Cursors()
        self.jobs: dict[str, bulk.Job] = {}
        self.job_numbers = 0
        self.base_url = ""
        self.api = "/services/data/v59.0"
        #: Whom the sessions are of.
        self.user_id = "0055g0000000001AAA"
        self.permissions = dict.fromkeys(
            ("PermissionsViewAllData", "PermissionsModifyAllData", "PermissionsViewAllUsers"), True
        )
        #: Takes the API permission away: every request answers 403.
        self.forbidden = False
        self.faults = Faults(known=OWN_FAULTS)
        self._edits = itertools.count(1)
        self._guard = threading.Lock()

    def bind(self, base_url: str, faults: Faults) -> None:
        self.base_url = base_url
        self.faults = faults
        if ties := faults.rate("ties"):
            shape_ties(self.org, ties)
        if nobody := faults.rate("null-people"):
            shape_null_people(self.org, nobody)

    def refuse(self, status: int) -> Response:
        """Return a 401 or a 429 as Salesforce words it."""
        if status == 429:
            return error(429, "TOO_MANY_REQUESTS", "Too many requests")
        return error(401, "INVALID_SESSION_ID", "Session expired or invalid")

    def complain(self, status: int, message: str) -> Response:
        return error(status, "UNKNOWN_EXCEPTION", message)

    def answer(self, request: Request) -> Response:
        if request.path.startswith("/services/Soap/u/"):
            return login.soap(self.doors, request, self.base_url)
        if request.path == "/services/oauth2/token":
            return login.token(self.doors, request, self.base_url)
        with self._guard:
            try:
                self._admit(request)
                response = self._route(request)
            except RefusedError as refused:
                response = error(refused.status, refused.code, refused.message)
        response.headers = {
            **response.headers,
            "Sforce-Limit-Info": f"api-usage={self.used}/{self.daily_limit}",
        }
        return response

    def _admit(self, request: Request) -> None:
        session = request.headers.get("authorization", "").partition(" ")[2]
        if session in self.doors.sessions and self.faults.draw("session-ended", request):
            self.doors.sessions.discard(session)
        if session not in self.doors.sessions:
            raise RefusedError(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if self.forbidden:
            raise RefusedError(403, "API_DISABLED_FOR_ORG", "API is not enabled for this user")
        if self.used >= self.daily_limit or self.faults.draw("daily-limit", request):
            raise RefusedError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.used += 1
        if self.faults.draw("concurrent-limit", request):
            raise RefusedError(
                403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded."
            )
        if self.faults.draw("server-unavailable", request):
            raise RefusedError(503, "SERVER_UNAVAILABLE", "Server unavailable, please try later")

    def _route(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        if parts[:2] != ["services", "data"]:
            raise _no_resource()
        if len(parts) == 2:
            versions = [{"version": "59.0", "label": "Winter '24", "url": self.api}]
            return Response.of(versions)
        if not re.fullmatch(r"v[2-6]\d\.0", parts[2]):
            raise _no_resource()
        return self._resource(request, parts[3:])

    def _resource(self, request: Request, parts: list[str]) -> Response:
        match request.method, parts:
            case "GET", ["query" | "queryAll" as kind]:
                self._edit(request)
                response = finding.query(self, request, everything=kind == "queryAll")
            case "GET", ["query" | "queryAll", locator]:
                response = finding.query_more(self, request, locator)
            case "GET", []:
                response = self._resources()
            case "GET", ["limits"]:
                response = self._limits()
            case "GET", ["sobjects"]:
                response = finding.describe_all(self)
            case "GET", ["sobjects", name, *rest]:
                response = self._object(request, name, rest)
            case method, ["jobs", "query", *rest]:
                response = self._jobs(request, method, rest)
            case _:
                raise _no_resource()
        return response

    def _resources(self) -> Response:
        identity = f"{self.base_url}/id/{login.ORG_ID}/{self.user_id}"
        return Response.of({"sobjects": f"{self.api}/sobjects", "identity": identity})

    def _limits(self) -> Response:
        left = max(0, self.daily_limit - self.used)
        return Response.of({"DailyApiRequests": {"Max": self.daily_limit, "Remaining": left}})

    def _object(self, request: Request, name: str, rest: list[str]) -> Response:
        if name not in self.org.types or name in self.org.absent:
            raise _no_resource()
        match rest:
            case ["describe"]:
                return finding.describe(self, name)
            case ["deleted"]:
                return finding.deleted(self, request, name)
            case ["updated"]:
                return finding.updated(self, request, name)
            case _:
                raise _no_resource()

    def _jobs(self, request: Request, method: str, rest: list[str]) -> Response:
        if not rest:
            if method != "POST":
                raise _no_resource()
            return bulk.create(self, request)
        job = self.jobs.get(rest[0])
        if job is None:
            raise bulk.gone()
        match method, rest[1:]:
            case "GET", []:
                return bulk.show(self, request, job)
            case "PATCH", []:
                return bulk.change(request, job)
            case "DELETE", []:
                return bulk.delete(self, job)
            case "GET", ["results"]:
                return bulk.results(self, request, job)
            case _:
                raise _no_resource()

    def _edit(self, request: Request) -> None:
        """Set one row's SystemModstamp to the present, as a background job would."""
        found = _TYPE_IN_QUERY.search(request.first("q"))
        if found is None or not self.faults.draw("changing-rows", request):
            return
        rows = [row for row in self.org.rows.get(found[1], {}).values() if "SystemModstamp" in row]
        if rows:
            number = next(self._edits)
            row = rows[number * 7 % len(rows)]
            self.org.touch(row, datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=number))


def error(status: int, code: str, message: str) -> Response:
    """Return an error in the usual shape of Salesforce's REST API."""
    return Response.of([{"message": message, "errorCode": code}], status)


def _no_resource() -> RefusedError:
    return RefusedError(404, "NOT_FOUND", "The requested resource does not exist")


serve = serving(SalesforceService)
