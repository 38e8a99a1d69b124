"""Values that are left out, redacted or hashed before anything stores or shows them."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from msgspec.structs import replace

from temporaletl.errors import ConfigurationError, RecordError
from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rows import Event, Reject, TemporalWorkflow
from temporaletl.settings.fields import load_field_rules
from temporaletl.strategies import Strategies
from temporaletl.transformation import TransformContext
from temporaletl.worker.transforming import Transformed, transform_record

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
EVENT = Event(
    event_id="1",
    event_type="made",
    event_time_utc=NOON,
    person="ann",
    event_properties={"text": "secret", "n": 7, "who": [{"mail": "a@b", "id": 1}, {"id": 2}]},
    relation_properties={"email": "ann@example.com"},
)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_HASH_KEY", "a key of some length")


def ruled(monkeypatch: pytest.MonkeyPatch, rules: str, event: Event = EVENT) -> Event:
    monkeypatch.setenv("ETL_FIELD_RULES", rules)
    return load_field_rules("shop", [Event]).apply(event)


def test_values_are_left_out_redacted_or_hashed_at_any_depth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = ruled(
        monkeypatch,
        "shop.event_properties.text=drop, shop.event_properties.who.mail=redact, "
        "*.person=hash, other.metrics=drop, shop.event_properties.n=hash, *.memo=drop",
    )
    properties = cast("dict[str, Any]", done.event_properties)
    assert properties.keys() == {"n", "who"}
    assert properties["who"] == [{"mail": "[redacted]", "id": 1}, {"id": 2}]
    assert properties["n"].startswith("hash:")
    assert str(done.person).startswith("hash:")
    assert done.relation_properties == EVENT.relation_properties
    assert cast("dict[str, Any]", EVENT.event_properties)["text"] == "secret"


def test_the_same_value_has_the_same_digest_and_is_hashed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = "shop.person=hash, shop.relation_properties.email=hash"
    once = ruled(monkeypatch, rules)
    assert ruled(monkeypatch, rules, once) == once
    mail = replace(EVENT, person="ann@example.com")
    again = ruled(monkeypatch, rules, mail)
    assert again.person == cast("dict[str, Any]", once.relation_properties)["email"]
    monkeypatch.setenv("ETL_HASH_KEY", "another key")
    assert ruled(monkeypatch, rules).person != once.person


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ("shop.person", "is no rule"),
        ("shop.person=encrypt", "is no rule"),
        ("person=hash", "is no rule"),
        ("shop.preson=hash", "has a column preson; the columns are .*person"),
        ("shop.event_id=hash", "says which row it is"),
        ("shop.event_type=drop", "says which row it is"),
        ("shop.person.name=hash", "holds no JSON"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(
    monkeypatch: pytest.MonkeyPatch, rules: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ruled(monkeypatch, rules)


@pytest.mark.parametrize(
    ("rule", "message"),
    [("history_length=hash", "holds no text"), ("status=drop", "never empty")],
)
def test_a_column_that_cannot_hold_the_result_is_named(
    monkeypatch: pytest.MonkeyPatch, rule: str, message: str
) -> None:
    monkeypatch.setenv("ETL_FIELD_RULES", f"temporal.{rule}")
    with pytest.raises(ConfigurationError, match=message):
        load_field_rules("temporal", [TemporalWorkflow])


def test_digests_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ETL_HASH_KEY")
    with pytest.raises(ConfigurationError, match="ETL_HASH_KEY is not set"):
        ruled(monkeypatch, "shop.person=hash")


def test_a_reject_of_a_source_with_rules_keeps_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_FIELD_RULES", "shop.person=redact")
    job = ETLInput(batch_id="b", seq=0, job_id="j", source="shop", stream="orders", mode="full")

    def transform(record: str, _: object) -> Iterator[Event]:
        if record == "bad":
            raise RecordError("no date")
        yield EVENT

    strategies = Strategies(Query, cast("Any", None), cast("Any", transform), (Event,))
    context = TransformContext(job, Query(), field_rules=load_field_rules("shop", [Event]))
    result = Transformed()
    for record in itertools.chain(["good", "bad"]):
        transform_record(strategies, context, record, result)
    assert result.rows == [replace(EVENT, person="[redacted]")]
    assert result.rejects == [Reject(stage="transform", reason="no date")]
