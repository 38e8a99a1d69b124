"""Answers that are not quite JSON."""

import msgspec
import pytest
import requests

from temporaletl import SourceProtocolError
from temporaletl.external.answers import decode


class Told(msgspec.Struct):
    text: str


def answer(body: bytes) -> requests.Response:
    made = requests.Response()
    made.status_code = 200
    made.url = "http://jira.test/rest/api/3/search/jql?jql=x"
    made._content = body
    return made


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb'{"text": "cut \ud83d"}', "cut \ufffd"),
        (rb'{"text": "\ude00 cut"}', "\ufffd cut"),
        (rb'{"text": "\ud83d\ud83d\ude00\udfff"}', "\ufffd\U0001f600\ufffd"),
        # Two backslashes are one, and no escape begins with the second.
        (rb'{"text": "\\ud83d \ud83d"}', "\\ud83d \ufffd"),
        (b'{"text": "\xff"}', "\ufffd"),
    ],
)
def test_what_no_text_can_have_becomes_a_replacement(body: bytes, text: str) -> None:
    assert decode(Told, answer(body), source="jira").text == text


def test_what_is_left_raw_is_mended_too() -> None:
    raw = decode(msgspec.Raw, answer(b'{"text": "\xff"}'), source="jira")
    assert msgspec.json.decode(raw, type=Told).text == "\ufffd"


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b'{"text": 5', b'{"text": []}', rb'{"text": "\u00']
)
def test_what_cannot_be_mended_names_the_path(body: bytes) -> None:
    with pytest.raises(SourceProtocolError, match="/rest/api/3/search/jql answered 200"):
        decode(Told, answer(body), source="jira")
