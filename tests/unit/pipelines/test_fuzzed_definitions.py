"""Definitions that are nonsense: each is refused with its faults, or runs as far as it can."""

import asyncio
import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from temporaletl.control.operations.dry_runs import dry_run
from temporaletl.control.operations.pipeline_drawing import draw_picture
from temporaletl.errors import ConfigurationError
from temporaletl.worker.pipelines.documents import read_json, read_yaml
from temporaletl.worker.pipelines.faults import DefinitionError
from temporaletl.worker.pipelines.nodes.types import NODE_TYPES
from temporaletl.worker.pipelines.surroundings import Surroundings
from temporaletl.worker.pipelines.validation import Pipeline, validate

_EXAMPLES = sorted((Path(__file__).parents[3] / "examples" / "pipelines").glob("*.yaml"))
_TEXTS = [path.read_text("utf-8") for path in _EXAMPLES if ".pins" not in path.name]
_EACH = {"type": "webhook", "data": {"url": "https://a.test", "payload": "{{ item }}"}}
_MORE: dict[str, Any] = {
    "nodes": [
        {"id": "each", "type": "map", "data": {"over": "trigger", **_EACH}},
        {"id": "wait", "type": "wait_for_webhook", "data": {}},
        {"id": "load", "type": "source", "data": {"source": "jira", "mode": "full"}},
        {"id": "sub", "type": "pipeline", "data": {"pipeline": "other"}},
        {"id": "later", "type": "delay", "data": {"until": "trigger.at"}},
        {
            "id": "which",
            "type": "switch",
            "data": {"cases": [{"name": "a", "when": "trigger == 1"}]},
        },
    ],
    "edges": [
        {"source": "each", "target": "which"},
        {"source": "which", "target": "wait", "sourceHandle": "a"},
        {"source": "wait", "target": "load", "sourceHandle": "received"},
        {"source": "load", "target": "sub"},
        {"source": "sub", "target": "later"},
    ],
}
_VALUES: list[Any] = [
    *(None, True, 0, -1, 1e308, 2**70, "", " ", "a", "a b", "ä\u202e\x00", "\ud800", "__class__"),
    *([], [[]], {}, {"": {}}, {"id": "a"}, [None, 1, "x"], "x" * 5_000, [{}] * 600),
    *("inputs", "{{", "{{ }}", "{{ secret('x') }}", "{{ a.b[0] + }}", "().__class__", "9**9**9"),
    *(
        "trigger.n",
        "item",
        "true",
        "error",
        "all",
        "https://169.254.169.254/",
        "file:///x",
        "select",
    ),
    *NODE_TYPES,
]
_MARKS = [*"\x00\t\n:-[]{}&*!|>'\"%@`", "<<", ""]
_KNOWN = Surroundings(sources=(), databases=("warehouse",), writable=(), keys={}, secrets=())


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in parts:
        yield (*path, name)
        if isinstance(part, dict | list):
            yield from _places(part, (*path, name))


def _changed(document: Any, chance: random.Random) -> Any:
    """A copy with one to four parts that are gone, replaced, added, or stand elsewhere."""
    document = copy.deepcopy(document)
    for _ in range(chance.randint(1, 4)):
        places = [*_places(document)]
        if not places:
            break
        *outer, name = chance.choice(places)
        part = document
        for step in outer:
            part = part[step]
        match chance.randrange(4):
            case 0:
                del part[name]
            case 1:
                part[name] = copy.deepcopy(chance.choice(_VALUES))
            case 2 if isinstance(part, dict):
                added = chance.choice(["id", "type", "data", "join", "default", "x", ""])
                part[added] = copy.deepcopy(chance.choice(_VALUES))
            case _:
                found = document
                for step in chance.choice(places):
                    found = found[step] if _has(found, step) else found
                part[name] = copy.deepcopy(found)
    return document


def _has(part: Any, step: Any) -> bool:
    if isinstance(part, list):
        return isinstance(step, int) and step < len(part)
    return isinstance(part, dict) and step in part


def _validated(document: Any) -> Pipeline | None:
    try:
        return validate(document, _KNOWN)
    except DefinitionError as error:
        faults = error.faults
    assert faults
    for fault in faults:
        assert fault.message
        assert not fault.warning
        assert fault.path.startswith(("definition", "nodes", "edges", *document)), fault
        assert (fault.column or 1) >= 1
        assert len(fault.message) < 3_000
    return None


def test_a_drawing_shows_what_a_label_holds_and_obeys_nothing_of_it() -> None:
    label = "</title><script>\u202egnp" + "x" * 10_000
    nodes = [{"id": "a", "type": "delay", "data": {"seconds": 1, "label": label}}]
    drawn = draw_picture(validate({"nodes": nodes, "edges": []}))
    assert len(drawn) < 3_000
    assert "<script" not in drawn
    assert r"&lt;script&gt;\u202egnpx" in drawn


@pytest.mark.parametrize(
    "rounds", [300, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])]
)
def test_a_changed_definition_is_refused_with_its_faults_or_can_run(rounds: int) -> None:
    chance = random.Random(7)  # noqa: S311 - no secret
    known = [*(read_yaml(text).value for text in _TEXTS), _MORE]
    assert len(known) == 4
    valid = 0
    for _ in range(rounds):
        document = _changed(chance.choice(known), chance)
        pipeline = _validated(document)
        if pipeline is None:
            continue
        valid += 1
        assert draw_picture(pipeline).startswith("<svg")
        if valid % 5 == 0:
            value = chance.choice(_VALUES)
            stored: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
            if value == "\ud800":
                stored = pytest.raises(ConfigurationError, match=r"the input: .* none of JSON")
            with stored:
                asyncio.run(dry_run(pipeline, value, {}, most_shown=2))
    assert 0 < valid < rounds


@pytest.mark.parametrize("value", _VALUES, ids=range(len(_VALUES)))
def test_what_is_no_definition_at_all_is_refused(value: Any) -> None:
    for document in (value, {"nodes": value}, {"nodes": [value]}, {"nodes": [], "edges": [value]}):
        with pytest.raises(DefinitionError) as refused:
            validate(document)
        assert refused.value.faults


@pytest.mark.parametrize("rounds", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_changed_text_is_read_or_refused(rounds: int) -> None:
    chance = random.Random(8)  # noqa: S311 - no secret
    known = [*_TEXTS, json.dumps(_MORE)]
    for _ in range(rounds):
        text = list(chance.choice(known))
        for _ in range(chance.randint(1, 30)):
            at = chance.randrange(len(text))
            text[at : at + chance.randrange(3)] = chance.choice(_MARKS)
        for read in (read_json, read_yaml):
            document = None
            with contextlib.suppress(DefinitionError):
                document = read("".join(text)).value
            if isinstance(document, dict):
                _validated(document)
