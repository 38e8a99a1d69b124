"""Dry runs: what is computed, what is told instead of done, and what pins put in its place."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from temporaletl.control.cli.main import app
from temporaletl.control.operations.dry_runs import DryNode, DryRun, dry_run, parse_pins
from temporaletl.errors import ConfigurationError
from temporaletl.worker.pipelines.nodes.types import NODE_TYPES
from temporaletl.worker.pipelines.validation import validate
from tests.pipelines import definition, mapping

_EXAMPLES = Path(__file__).parents[3] / "examples" / "pipelines"
_ROWS = {"table": "t", "key": ["id"], "columns": {"id": "integer", "at": "timestamp"}}
#: A node of each type that does more than compute, and what it would do with {"n": [1, 2]}.
_EFFECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "api_call": (
        {
            "url": "https://a.test/{{ trigger.n[0] }}",
            "method": "PUT",
            "headers": {"X-Key": '{{ secret("shop") }}'},
            "query": {"k": '{{ secret("shop") }}'},
            "body": {"n": "{{ trigger.n }}"},
        },
        {
            "method": "PUT",
            "url": "https://a.test/1?k=%5Bsecret+shop%5D",
            "headers": {
                "X-Key": "[secret shop]",
                "Idempotency-Key": "dry-run/it",
                "Content-Type": "application/json",
            },
            "body": {"n": [1, 2]},
        },
    ),
    "webhook": (
        {"url": "https://a.test/", "payload": "{{ trigger.n }}", "signing_secret": "sign"},
        {
            "method": "POST",
            "url": "https://a.test/",
            "headers": {"Content-Type": "application/json", "Idempotency-Key": "dry-run/it"},
            "body": [1, 2],
            "signed_with": "sign",
        },
    ),
    "database": (
        {
            "connection": "shop",
            "operation": "insert",
            "table": "t",
            "rows": "[{'n': n} for n in trigger.n]",
        },
        {
            "connection": "shop",
            "operation": "insert",
            "table": "t",
            "key": [],
            "count": 2,
            "rows": [{"n": 1}],
        },
    ),
    "load": (
        {**_ROWS, "rows": "[{'id': n, 'at': '2026-01-01', 'x': 1} for n in [1, 'x', 2]]"},
        {
            "table": "t",
            "key": ["id"],
            "count": 0,
            "rows": [],
            "rejected": 3,
            "rejects": [
                {
                    "reason": "Invalid RFC3339 encoded datetime - at `$.at`",
                    "record": {"id": 1, "at": "2026-01-01", "x": 1},
                }
            ],
        },
    ),
    "source": (
        {"source": "jira", "params": {"n": "{{ trigger.n }}"}},
        {
            "source": "jira",
            "connection": "default",
            "mode": "incremental",
            "streams": [],
            "params": {"n": [1, 2]},
        },
    ),
    "approval": (
        {"title": "{{ len(trigger.n) }}?"},
        {"title": "2?", "details": None, "waits_at_most": "1 day, 0:00:00"},
    ),
    "wait_for_webhook": ({"timeout_seconds": 60}, {"waits_at_most": "0:01:00"}),
    "pipeline": (
        {"pipeline": "other", "input": "{{ trigger }}"},
        {"pipeline": "other", "version": None, "input": {"n": [1, 2]}},
    ),
    "ai_agent": (
        {"agent_type": "generate", "input": "{{ trigger.n }}", "instructions": "Sum up"},
        {"agent_type": "generate", "model": None, "instructions": "Sum up", "input": [1, 2]},
    ),
    "map": (
        {
            "over": "trigger.n",
            "type": "api_call",
            "data": {"url": "https://a.test/{{ item }}/{{ index }}"},
        },
        {
            "type": "api_call",
            "count": 2,
            "items": [{"method": "GET", "url": "https://a.test/1/0", "headers": {}}],
        },
    ),
}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be reached."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a dry run connects to nothing")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def ran(
    document: dict[str, Any], value: Any = None, **pins: Any
) -> tuple[DryRun, dict[str, DryNode]]:
    ended = asyncio.run(dry_run(validate(document), value, parse_pins(pins), most_shown=1))
    return ended, {node.id: node for node in ended.nodes}


@pytest.mark.parametrize("kind", _EFFECTS)
def test_what_a_node_would_do_to_others_is_told_and_waits_for_a_pin(kind: str) -> None:
    data, would = _EFFECTS[kind]
    handle = NODE_TYPES[kind].model_validate(data).handles()[0]
    document = definition(
        {"it": (kind, data), "after": mapping(got="it")}, f"it -{handle or ''}-> after"
    )

    ended, nodes = ran(document, {"n": [1, 2]})
    assert (ended.state, nodes["after"].state) == ("incomplete", "waiting")
    assert nodes["it"].needs_pin
    assert nodes["it"].would == would

    pin = {"result": "known"} | ({} if handle is None else {"outcome": handle})
    ended, nodes = ran(document, {"n": [1, 2]}, it=pin)
    assert (ended.state, nodes["after"].result) == ("completed", {"got": "known"})
    assert nodes["it"].would == would


def test_every_type_computes_or_is_told() -> None:
    assert _EFFECTS.keys() | {"condition", "switch", "transform", "delay"} == NODE_TYPES.keys()


def test_what_only_computes_is_computed_and_branches_are_joined() -> None:
    document = definition(
        {
            "items": mapping(list="[{'n': n} for n in range(trigger)]"),
            "many": ("condition", {"condition": "len(inputs.list) > 2"}),
            "rest": ("delay", {"seconds": 60}),
            "each": (
                "map",
                {
                    "over": "items.list",
                    "type": "transform",
                    "data": {"transform_type": "mapping", "mapping": {"half": "1 / item.n"}},
                },
            ),
            "few": mapping(x="1"),
            "all": mapping(got="inputs", skipped="few"),
        },
        *("items -> many", "many -true-> rest", "rest -> each", "many -false-> few"),
        *("each -> all", "few -> all"),
    )

    ended, nodes = ran(document, 3)

    assert (ended.state, nodes["few"].state) == ("completed", "skipped")
    assert nodes["many"].handles == ("true",)
    assert nodes["rest"].would is not None
    assert nodes["all"].result == {"got": [None, {"half": 1}, {"half": 0.5}], "skipped": None}


@pytest.mark.parametrize(
    ("edges", "on_error", "state", "after"),
    [
        (("bad -> after",), "fail", "failed", "skipped"),
        (("bad -> after",), "continue", "completed", "completed"),
        (("bad -error-> after",), "fail", "completed", "completed"),
    ],
)
@pytest.mark.parametrize("pinned", [False, True])
def test_a_failure_takes_the_way_it_would_take(
    edges: tuple[str, ...], on_error: str, state: str, after: str, *, pinned: bool
) -> None:
    kind, data = mapping(x="1 / trigger")
    document = definition(
        {"bad": (kind, {**data, "on_error": on_error}), "after": mapping(got="bad")}, *edges
    )

    ended, nodes = ran(
        document, 2 if pinned else 0, **({"bad": {"error": "broken"}} if pinned else {})
    )

    assert (ended.state, nodes["bad"].state, nodes["after"].state) == (state, "failed", after)
    assert nodes["bad"].error is not None
    assert nodes["bad"].error.message.startswith("broken" if pinned else "ZeroDivisionError")


def test_a_load_of_too_many_bad_records_fails_as_it_would() -> None:
    load = "load", {**_ROWS, "rows": "[{'id': 'x'}, {'id': 1}]", "max_rejected": 0.4}
    ended, nodes = ran(definition({"it": load}), it={"result": None})
    assert ended.state == "failed"
    assert "1 of 2 records would be rejected" in str(nodes["it"].error)


def test_a_request_that_may_not_be_sent_fails_its_node() -> None:
    document = definition({"it": ("webhook", {"url": "http://10.0.0.1/", "payload": 1})})
    ended, nodes = ran(document, it={"result": None})
    assert ended.state == "failed"
    assert "10.0.0.1" in str(nodes["it"].error)


@pytest.mark.parametrize(
    ("pins", "told"),
    [
        ([], "pins are an object of nodes"),
        ({"ask": 1}, "pin of ask: "),
        ({"ask": {"results": 1}}, "pin of ask: results: "),
        ({"nope": {"result": 1}}, "pin of nope: there is no such node; there are ask"),
        ({"ask": {"result": 1}}, "pin of ask (approval): needs an outcome; there are approved, "),
        ({"ask": {"outcome": "yes"}}, "pin of ask (approval): yes is no outcome of it"),
        ({"ask": {"error": "x", "outcome": "approved"}}, "pin of ask: with an error, it takes no"),
    ],
)
def test_a_pin_that_is_wrong_is_refused(pins: Any, told: str) -> None:
    pipeline = validate(definition({"ask": ("approval", {"title": "?"})}))
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(dry_run(pipeline, None, parse_pins(pins), most_shown=1))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "last"),
    [("fetch-filter-load", "load"), ("branch-with-webhook", "tell")],
)
def test_the_examples_run_dry_with_their_pins_and_wait_without(name: str, last: str) -> None:
    def etl(*arguments: str) -> Any:
        given = ["--input", '{"article": "A-7", "since": "2026-01-01"}', "--dry-run"]
        file = str(_EXAMPLES / f"{name}.yaml")
        return CliRunner().invoke(
            app, ["pipeline", "run", file, *given, *arguments], standalone_mode=False
        )

    pins = str(_EXAMPLES / f"{name}.pins.yaml")
    found = etl("--json", "--pin", pins)
    document = json.loads(found.stdout)
    assert (found.return_value, document["state"]) == (0, "completed")
    assert {node["id"]: node["state"] for node in document["nodes"]}[last] == "completed"

    told = etl("--pin", pins).stdout
    assert f"{last} (" in told
    assert "  would: " in told

    waits = etl()
    assert waits.return_value == 1
    assert "needs a pin to go on" in waits.stdout


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    file = str(_EXAMPLES / "fetch-filter-load.yaml")
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"fetch": 1')
    for arguments, told in (
        ((file, "--pin", "x"), "--pin goes with --dry-run"),
        ((file, "--dry-run", "--wait"), "--dry-run takes a file or a stored pipeline"),
        (("--dry-run",), "--dry-run takes a file or a stored pipeline"),
        ((file, "--dry-run", "--pin", "none.json"), "--pin: there is no file none.json"),
        ((file, "--dry-run", "--pin", str(wrong)), "wrong.json: document"),
    ):
        found = CliRunner().invoke(app, ["pipeline", "run", *arguments], standalone_mode=False)
        assert told in str(found.exception)


@pytest.mark.parametrize("name", ["\U0001f600", "a\"b'", "\\", "\u2028", "{x}", ""])
def test_a_field_of_a_mapping_may_have_any_name(name: str) -> None:
    pipeline = validate(definition({"it": mapping(**{name: "trigger.n"})}))

    [node] = asyncio.run(dry_run(pipeline, {"n": 1}, {}, most_shown=1)).nodes

    assert node.result == {name: 1}
