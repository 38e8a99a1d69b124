"""The fake Launchpad service: authentication, paths and error answers."""

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from urllib.parse import unquote

import msgspec

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.launchpad.archive import BASE, Archive, Bug, Json, Proposal, Question
from tests.fakes.launchpad.paging import page_of
from tests.fakes.launchpad.refusal import RefusedError
from tests.fakes.launchpad.render import Renderer
from tests.fakes.launchpad.search import Searcher
from tests.fakes.launchpad.wadl import describe
from tests.fakes.server import serving

#: Faults in what Launchpad says, on top of those of any HTTP service.
OWN_FAULTS: dict[str, str] = {
    "500": "an internal error, with its OOPS number",
    "repeated-page-link": "a page's link to the next one leads to itself",
    "short-page": "a page with fewer entries than requested, though more follow",
    "empty-page": "an empty page in the middle, though more follow",
    "total-too-large": "a total that counts entries which never come",
    "changing-rows": "entries already listed move between two pages",
    "ties": "shapes the data: this share of the bugs has the very same time of change",
    "null-people": "shapes the data: this share of what happened names nobody",
}

VERSIONS = ("1.0", "beta", "devel")
_WADL = "application/vnd.sun.wadl+xml"
_ROOT_LINKS = ("people", "bugs", "projects", "distributions", "project_groups", "questions")
_OAUTH = re.compile(r'([a-z_]+)="([^"]*)"')

_BUG = re.compile(r"bugs/(\d+)(?:/(activity|messages|bug_tasks))?")
_TASK = re.compile(r"(.+)/\+bug/(\d+)")
_PROPOSAL = re.compile(r"~.+/\+merge/(\d+)(?:/(all_comments|votes))?")
_QUESTION = re.compile(r".+/\+question/(\d+)(?:/(messages))?")


class LaunchpadService:
    """The service of one archive; see `tests.fakes.server.Service`.

    `accepted` lists the access tokens that are let in, `CONSUMER:TOKEN:SECRET`; None lets every
    token in. Without a token one asks anonymously, unless `require_auth`. Those with a token see
    what is private. `batch_limit` cuts every batch to so many entries: a small archive then
    needs all the paging that a large one does.
    """

    own_faults = OWN_FAULTS
    #: Whether it describes no more of itself than what is read here, for which clients take less.
    brief = False

    def __init__(
        self,
        archive: Archive,
        *,
        accepted: Iterable[str] | None = None,
        require_auth: bool = False,
        batch_limit: int | None = None,
    ) -> None:
        self.archive = archive
        self.batch_limit = batch_limit
        self.accepted = None if accepted is None else set(accepted)
        self.require_auth = require_auth
        #: The person behind every token; None is the first there is.
        self.me: str | None = None
        #: Takes the permission away: every request answers 403.
        self.forbidden = False
        self.base_url = "http://127.0.0.1"
        self.faults = Faults(known=OWN_FAULTS)
        self._render = Renderer(archive)
        self._search = Searcher(archive)
        self._nonces: set[str] = set()
        self._guard = threading.Lock()
        #: How far lists without an order of their own are turned.
        self._turned = 0

    def bind(self, base_url: str, faults: Faults) -> None:
        self.base_url, self.faults = base_url, faults
        if ties := faults.rate("ties"):
            self.archive.shape_ties(ties, faults.seed)
        if nobody := faults.rate("null-people"):
            self.archive.shape_null_people(nobody, faults.seed)

    def refuse(self, status: int) -> Response:
        """Return a 401 or a 429 as Launchpad words it."""
        if status == 401:
            return _plain(401, "Expired token (a-token-key).")
        return _plain(status, "Too many requests.")

    def complain(self, status: int, message: str) -> Response:
        return _plain(status, message)

    def answer(self, request: Request) -> Response:
        if self.faults.draw("500", request):
            response = _plain(500, "Oops! Something went wrong. OOPS-ab12")
            response.headers = {"X-Lazr-OopsId": "OOPS-ab12"}
            return response
        try:
            return self._route(request)
        except RefusedError as refused:
            return _plain(refused.status, refused.message)

    def _route(self, request: Request) -> Response:
        sees_private = self._admit(request)
        if self.forbidden:
            raise RefusedError(403, "You are not allowed to do that.")
        _, version, path = [*request.path.split("/", 2), "", ""][:3]
        path = path.rstrip("/")
        if version not in VERSIONS:
            raise RefusedError(404, "Object: <unknown>, name: " + repr(version))
        if request.method not in {"GET", "HEAD"}:
            raise RefusedError(405, "Method not allowed.")
        if (now_at := self.archive.renamed.get(path)) is not None:
            query = request.target.partition("?")[2]
            response = _plain(301, "")
            place = f"{self.base_url}/{version}/{now_at}"
            response.headers = {"Location": f"{place}?{query}" if query else place}
            return response
        if path == "people/+me":
            return self._me(version, known=sees_private)
        if (status := self.archive.withheld.get(path)) is not None:
            raise RefusedError(status, f"(<{path}>, 'title', 'launchpad.View')")
        if not path and _WADL in request.headers.get("accept", ""):
            described = describe(version, self.base_url, brief=self.brief)
            return Response(200, described, _WADL)
        with self.archive.lock:
            found = self._find(request, version, path, sees_private=sees_private)
        if request.first("ws.show") == "total_size":
            found = found["total_size"]
        body = msgspec.json.encode(found)
        body = body.replace(BASE.encode(), f"{self.base_url}/{version}".encode())
        return Response(200, body, "application/json")

    def _find(self, request: Request, version: str, path: str, *, sees_private: bool) -> Json:
        if not path:
            return self._root()

        def sees(thing: Bug | Proposal | Question) -> bool:
            return sees_private or not thing.private

        operation = request.first("ws.op")
        if operation:
            return self._operate(request, version, path, operation, sees)
        if found := _BUG.fullmatch(path):
            answer = self._bug(request, self._seen(self.archive.bugs, found[1], sees), found[2])
        elif found := _TASK.fullmatch(path):
            answer = self._task(self._seen(self.archive.bugs, found[2], sees), found[1])
        elif found := _PROPOSAL.fullmatch(path):
            proposal = self._seen(self.archive.proposals, found[1], sees)
            answer = self._proposal(request, proposal, found[2])
        elif version == "devel" and (found := _QUESTION.fullmatch(path)):
            question = self._seen(self.archive.questions, found[1], sees)
            answer = self._question(request, question, found[2])
        else:
            answer = self._place(path)
        return answer

    def _task(self, bug: Bug, target: str) -> Json:
        for task in bug.tasks:
            if task.target == target:
                return self._render.task(bug, task)
        raise RefusedError(404, f"Object: <bug {bug.number}>, name: {target!r}")

    def _operate(
        self,
        request: Request,
        version: str,
        path: str,
        operation: str,
        sees: Callable[[Bug | Proposal | Question], bool],
    ) -> Json:
        self._place(path)
        render, search, person = self._render, self._search, path[0] == "~"
        if operation == "searchTasks":
            tasks = search.tasks(path, request, sees)
            page = self._page(request, "bug_task", tasks, lambda each: render.task(*each))
            shown = tasks[: int(request.first("ws.start", "0")) + 1]
            if shown and "next_collection_link" in page and self._draw(request)("changing-rows"):
                self.archive.edit.touch_bug(shown[0][0])
            return page
        if operation == "getMergeProposals" and self._place(path)["kind"] != "distribution":
            found = self._turn(search.proposals(path, request, sees), request)
            return self._page(request, "branch_merge_proposal", found, render.proposal)
        if operation == "getRequestedReviews" and person:
            found = self._turn(search.reviews(path, request, sees), request)
            return self._page(request, "branch_merge_proposal", found, render.proposal)
        if operation == "searchQuestions" and version == "devel":
            requested = self._turn(search.questions(path, request, sees), request)
            return self._page(request, "question", requested, render.question)
        raise RefusedError(400, f"No such operation: {operation}")

    def _place(self, path: str) -> Json:
        known = self.archive.people if path[0] == "~" else self.archive.targets
        place = known.get(path.removeprefix("~"))
        if place is None:
            raise RefusedError(404, f"Object: <place>, name: {path!r}")
        kind = place["resource_type_link"].rpartition("#")[2]
        return {**self._render.target(place), "kind": kind}

    def _bug(self, request: Request, bug: Bug, part: str | None) -> Json:
        render = self._render
        match part:
            case "activity":
                return self._page(
                    request, "bug_activity", bug.changes, lambda each: render.change(bug, each)
                )
            case "messages":
                return self._page(
                    request, "message", bug.messages, lambda each: render.message(bug, each)
                )
            case "bug_tasks":
                return self._page(
                    request, "bug_task", bug.tasks, lambda each: render.task(bug, each)
                )
            case _:
                return render.bug(bug)

    def _proposal(self, request: Request, proposal: Proposal, part: str | None) -> Json:
        render = self._render
        match part:
            case "all_comments":
                return self._page(
                    request,
                    "code_review_comment",
                    proposal.comments,
                    lambda each: render.comment(proposal, each),
                )
            case "votes":
                return self._page(
                    request,
                    "code_review_vote_reference",
                    proposal.votes,
                    lambda each: render.vote(proposal, each),
                )
            case _:
                return render.proposal(proposal)

    def _question(self, request: Request, question: Question, part: str | None) -> Json:
        render = self._render
        if part is None:
            return render.question(question)
        return self._page(
            request,
            "question_message",
            question.messages,
            lambda each: render.answer(question, each),
        )

    def _seen[T: (Bug, Proposal, Question)](
        self, things: dict[int, T], number: str, sees: Callable[[Bug | Proposal | Question], bool]
    ) -> T:
        thing = things.get(int(number))
        if thing is None:
            raise RefusedError(404, f"Object: <things>, name: {number!r}")
        if not sees(thing):
            status = self.archive.private_status
            raise RefusedError(status, f"(<{number}>, 'title', 'launchpad.View')")
        return thing

    def _page[T](
        self, request: Request, kind: str, found: Sequence[T], render: Callable[[T], Json]
    ) -> Json:
        return page_of(request, kind, found, render, self._draw(request), most=self.batch_limit)

    def _draw(self, request: Request) -> Callable[[str], bool]:
        return lambda kind: self.faults.draw(kind, request)

    def _turn[T](self, found: list[T], request: Request) -> list[T]:
        """Rotate a list that several searches make up: it has no stable order."""
        if self.faults.draw("changing-rows", request):
            self._turned += 1
        turn = self._turned % len(found) if found else 0
        return [*found[turn:], *found[:turn]]

    def _me(self, version: str, *, known: bool) -> Response:
        """Redirect the owner of a token to their own entry."""
        if not known:
            raise RefusedError(401, "You need to be logged in to view this URL.")
        response = _plain(303, "")
        name = self.me or next(iter(self.archive.people))
        response.headers = {"Location": f"{self.base_url}/{version}/~{name}"}
        return response

    def _root(self) -> Json:
        return {
            "self_link": f"{BASE}/",
            "resource_type_link": f"{BASE}/#service-root",
            **{f"{name}_collection_link": f"{BASE}/{name}" for name in _ROOT_LINKS},
        }

    def _admit(self, request: Request) -> bool:
        """Authenticate a request; return whether it may see private items.

        Raises:
            RefusedError: the token is none that is accepted.
        """
        header = request.headers.get("authorization", "")
        given = {name: unquote(value) for name, value in _OAUTH.findall(header)}
        token = given.get("oauth_token", "")
        if not token:
            if self.require_auth:
                raise RefusedError(401, "Request is missing an OAuth access token.")
            return False
        if given.get("oauth_signature_method") != "PLAINTEXT":
            raise RefusedError(401, "Invalid signature method.")
        with self._guard:
            nonce = given.get("oauth_nonce", "")
            if not nonce or nonce in self._nonces:
                raise RefusedError(401, "Invalid nonce/timestamp: used before.")
            self._nonces.add(nonce)
        consumer = given.get("oauth_consumer_key", "")
        secret = given.get("oauth_signature", "").partition("&")[2]
        if self.accepted is not None and f"{consumer}:{token}:{secret}" not in self.accepted:
            raise RefusedError(401, f"Unknown access token ({token}).")
        return True


def _plain(status: int, message: str) -> Response:
    return Response(status, message.encode(), "text/plain;charset=utf-8")


serve = serving(LaunchpadService)
