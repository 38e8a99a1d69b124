"""Connection of the trino library: a module of its own, imported when Trino is first queried."""

from typing import Any, cast

import trino.client
import trino.dbapi

from temporaletl.external.trino.results import Answer


class Connection(trino.dbapi.Connection):
    """The library's connection, for sessions whose answers `read_answer` has read."""

    def _create_request(self) -> trino.client.TrinoRequest:
        request = super()._create_request()  # type: ignore[no-untyped-call]
        request.__class__ = _Request
        return cast("trino.client.TrinoRequest", request)


class _Request(trino.client.TrinoRequest):
    def process(self, http_response: Any) -> trino.client.TrinoStatus:
        status = super().process(http_response)
        if isinstance(http_response, Answer):
            status.rows = http_response.rows
        return status
