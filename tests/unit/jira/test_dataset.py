"""Issues as a table of the dataset holds them."""

import pytest

from temporaletl.worker.sources.jira.extract import dataset

FIELDS = '{"created": "2024-01-01T00:00:00.000+0000", "summary": "s"}'


@pytest.mark.parametrize(
    "fields",
    [
        None,
        "",
        "[]",
        '{"odd": NaN}',
        '{"summary": "s", "odd": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"timeoriginalestimate": ' + "9" * 5_000 + "}",
    ],
)
def test_one_row_that_cannot_be_decoded_costs_no_other(fields: str | None) -> None:
    rows = [["1", "A-1", None, FIELDS, None], ["2", "A-2", None, fields, None]]
    records, rejects = dataset._decoded(rows)
    assert [record.key for record in records] == ["A-1"]
    [reject] = rejects
    assert (reject.key, reject.payload["fields"]) == ("A-2", fields)


def test_half_an_emoji_in_a_column_costs_nothing() -> None:
    [record], rejects = dataset._decoded([["1", "A\ud83d", None, FIELDS, None]])
    assert (record.key, rejects) == ("A?", [])
