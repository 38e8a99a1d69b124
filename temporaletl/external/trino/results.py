"""Results of Trino's protocol, decoded before the library sees them.

A row that cannot be decoded as a whole is decoded value by value: what is wrong with one costs
neither the other rows nor the query.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import requests

from temporaletl.external.answers import DECODE_FAULTS, in_words, reading, without_halves
from temporaletl.external.elements import elements


@dataclass(frozen=True, slots=True)
class Undecodable:
    """A value that cannot be decoded: its JSON, and the reason."""

    text: str
    reason: str


class _Results(msgspec.Struct, rename="camel", omit_defaults=True):
    """An answer of Trino's protocol; what it may leave out has a default."""

    id: str
    info_uri: str
    stats: dict[str, Any]
    next_uri: str | None = None
    columns: list[dict[str, Any]] | None = None
    error: dict[str, Any] | None = None
    warnings: list[Any] = []
    update_type: str | None = None
    update_count: int | None = None
    data: list[msgspec.Raw] | None = None


_results = reading(_Results, source="trino")
_row = msgspec.json.Decoder(list[Any])
_value = msgspec.json.Decoder()


class Answer:
    """A response for the library: only the protocol's own members, as JSON.

    `rows` are beside them, decoded.
    """

    def __init__(self, response: requests.Response, results: _Results) -> None:
        self.status_code = response.status_code
        self.ok = response.ok
        self.headers = response.headers
        self.rows = [_decode_row(raw) for raw in results.data or ()]
        results.data = None
        self.text = msgspec.json.encode(results).decode()
        self.encoding = "utf-8"


def read_answer(response: requests.Response) -> requests.Response | Answer:
    """Read one of Trino's answers, as `HttpClient.request` takes it.

    Raises:
        GarbledAnswerError: it is not JSON.
        MisfitAnswerError: it is JSON of something else.
    """
    # A query that is dropped has nothing more to say.
    if not response.ok or response.status_code == requests.codes.no_content:
        return response
    return Answer(response, _results(response))


def _decode_row(raw: msgspec.Raw) -> Sequence[Any]:
    try:
        return _row.decode(raw)
    except DECODE_FAULTS:
        # By the brackets, as the whole answer was taken apart before.
        return [_decode_value(element) for element in elements(bytes(raw))]


def _decode_value(element: bytes) -> Any:
    try:
        return _value.decode(without_halves(element))
    except DECODE_FAULTS as error:
        return Undecodable(element.decode("utf-8", "replace"), in_words(error))
