"""The text of queries, and the keyset behind a page."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from temporaletl import RecordError
from temporaletl.external.salesforce.query import Bare, Keyset, Selection, literal, utc

START = datetime(2024, 5, 1, 10, tzinfo=UTC)
WHOLE = Selection("Case", ("CaseNumber",), optional=("Subject", "CreatedBy.TimeZoneSidKey"))


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        (START, "2024-05-01T10:00:00.000Z"),
        (START.astimezone(timezone(timedelta(hours=2))), "2024-05-01T10:00:00.000Z"),
        (START + timedelta(microseconds=1), "2024-05-01T10:00:00.001Z"),
        (START + timedelta(milliseconds=250), "2024-05-01T10:00:00.250Z"),
        (START + timedelta(microseconds=999_999), "2024-05-01T10:00:01.000Z"),
    ],
)
def test_times_are_written_to_the_millisecond_rounded_up(timestamp: datetime, text: str) -> None:
    assert literal(timestamp) == text


@pytest.mark.parametrize("text", [None, "", "yesterday", "2024-05-01T10:00:00", 17])
def test_a_time_that_is_none_is_told(text: str | None) -> None:
    with pytest.raises(RecordError, match="time"):
        utc(text)


def test_both_apis_write_the_same_times() -> None:
    assert utc("2024-05-01T10:00:00.000+0000") == utc("2024-05-01T10:00:00.000Z") == START


def test_windows_are_half_open() -> None:
    selection = Selection("Case", (), start=START, end=START + timedelta(days=1))
    assert selection.where() == (
        " WHERE SystemModstamp >= 2024-05-01T10:00:00.000Z"
        " AND SystemModstamp < 2024-05-02T10:00:00.000Z"
    )
    assert Selection("Case", ()).where() == ""


def test_reading_goes_on_behind_a_stamp_and_an_id() -> None:
    selection = Selection("Case", ("CaseNumber",), start=START, stamp="CreatedDate")
    after = Keyset("2024-05-03T10:00:00.000Z", "500A")
    assert selection.page_soql(selection.columns(), after, 200) == (
        "SELECT Id, CreatedDate, CaseNumber FROM Case"
        " WHERE CreatedDate >= 2024-05-03T10:00:00.000Z"
        " AND (CreatedDate > 2024-05-03T10:00:00.000Z OR Id > '500A')"
        " ORDER BY CreatedDate ASC, Id ASC LIMIT 200"
    )


def test_values_cannot_leave_their_quotes() -> None:
    text = WHOLE.where(Keyset("2024-05-03T10:00:00.000Z", "x' OR Id != '\\"))
    assert r"Id > 'x\' OR Id != \'\\'" in text
    with pytest.raises(RecordError):
        WHOLE.where(Keyset("2024-05-03 OR 1 = 1", "x"))


def test_names_cannot_carry_more_than_a_name() -> None:
    for selection in (
        Selection("Case WHERE Id != null", ()),
        Selection("Case", ("Id FROM User",)),
        Selection("Case", (), stamp="A, B", start=START),
    ):
        with pytest.raises(ValueError, match="name"):
            selection.soql(selection.columns())


def test_hidden_fields_are_left_out_and_needed_ones_are_not() -> None:
    assert WHOLE.columns() == (
        "Id", "SystemModstamp", "CaseNumber", "Subject", "CreatedBy.TimeZoneSidKey",
    )  # fmt: skip
    for hidden in ("TimeZoneSidKey", "CreatedBy", "CreatedBy.TimeZoneSidKey"):
        assert WHOLE.columns(frozenset({hidden}))[2:] == ("CaseNumber", "Subject")
    assert "CaseNumber" in WHOLE.columns(frozenset({"CaseNumber"}))


def test_a_row_without_a_keyset_has_none() -> None:
    row = msgspec.json.decode(b'{"Id": "5", "CreatedDate": "2024-05-01T10:00:00Z"}', type=Bare)
    assert row.keyset("CreatedDate") == Keyset("2024-05-01T10:00:00.000Z", "5")
    assert row.keyset("SystemModstamp") is None
    assert Bare(created_date="2024-05-01T10:00:00Z").keyset("CreatedDate") is None
