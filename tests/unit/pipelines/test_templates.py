"""Templates: where their holes end, and what may stand in these."""

import pytest

from temporaletl.worker.pipelines.expressions.grammar import Expression, parse_expression
from temporaletl.worker.pipelines.expressions.templates import parse_template
from tests.unit.pipelines.test_validation import document, edge, faults, node


@pytest.mark.timeout(120)  # each }} parsed anew with all before it would take an hour
@pytest.mark.parametrize("hole", ['{{ "', "{{ '''", '{{ "}}\n' * 1_000, "{{ {{}}" * 1_000])
def test_a_text_of_braces_alone_keeps_nobody_waiting(hole: str) -> None:
    payload = hole + "}}" * 200_000
    [fault, *_] = faults(document(node("a", "webhook", url="https://a.test", payload=payload)))
    assert "nodes[0].data.payload column" in fault


@pytest.mark.parametrize("name", ["e\u0301te", "\ufb01nd"])
def test_a_node_is_read_by_its_name_however_its_letters_are_written(name: str) -> None:
    condition = f"{name}.x > 1 and nodes['{name}'].y"
    both = document(
        node(name), node("b", "condition", condition=condition), edges=[edge(name, "b")]
    )
    assert faults(both) == []
    assert parse_expression(condition, [name]).nodes == {name}


@pytest.mark.parametrize(
    "hole",
    ['{"a": {"b": 1}}', """f'{inputs["x"]}}}'""", "'}}'", '{"a": f"{inputs}}}"}', "{}"],
)
def test_a_hole_ends_where_its_expression_does(hole: str) -> None:
    text = f"é\n{{{{ {hole} }}}} and {{{{ inputs.y }}}}"
    parts = parse_template(text).parts
    assert [part.text.strip() if isinstance(part, Expression) else part for part in parts][-2:] == [
        " and ",
        "inputs.y",
    ]
