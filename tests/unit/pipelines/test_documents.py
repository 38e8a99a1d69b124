"""Documents of pipelines: YAML and JSON, hostile ones too."""

from itertools import pairwise

import pytest

from temporaletl.worker.pipelines.documents import read_json, read_yaml
from temporaletl.worker.pipelines.faults import DefinitionError
from temporaletl.worker.pipelines.validation import validate

_YAML = """\
name: orders
nodes:
  - id: fetch
    type: api_call
    data: {url: "https://api.test/orders"}
  - id: big
    type: condition
    data:
      condition: >-
        inputs.status == 200
        and node9.x
  - {id: day, type: transform, data: {transform_type: mapping, mapping: {on: "1", off: "yes"}}}
edges:
  - {source: fetch, target: big}
  - {source: big, target: day, sourceHandle: true}
"""


def test_yaml_is_read_by_its_core_schema_with_the_line_of_each_place() -> None:
    document = read_yaml(_YAML)
    with pytest.raises(DefinitionError) as caught:
        validate(document.value)
    [fault, _] = caught.value.faults
    assert fault.path == "nodes[1].data.condition"
    assert document.line_of(fault.path) == 9
    assert document.line_of("nodes[1].data.condition.deeper[3]") == 9
    assert document.line_of("edges[1].sourceHandle") == 15
    text = "[yes, no, on, 2024-01-01, 0x10, 1_000, 1e3, 12, -1.5, ~, true, '1', 1:30]"
    assert read_yaml(text).value == [
        *("yes", "no", "on", "2024-01-01", "0x10", "1_000", 1e3, 12, -1.5, None, True),
        *("1", "1:30"),
    ]
    validate(read_yaml(_YAML.replace("\n        and node9.x", "").replace('"yes"', '"2"')).value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\na: 2", "document line 2 column 1: the key a stands twice"),
        ("a: [1", "not YAML"),
        ("? [a]\n: 1", "a key is a text"),
        ("<<: {a: 1}", "a key is a text"),
        ("a: !!python/object/apply:os.system [ls]", None),
        ("a: &a [*a]", "nested more than 50 levels deep"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in pairwise("abcdefg")),
            "more than 100,000 values: aliases multiply them",
        ),
        ("[" * 2_000 + "]" * 2_000, "nesting"),
        ("x" * 1_000_001, "1,000,001 characters are more than 1,000,000"),
        ("a: \x00", "not YAML"),
        ("--- 1\n--- 2", "not YAML"),
        ("a:\n  b: " + "9" * 5_000, "line 2 column 6: a number of 5,000 digits is too long"),
    ],
)
def test_yaml_that_is_hostile_or_unclear_is_refused_at_its_place(
    text: str, told: str | None
) -> None:
    if told is None:
        assert read_yaml(text).value == {"a": ["ls"]}
        return
    with pytest.raises(DefinitionError) as caught:
        read_yaml(text)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1, "a": 2}', "the key a stands twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1', "document column 8: not JSON: Expecting ',' delimiter"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_json_that_is_unclear_is_refused(text: str, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_json(text)
    assert told in str(caught.value)
