"""The fake Jira service: authentication, endpoints and error answers."""

import base64
import binascii
import itertools
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import msgspec

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.jira import details, directory, finding, worklogs
from tests.fakes.jira.jql import JqlError
from tests.fakes.jira.refusal import RefusedError
from tests.fakes.jira.render import Renderer
from tests.fakes.jira.search import Searcher
from tests.fakes.jira.site import Site
from tests.fakes.server import serving

#: Faults in what Jira says, on top of those of any HTTP service.
OWN_FAULTS: dict[str, str] = {
    "expired-page-token": "a next-page token has expired: 400, from then on (Cloud)",
    "repeated-page-token": "a page repeats the token of its request (Cloud)",
    "short-page": "a page with fewer rows than requested, though more follow",
    "empty-page": "an empty page in the middle, though more follow",
    "total-too-large": "a total that counts rows which never come",
    "changing-rows": "an issue already listed is updated between two pages of a search",
    "ties": "shapes the data: this share of the issues has the very same updated time",
    "null-people": "shapes the data: this share of the people is null or left out",
}

type Handler = Callable[["JiraService", Request, str, list[str]], Response]


class JiraService:
    """The service of one site; see `tests.fakes.server.Service`.

    `accepted` lists the credentials that are let in, `EMAIL:TOKEN` on Cloud and the bare token
    (or `USER:PASSWORD`) on Server; None lets everybody in. `require_auth` refuses requests
    without credentials even then.
    """

    own_faults = OWN_FAULTS

    def __init__(
        self,
        site: Site,
        *,
        accepted: Iterable[str] | None = None,
        require_auth: bool = False,
        cache_bytes: int = 256 * 1024 * 1024,
    ) -> None:
        self.site = site
        self.searcher = Searcher(site)
        versions = ("2", "3") if site.cloud else ("2",)
        self.renderers = {
            version: Renderer(site, version, cache_bytes // len(versions)) for version in versions
        }
        self.accepted = None if accepted is None else set(accepted)
        self.require_auth = require_auth or accepted is not None
        #: Takes the permission away: every request answers 403.
        self.forbidden = False
        #: Whether the account has the global permission to browse users and groups.
        self.may_browse_users = True
        self.groups = ["jira-users", "developers"]
        #: Issues that cannot be rendered, by id: answers that would hold one are a 500.
        self.unrenderable: set[int] = set()
        #: The paths of which that holds: a pattern.
        self.unrenderable_in = "/api/./search"
        self.passes = itertools.count(1)
        self.expired_tokens: set[str] = set()
        self.faults = Faults(known=OWN_FAULTS)
        self.worklogs_by_time: list[tuple[int, int]] = []
        self.worklogs_version = -1

    @property
    def lapsed(self) -> bool:
        """Whether the token is known no more.

        Cloud then answers as to anybody, to whom no project is open here, and says so in a header
        alone; Data Center refuses.
        """
        return self.site.closed

    @lapsed.setter
    def lapsed(self, lapsed: bool) -> None:
        self.site.closed = lapsed

    def bind(self, base_url: str, faults: Faults) -> None:
        self.faults = faults
        self.site.bind(base_url)
        if ties := faults.rate("ties"):
            self.site.shape_ties(ties, faults.seed)
        if nobody := faults.rate("null-people"):
            self.site.shape_null_people(nobody, faults.seed)

    def preload(self, version: str) -> int:
        """Render issues ahead for one version, as many as its cache holds; return how many."""
        renderer = self.renderers[version]
        done = 0
        for row in self.site.rows:
            if renderer.full:
                break
            renderer.get(row)
            done += 1
        return done

    def refuse(self, status: int) -> Response:
        """Return a 401 or a 429 as Jira words it."""
        if status == 429:
            response = error(429, "Rate limit exceeded.")
            reset = datetime.now(UTC) + self.faults.retry_after
            response.headers = {
                "X-RateLimit-Limit": "100",
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-NearLimit": "true",
                "X-RateLimit-Reset": reset.strftime("%Y-%m-%dT%H:%MZ"),
                "RateLimit-Reason": "jira-burst-based",
            }
            return response
        message = "Client must be authenticated to access this resource."
        if self.site.cloud:
            response = error(401, message)
            response.headers = {"WWW-Authenticate": 'OAuth realm="' + self.site.base_url + '"'}
        else:
            response = Response.of({"message": message, "status-code": 401}, 401)
            response.headers = {"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
        return response

    def complain(self, status: int, message: str) -> Response:
        return error(status, message)

    def answer(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        if not self._admitted(request, anonymous=parts[-1] == "serverInfo"):
            return self.refuse(401)
        if self.lapsed and not self.site.cloud and parts[-1] != "serverInfo":
            return self.refuse(401)
        response = self._answer(request, parts)
        if self.lapsed:
            response.headers = {**response.headers, "X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
        return response

    def _answer(self, request: Request, parts: list[str]) -> Response:
        try:
            response = self._route(request, parts)
        except RefusedError as refused:
            return error(refused.status, *refused.messages)
        except JqlError as refused:
            return error(400, str(refused))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return error(400, "There was an error parsing JSON. Check that your request is valid.")
        held = re.findall(rb'"(?:id|issueId)":"(\d+)"', response.body) if self.unrenderable else []
        holds = not self.unrenderable.isdisjoint(map(int, held))
        if holds and re.search(self.unrenderable_in, request.path):
            return error(500, "Internal server error")
        return response

    def _route(self, request: Request, parts: list[str]) -> Response:
        if self.forbidden:
            raise RefusedError(403, "You do not have permission to access this resource.")
        if (answer := BESIDE_THE_API.get("/".join(parts))) is not None:
            return answer(self)
        if parts[:2] != ["rest", "api"] or len(parts) < 4:
            raise RefusedError(404, "There is nothing here.")
        version = parts[2]
        if version == "latest":
            version = "3" if self.site.cloud else "2"
        if version not in self.renderers:
            raise RefusedError(404, f"There is no version {version} of this API.")
        rest = parts[3:]
        # Ids are the one part of a path that varies; a star stands for them in the table.
        shape = list(rest)
        if rest[0] == "issue" and len(rest) > 1 and rest[1] != "bulkfetch":
            shape[1] = "*"
            if len(rest) > 3:
                shape[3] = "*"
        shape_text = "/".join(shape)
        handlers = ROUTES.get(shape_text)
        if handlers is None or (shape_text in CLOUD_ONLY and not self.site.cloud):
            raise RefusedError(404, "There is nothing here.")
        handler = handlers.get("GET" if request.method == "HEAD" else request.method)
        if handler is None:
            raise RefusedError(405, "Method not allowed.")
        return handler(self, request, version, rest)

    def _admitted(self, request: Request, *, anonymous: bool) -> bool:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        secret = secret.strip()
        if not secret:
            return anonymous or not self.require_auth
        if self.accepted is None:
            return True
        if scheme.lower() == "bearer":
            return secret in self.accepted
        if scheme.lower() == "basic":
            try:
                return base64.b64decode(secret).decode() in self.accepted
            except (binascii.Error, UnicodeDecodeError):
                return False
        return False


def error(status: int, *messages: str) -> Response:
    """Return an error in Jira's usual shape."""
    return Response.of({"errorMessages": list(messages), "errors": {}}, status)


serve = serving(JiraService)

#: What a site answers beside its REST API.
BESIDE_THE_API: dict[str, Callable[[JiraService], Response]] = {
    "_edge/tenant_info": directory.tenant_info,
    "rest/applinks/1.0/manifest": directory.manifest,
    "rest/auth/1/session": directory.session,
}


#: Endpoints that Server does not have.
CLOUD_ONLY = frozenset(
    {
        "search/jql",
        "search/approximate-count",
        "changelog/bulkfetch",
        "issue/bulkfetch",
        "issue/*/changelog",
        "users/search",
        "users",
        "project/search",
    }
)

ROUTES: dict[str, dict[str, Handler]] = {
    "search": {"GET": finding.by_offset, "POST": finding.by_offset},
    "search/jql": {"GET": finding.by_token, "POST": finding.by_token},
    "search/approximate-count": {"POST": finding.approximate_count},
    "changelog/bulkfetch": {"POST": details.bulk_changelog},
    "issue/bulkfetch": {"POST": details.bulk_issues},
    "issue/*": {"GET": details.issue},
    "issue/*/changelog": {"GET": details.changelog},
    "issue/*/comment": {"GET": details.comments},
    "issue/*/worklog": {"GET": details.worklogs},
    "worklog/updated": {"GET": worklogs.updated},
    "worklog/deleted": {"GET": worklogs.deleted},
    "worklog/list": {"POST": worklogs.by_ids},
    "myself": {"GET": directory.myself},
    "mypermissions": {"GET": directory.permissions},
    "serverInfo": {"GET": directory.server_info},
    "field": {"GET": directory.fields},
    "status": {"GET": directory.statuses},
    "issuetype": {"GET": directory.issue_types},
    "priority": {"GET": directory.priorities},
    "resolution": {"GET": directory.resolutions},
    "user": {"GET": directory.user},
    "users": {"GET": directory.users_search},
    "users/search": {"GET": directory.users_search},
    "user/search": {"GET": directory.user_search},
    "project": {"GET": directory.projects},
    "project/search": {"GET": directory.project_search},
}
