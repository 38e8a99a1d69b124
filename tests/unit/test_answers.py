"""Answers that are not quite JSON."""

import msgspec
import pytest
import requests

from temporaletl import RecordError
from temporaletl.external.answers import (
    GarbledAnswerError,
    MisfitAnswerError,
    decode,
    decode_record,
)


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
    ],
)
def test_what_no_text_can_have_becomes_a_replacement(body: bytes, text: str) -> None:
    assert decode(Told, answer(body), source="jira").text == text


class Shelf(msgspec.Struct):
    books: list[msgspec.Raw]
    more: bool = False


SOUND = b'{"text": "sound"}'


@pytest.mark.parametrize(
    ("element", "reason"),
    [
        (b'{"text": "b\xfcrger"}', "not valid UTF-8"),
        (b'{"text": NaN}', "malformed"),
        (b'{"text": "x", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"text": 5}', "str"),
        (b'{"text": "x", "many": truth}', "malformed"),
    ],
)
def test_one_element_that_cannot_be_decoded_costs_no_other(element: bytes, reason: str) -> None:
    body = b'{"more": true, "books": [ ' + SOUND + b", " + element + b"," + SOUND + b"]}"
    shelf = decode(Shelf, answer(body), source="jira")
    assert shelf.more
    assert [bytes(raw) for raw in shelf.books] == [SOUND, element, SOUND]
    assert decode_record(Told, shelf.books[0]).text == "sound"
    with pytest.raises(RecordError, match=reason):
        decode_record(Told, shelf.books[1])


def test_a_list_alone_is_taken_apart_too() -> None:
    raws = decode(list[msgspec.Raw], answer(b"[NaN, " + SOUND + b"]"), source="jira")
    assert [bytes(raw) for raw in raws] == [b"NaN", SOUND]


@pytest.mark.parametrize("number", [b"9" * 5_000, b"1e999", b"-18446744073709551616"])
def test_a_number_beyond_all_types_matters_to_nobody_who_does_not_read_it(number: bytes) -> None:
    body = b'{"books": [{"text": "x", "amount": ' + number + b"}]}"
    (raw,) = decode(Shelf, answer(body), source="jira").books
    assert decode_record(Told, raw).text == "x"
    assert number in bytes(raw)


def test_half_an_emoji_in_a_record_is_replaced() -> None:
    (raw,) = decode(Shelf, answer(rb'{"books": [{"text": "cut \ud83d"}]}'), source="jira").books
    assert decode_record(Told, raw).text == "cut \ufffd"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html><title> Log in -\n Example</title>", 'page of HTML ("Log in - Example")'),
        (b"<!DOCTYPE html>", "page of HTML (without a title)"),
        (b"", "an empty body"),
        (b'{"text": "5', "no JSON"),
        (b'{"books": [', "no JSON"),
        (rb'{"text": "\u00', "no JSON"),
    ],
)
def test_what_is_no_json_may_be_better_next_time(body: bytes, words: str) -> None:
    for kind in (Told, Shelf):
        with pytest.raises(GarbledAnswerError, match="/rest/api/3/search/jql answered 200") as told:
            decode(kind, answer(body), source="jira")
        assert words in str(told.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "`books`"),
        (b'{"books": null}', "books"),
        (b'{"books": {}}', "books"),
        (b'{"errorMessages": ["Internal error"], "errors": {}}', "an error: Internal error"),
        (b"[]", "array"),
        (b"null", "null"),
    ],
)
def test_an_answer_without_its_list_is_no_empty_list(body: bytes, words: str) -> None:
    with pytest.raises(MisfitAnswerError, match="/rest/api/3/search/jql answered 200") as told:
        decode(Shelf, answer(body), source="jira")
    assert words in str(told.value)


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "a\0b", "zlib", "uu"])
def test_a_charset_that_json_does_not_come_in_is_not_believed(charset: str) -> None:
    told = answer(b'{"text": "' + b"x" * 3_000_000 + b'"}')
    told.headers["Content-Type"] = f"application/json; charset={charset}"
    assert len(decode(Told, told, source="jira").text) == 3_000_000


def test_a_declared_charset_counts_and_a_byte_order_mark_does_not() -> None:
    latin = answer('{"text": "bürger"}'.encode("latin-1"))
    latin.headers["Content-Type"] = "application/json; charset=ISO-8859-1"
    assert decode(Told, latin, source="jira").text == "bürger"
    assert decode(Told, answer(b"\xef\xbb\xbf" + SOUND), source="jira").text == "sound"
