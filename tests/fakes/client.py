"""A plain HTTP client for the tests of the fakes themselves."""

from collections.abc import Iterator
from typing import Any

import requests

from tests.fakes.server import FakeServer

Json = dict[str, Any]


class Client:
    """An HTTP client of one fake."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.session = requests.Session()

    def get(self, path: str, **params: Any) -> Json:
        return self.ask("GET", path, params=params)

    def post(self, path: str, **body: Any) -> Json:
        return self.ask("POST", path, json=body)

    def ask(self, method: str, path: str, **more: Any) -> Json:
        response = self.raw(method, path, **more)
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    def raw(self, method: str, path: str, **more: Any) -> requests.Response:
        return self.session.request(method, self.server.url + path, timeout=5, **more)

    def paginate(self, jql: str, **more: Any) -> Iterator[Json]:
        """Follow the tokens of a Cloud search, page by page."""
        token: Json = {}
        while True:
            page = self.post("/rest/api/3/search/jql", jql=jql, **more, **token)
            yield page
            if "nextPageToken" not in page:
                return
            token = {"nextPageToken": page["nextPageToken"]}
