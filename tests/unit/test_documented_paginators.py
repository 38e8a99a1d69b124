"""The author's guide says what paginators take: their parameters, and calls of each."""

import ast
import inspect
import re

import pytest

from temporaletl.external import rest
from tests.documentation import code_in, sections, tables, text_of

PAGINATORS = ("by_time", "by_token", "by_link", "by_offset", "by_number")


@pytest.mark.parametrize("name", PAGINATORS)
def test_the_parameters_of_a_paginator_are_as_documented(name: str) -> None:
    text = dict(sections(text_of("authoring/rest.md")))[name]
    [(_, rows)] = tables(text)
    documented = {code_in(parameter)[0]: default for parameter, default, _ in rows}
    signature = inspect.signature(getattr(rest, name))
    actual = {
        parameter.name: parameter.default
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert documented.keys() == actual.keys()
    for parameter, default in actual.items():
        shown = documented[parameter].strip("`")
        if default is inspect.Parameter.empty:
            assert shown == "required", parameter
        elif default is None:
            assert shown == "none" or parameter == "window", parameter
        else:
            assert shown == (f"rest.{default.__name__}" if callable(default) else str(default))


@pytest.mark.parametrize("name", PAGINATORS)
def test_the_example_of_a_paginator_is_a_call_that_it_takes(name: str) -> None:
    text = dict(sections(text_of("authoring/rest.md")))[name]
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    call = ast.parse(example.strip(), mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == f"rest.{name}"
    given = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    inspect.signature(getattr(rest, name)).bind(*call.args, **given)
