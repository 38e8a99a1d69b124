"""Schemas of answers: hostile ones are refused at once, and fetch nothing."""

import re
from typing import Any

import pytest

from temporaletl.warehouse.pipeline_results import encode
from temporaletl.worker.pipelines.nodes.schemas import Misfit, check_schema, misfit_of
from temporaletl.worker.pipelines.steps.agents import _fitting


def doubled(levels: int) -> dict[str, Any]:
    """Definitions each of which names the next one twice."""
    defined: dict[str, Any] = {
        f"a{level}": {"allOf": [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(levels)
    }
    return {f"a{levels}": {"type": "string"}, **defined}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"type": "array"}, "needs"),
        ({"$schema": "http://example.com/mine"}, "$schema is"),
        ({"properties": {"a": {"type": "text"}}}, "no JSON Schema at properties.a.type"),
        ({"properties": {"a": {"pattern": "("}}}, "no JSON Schema at properties.a.pattern"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "no JSON Schema"),
        ({"properties": {"a": {"pattern": "((a{1,999}){1,999}){1,999}"}}}, "no JSON Schema"),
        *(
            ({"properties": {"a": {"$ref": reference}}}, "is none of its own")
            for reference in ("http://127.0.0.1/s", "file:///etc/passwd", "#/$defs/none", "#", "x")
        ),
        ({"$id": "http://127.0.0.1/", "properties": {}}, "$id is not taken"),
        ({"properties": {"a": {"$dynamicRef": "#a"}}}, "$dynamicRef is not taken"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "leads back to itself"),
        ({"$defs": doubled(40), "$ref": "#/$defs/a0"}, "more than 10,000 parts"),
        ({"properties": {"a": nested(70)}}, "nested deeper than 64"),
    ],
)
def test_a_schema_that_is_wrong_or_hostile_is_refused_before_it_is_followed(
    part: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        check_schema({"type": "object", **part})


def test_what_does_not_fit_is_told_by_its_rule_alone() -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/day"}, "$ref": {"type": "string"}},
        "$defs": {"day": {"type": "string", "pattern": "^(a+)+$"}},
    }
    check_schema(schema)
    assert misfit_of(schema, {"at": "aaa"}) is None
    found = misfit_of(schema, {"at": "a" * 50_000 + "secret"})  # in linear time
    assert found is not None
    assert "secret" in found.message
    assert found.rule == "breaks $defs.day.pattern of the schema"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ('```json\n{"n": 1}\n```\n', True),
        ('{"n": ' + "9" * 400 + "}", True),
        ('{"n": ' + "9" * 5_000 + "}", False),
        ('{"n": 1e400}', False),
        ('{"n": NaN}', False),
        (r'{"s": "\ud800"}', False),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", False),
        ("```json\n" + "\n```" * 200_000 + " x", False),
        ("```json" + "\n" * 1_000_000 + "x```", False),
    ],
    ids=lambda value: str(value)[:12],
)
def test_hostile_json_of_a_model_fits_or_does_not_and_takes_no_time(text: str, fits: bool) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "number"}}}
    found = _fitting(text, schema)
    assert isinstance(found, Misfit) != fits
    if fits:
        assert not isinstance(found, Misfit)
        assert encode(found).size > 0
