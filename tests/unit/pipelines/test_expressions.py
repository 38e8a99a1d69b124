"""Expressions of pipelines: what is refused, with its place, and what the sandbox makes of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from temporaletl.worker.pipelines.expressions.evaluation import EvaluationError, Evaluator
from temporaletl.worker.pipelines.expressions.grammar import ExpressionError, parse_expression
from temporaletl.worker.pipelines.settings import PipelineSettings

_INPUTS: Any = {
    "amount": 120.5,
    "status": "open",
    "items": [{"id": 2, "tags": ["b"]}, {"id": 1, "tags": []}],
    "a b": {"c": None},
    "é": 1,
}
_NODES: Any = {"fetch": {"status": 200, "data": [3, 1, 2]}, "node-1": {"data": "x"}, "max": 7}


@pytest.fixture(scope="module")
def evaluator() -> Iterator[Evaluator]:
    settings = PipelineSettings(PIPELINE_EXPRESSION_MEMORY_MB=64, PIPELINE_EXPRESSION_SECONDS=0.3)
    evaluator = Evaluator(settings)
    yield evaluator
    evaluator.close()


def evaluated(evaluator: Evaluator, text: str) -> object:
    expression = parse_expression(text, _NODES)
    read = {name: _NODES[name] for name in expression.nodes}
    variables = {"inputs": _INPUTS, "nodes": read, "trigger": {}, "execution": {"id": "e-1"}}
    return evaluator.evaluate(expression.code, variables)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('inputs.amount > 100 and inputs.status == "open"', True),
        ("inputs.items", _INPUTS["items"]),
        ("[item.id for item in inputs.items if item.id > 1]", [2]),
        ("sorted(inputs.items, key=lambda item: item.id)[0].id", 1),
        ("{i.id: len(i.tags) for i in inputs.items}", {"2": 1, "1": 0}),
        ("fetch.status == 200 and sum(fetch.data)", 6),
        ('nodes["node-1"].data.upper()', "X"),
        ('nodes["max"] + max(1, 2)', 9),
        ('inputs["a b"].c is None', True),
        ('f"{inputs.status:>6}{inputs.amount:.1f}"', "  open120.5"),
        ("inputs.get('none', {}).get('x')", None),
        ("(inputs).status.split('p')[::-1]", ["en", "o"]),
        ("inputs.amount > 100\n  and\r\n  inputs.status # why not\n", "open"),
        ('"é" + str(inputs.é) + inputs.status', "é1open"),
        ("1, 2", [1, 2]),
        ("[(a, b) for a, (b, _) in [(1, (2, 3))]]", [[1, 2]]),
        ("10 if not inputs.items else -1", -1),
        ('execution.id + "{{}}"', "e-1{{}}"),
    ],
)
def test_an_expression_has_the_value_that_python_gives_it(
    evaluator: Evaluator, text: str, value: object
) -> None:
    assert evaluated(evaluator, text) == value


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("fetch2.status", ["column 1: fetch2 is not known here (did you mean fetch?)"]),
        ("1 + é.x + later.x", ["column 5: é is not known", "column 11: later is not known"]),
        ("inputs.items.append(1)", ["column 14: .append() is no method here"]),
        ("open('/etc/passwd')", ["column 1: open is no function here"]),
        ("().__class__.__mro__", ["column 4: __class__:", "column 14: __mro__: names do not"]),
        ('"{0.__class__}".format(1)', ["column 17: .format() is no method here"]),
        ("inputs.x(1)", ["column 8: .x() is no method here"]),
        ("(lambda: 1)()", ["only functions and methods can be called"]),
        ("[x := 1]", ["column 2: := cannot be used"]),
        ("await fetch", ["column 1: await cannot be used"]),
        ("b'x'", ["column 1: bytes values are none of JSON"]),
        ("len", ["column 1: len is a function: call it"]),
        ("[a for len in [1]]", ["column 2: a is not known", "column 8: len is a function: choose"]),
        ("nodes[inputs.id]", ["column 7: the id of a node is written out"]),
        ('nodes["nope"]', ["column 7: nope is not known here"]),
        ("nodes", ["column 1: read a node by its id"]),
        ("1 +", ["column 4: not an expression of Python"]),
        ("1\n+ 2)", ["line 2 column 5: not an expression of Python"]),
        ("(1", ["never closed"]),
        ("1) + (2", ["column 1: a ) closes nothing"]),
        ("x = 1", ["not an expression of Python"]),
        ("import os", ["not an expression of Python"]),
        ("  ", ["column 1: no expression is here"]),
        ("(x for x in [1])", ["a generator is no value"]),
        ("inputs.a\x00", ["null"]),
        ("inputs.x[0](1)", ["only functions and methods can be called"]),
        ("sorted(inputs.items, key=lambda *a: a)", ["a key is a lambda of one argument"]),
        ("sum(inputs.items, key=lambda a: a)", ["lambda (other than as the key of"]),
        ("(inputs\n.status)", ["line 2 column 2: .status must stand on the line of its value"]),
        ("[[x for x in _y] for _y in []]", ["_y"]),
        ("9" * 4_001, ["longer than 4,000 characters"]),
        ("9" * 4_000, []),
        ("(" * 200 + "1" + ")" * 200, ["too many nested"]),
        ("-" * 100 + "1", ["nested more than 80 levels deep"]),
        ("-" * 3_999 + "1", ["nested"]),
        ("1" + "+1" * 100, ["nested more than 80 levels deep"]),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_an_expression_is_refused_with_every_fault_and_its_place(
    text: str, faults: list[str]
) -> None:
    try:
        parse_expression(text, _NODES)
    except ExpressionError as error:
        told = [str(fault) for fault in error.faults]
        assert len(told) == len(faults), told
        for one, expected in zip(told, faults, strict=True):
            assert expected in one.lower() or expected in one
    else:
        assert not faults


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inputs.nope + 1", 'KeyError: nope, in inputs["nope"]'),
        ("fetch.data.nope", "TypeError"),
        ("1 / 0", "ZeroDivisionError: division by zero, in 1 / 0"),
        ("{1, 2}", "none of JSON"),
        ("float('nan')", "none of JSON"),
        ("9 ** 9 ** 9", "took more than it may"),
        ("'a' * 10 ** 9", "took more than it may"),
        ("'%1000000000d' % 1", "took more than it may"),
        ("len([a for a in range(10 ** 9)])", "took"),
        ("[1 for a in range(10 ** 9) if False]", "took"),
        ("'x'.zfill(10 ** 9)", "took more than it may"),
        ("list(range(10 ** 9))", "took more than it may"),
        ("sum(sum(range(10 ** 6)) for a in range(10 ** 6))", "took"),
    ],
)
def test_an_expression_that_fails_or_takes_too_much_says_so_and_harms_no_other(
    evaluator: Evaluator, text: str, told: str
) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluated(evaluator, text)
    assert told in str(caught.value)
    assert evaluated(evaluator, "inputs.status") == "open"
