"""Validation of definitions: every fault at once, with its place."""

from typing import Any

import pytest

from temporaletl.worker.pipelines.definition import Definition, WebhookTrigger
from temporaletl.worker.pipelines.faults import DefinitionError
from temporaletl.worker.pipelines.surroundings import Surroundings
from temporaletl.worker.pipelines.validation import validate

_MAPPING = {"transform_type": "mapping", "mapping": {"result": "inputs.data"}}


def node(name: str, kind: str = "transform", **data: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "data": data or _MAPPING, "position": {"x": 1, "y": 2}}


def edge(source: str, target: str, handle: str | None = None) -> dict[str, Any]:
    return {
        "id": f"{source}-{target}-{handle}",
        "source": source,
        "target": target,
        "sourceHandle": handle,
        "animated": True,
    }


def document(*nodes: dict[str, Any], edges: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"nodes": [*nodes], "edges": edges or [], "viewport": {"zoom": 1}}


def faults(value: object, surroundings: Surroundings | None = None) -> list[str]:
    try:
        validate(value, surroundings)
    except DefinitionError as error:
        return [str(fault) for fault in error.faults]
    return []


def test_what_a_canvas_exports_is_a_pipeline() -> None:
    whole = document(
        node("fetch", "api_call", url="https://api.test/{{ trigger.id }}"),
        node("big", "condition", condition="inputs.status == 200 and fetch.data.n > 1"),
        node(
            "each",
            "map",
            over="fetch.data.items",
            type="webhook",
            data={
                "url": "https://hooks.test/x",
                "payload": {"id": "{{ item.id }}", "n": "{{ index }}"},
                "headers": {"Authorization": "Bearer {{ secret('hook') }}"},
            },
        ),
        node(
            "rows",
            "load",
            table="orders",
            key=["id"],
            columns={"id": "integer"},
            rows="inputs.data",
        ),
        node("sorry"),
        edges=[
            edge("fetch", "big"),
            edge("big", "each", "true"),
            edge("big", "rows", "false"),
            edge("rows", "sorry", "error"),
            edge("each", "sorry"),
        ],
    )
    pipeline = validate(whole)
    assert pipeline.graph.before()["sorry"] == {"fetch", "big", "each", "rows"}
    moved = {
        **whole,
        "viewport": {"zoom": 2},
        "nodes": [
            {**one, "position": {"x": 9, "y": 9}, "selected": True} for one in whole["nodes"]
        ],
    }
    assert Definition.model_validate(moved).content_hash() == pipeline.definition.content_hash()
    other = document(*whole["nodes"][:4], node("sorry", label="Sorry"), edges=whole["edges"])
    assert Definition.model_validate(other).content_hash() != pipeline.definition.content_hash()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], ["definition: a definition is an object with nodes and edges"]),
        ({}, ["nodes: is missing"]),
        ({"nodes": []}, ["nodes: a pipeline has a node at least"]),
        ({"nodes": {}}, ["nodes: input should be a valid tuple, not {}"]),
        (document(node("a")) | {"nodez": 1}, ["nodez: is not known here; there are"]),
        ({"nodes": [node("a"), "b"]}, ["nodes[1]: input should be a valid dictionary"]),
        (document(node("a")) | {"name": "\ud800"}, ["definition: has half of a surrogate pair"]),
        (document(node("a")) | {"name": "\\\0"}, ["definition: has the character U+0000"]),
        (document({"id": "a", "data": {}}), ["nodes[0].type: is missing"]),
        (document({"id": "a b", "type": "delay"}), ["nodes[0].id: 'a b' does not have the form"]),
        (
            document({"id": "a", "type": "delay", "datum": 1, "data": {"seconds": 1}}),
            ["nodes[0].datum: is not known here; there are data, id, type"],
        ),
        (document(node("a", "eval")), ["nodes[0].type: eval is no type; there are ai_agent, api_"]),
        (
            document(node("a", "delay", seconds=1, second=2)),
            ["nodes[0].data.second: is not known here; there are default, join"],
        ),
        (
            document(node("a", "delay", seconds="soon")),
            ["nodes[0].data.seconds: input should be a valid number"],
        ),
        (
            document(node("a", "delay", until="trigger.at", seconds=1)),
            ["nodes[0].data: needs one of seconds and until"],
        ),
        (
            document(node("a", "delay", seconds=1, retry={"initial_seconds": 60})),
            ["nodes[0].data.retry: max_seconds = 10 is less than initial_seconds = 60: give both"],
        ),
        (document(node("a"), node("a")), ["nodes[1].id: a is also the id of nodes[0]"]),
        (
            document(node("a"), edges=[edge("a", "b"), edge("c", "a")]),
            ["edges[0].target: no node is called b", "edges[1].source: no node is called c"],
        ),
        (
            document(node("a"), node("b"), edges=[edge("a", "b", "true")]),
            ["edges[0].sourceHandle: true is no outcome of a (transform); there are none, error"],
        ),
        (
            document(node("a", "condition", condition="True"), node("b"), edges=[edge("a", "b")]),
            ["edges[0].sourceHandle: none is no outcome of a (condition); there are true, "],
        ),
        (
            document(node("a"), node("b"), edges=[edge("a", "b"), edge("b", "a")]),
            ["edges: a cycle: "],
        ),
        (
            document(node("a"), node("b"), node("c"), edges=[edge("a", "b")]),
            ["nodes[2]: c is unreachable"],
        ),
        (
            document({}, node("a"), node("a"), node("b"), node("c"), edges=[edge("a", "b")]),
            [
                *("nodes[0].id: is missing", "nodes[0].type: is missing"),
                *("nodes[2].id: a is also the id of nodes[1]", "nodes[4]: c is unreachable"),
            ],
        ),
        (
            document(
                node("a", "condition", condition="True"),
                node("b", transform_type="mapping", mapping={"a": "1"}, join="all"),
                edges=[edge("a", "b", "true"), edge("a", "b", "false")],
            ),
            ["nodes[1].data.join: b is unreachable: a never ends with both true and false"],
        ),
        (
            document(
                node("fetch"),
                node("a", "condition", condition="inputs.n > node9.x"),
                edges=[edge("fetch", "a")],
            ),
            ["nodes[1].data.condition column 12: node9 is not known here (did you mean"],
        ),
        (
            document(
                node("a", "condition", condition="b.x"), node("b"), edges=[edge("a", "b", "true")]
            ),
            ["nodes[0].data.condition column 1: b is not known here; nodes before this one: none"],
        ),
        (
            document(node("a", "switch", cases=[{"name": "x", "when": "1 +"}])),
            ["nodes[0].data.cases[0].when column 4: not an expression of Python"],
        ),
        (
            document(
                node("a", "switch", cases=[{"name": "x", "when": "1"}, {"name": "x", "when": "1"}])
            ),
            ["nodes[0].data: two cases are called x"],
        ),
        (
            document(
                node(
                    "a",
                    transform_type="aggregate",
                    over="inputs",
                    by={"d": "item.d"},
                    fields={"n": "len(row)"},
                )
            ),
            ["nodes[0].data.fields.n column 5: row is not known here (did you mean rows?)"],
        ),
        (
            document(node("a", transform_type="filter", over="inputs")),
            ["nodes[0].data: filter needs where"],
        ),
        (
            document(node("a", "api_call", url="https://{{ inputs.host }}/x")),
            ["nodes[0].data.url: needs http:// or https:// and a host that is written out"],
        ),
        (
            document(node("a", "api_call", url="https://x.test/{{ secret('k') }}")),
            ["nodes[0].data.url column 19: secrets may stand in headers"],
        ),
        (
            document(node("a", "api_call", url="https://x.test/{{ inputs.a")),
            ["nodes[0].data.url column 16: {{ is not closed by }}"],
        ),
        (
            document(node("a", "api_call", url="https://x.test/", body={"a": [1, "{{ later }}"]})),
            ["nodes[0].data.body.a[1] column 4: later is not known here"],
        ),
        (
            document(node("a", "database", connection="x", operation="query", query="{{ a }}")),
            ["nodes[0].data: a statement has no holes"],
        ),
        (
            document(
                node("a", "database", connection="x", operation="upsert", table="t", rows="1")
            ),
            ["nodes[0].data: upsert needs key"],
        ),
        (
            document(
                node("a", "load", table="etl_jobs", key=["x"], columns={"id": "text"}, rows="1")
            ),
            ["nodes[0].data: key names x, which columns does not"],
        ),
        (
            document(
                node("a", "load", table="etl_jobs", key=["x"], columns={"x": "text"}, rows="1")
            ),
            ["nodes[0].data.table: etl_jobs is a table of the platform"],
        ),
        (
            document(
                node("a", "load", table='a"; drop', key=["x"], columns={"x": "text"}, rows="1")
            ),
            ["nodes[0].data.table: 'a\"; drop' does not have the form"],
        ),
        (
            document(
                node("a", "load", table="t", key=["x"], columns={"x": "text"}, rows="1"),
                node("b", "load", table="t", key=["y"], columns={"y": "text"}, rows="1"),
            ),
            ["nodes[1].data.key: t has the key x already, not y"],
        ),
        (
            document(node("a", "map", over="[1]", type="map", data={})),
            ["nodes[0].data.type: map cannot run for each item"],
        ),
        (
            document(node("a", "map", over="[1]", type="webhook", data={"url": "https://h.test/"})),
            ["nodes[0].data.data.payload: is missing"],
        ),
        (
            document(node("a", "ai_agent", agent_type="classify", input="{{ inputs }}")),
            ["nodes[0].data: labels are what classify needs"],
        ),
        *(
            (
                document(node("a", "ai_agent", agent_type="classify", labels=labels)),
                [f"nodes[0].data.labels: {fault}"],
            )
            for labels, fault in (
                (["bug", "Bug  "], "'bug' and 'Bug  ' are not told apart"),
                (["bug", " "], "a label is empty"),
                (["bug"], "1 labels: from 2 to 200"),
            )
        ),
        (
            document(node("a", "ai_agent", agent_type="judge")),
            ["nodes[0].data: judge needs instructions"],
        ),
        (
            document(node("a", "ai_agent", agent_type="extract", output_schema={"type": "list"})),
            ['nodes[0].data.output_schema: needs "type": "object"'],
        ),
        (
            document(*[node(f"n{number}") for number in range(501)]),
            ["nodes: 501 are more than 500"],
        ),
        (document(node("a"), edges=[edge("a", "a")] * 2_001), ["edges: 2,001 are more than 2,000"]),
        (document(node("a", label="x" * 600_000)), ["bytes are more than 524,288"]),
        (document(node("a", label=float("nan"))), ["definition: is none of JSON"]),
    ],
    ids=lambda value: (
        value[0][:40] if isinstance(value, list) and value and isinstance(value[0], str) else ""
    ),
)
def test_a_fault_is_told_with_its_place(value: object, told: list[str]) -> None:
    found = faults(value)
    assert len(found) == len(told), found
    for one, expected in zip(found, told, strict=True):
        assert expected in one


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        document(
            {"id": "a", "type": "nope"},
            node("b", "condition", condition="x > 1 and y"),
            {"id": "b", "type": "transform"},
            edges=[edge("b", "zz", "true")],
        )
    )
    assert [one.partition(":")[0] for one in found] == [
        "nodes[2].id",
        "nodes[0].type",
        "nodes[2].data.transform_type",
        "edges[0].target",
        "nodes[1].data.condition column 1",
        "nodes[1].data.condition column 11",
    ]


def test_what_does_not_exist_where_it_runs_is_a_fault() -> None:
    surroundings = Surroundings(
        sources=("jira",),
        databases=("shop", "erp"),
        writable=("erp",),
        keys={"orders": ("id",)},
        reserved=("events",),
    )
    whole = document(
        node("a", "source", source="jirra"),
        node("b", "database", connection="none", operation="query", query="SELECT 1"),
        node("c", "database", connection="shop", operation="insert", table="t", rows="[]"),
        node("d", "load", table="orders", key=["x"], columns={"x": "text"}, rows="[]"),
        node("e", "load", table="events", key=["x"], columns={"x": "text"}, rows="[]"),
    )
    assert faults(whole, surroundings) == [
        "nodes[0].data.source: jirra is no source; there are jira",
        "nodes[1].data.connection: no database is called none; there are erp, shop",
        "nodes[2].data.connection: shop may be read alone",
        "nodes[3].data.key: orders has the key id already, not x",
        "nodes[4].data.table: events is a table of the platform: choose another",
    ]


def test_what_a_model_says_is_warned_of_where_nothing_judges_it() -> None:
    agent = node("say", "ai_agent", agent_type="summarise", input="{{ inputs }}")
    post = node("post", "webhook", url="https://h.test/", payload="{{ inputs }}")
    between = node("mid")
    edges = [edge("say", "mid"), edge("mid", "post")]
    [warning] = validate(document(agent, between, post, edges=edges)).warnings
    assert str(warning).startswith("nodes[2]: what say answers is sent on")
    judged = node("mid", "approval", title="Send it?")
    edges[1] = edge("mid", "post", "approved")
    assert validate(document(agent, judged, post, edges=edges)).warnings == ()


@pytest.mark.parametrize("all_secrets", [True, False])
def test_a_secret_that_is_not_there_is_told_with_its_place(all_secrets: bool) -> None:
    named = {
        "url": "https://hooks.test/x",
        "payload": 1,
        "headers": {"X-Key": "key\n {{ secret('shop.key') }}{{ secret('known') }}"},
        "signing_secret": "sign",
    }
    value = document(
        node("told", "webhook", **named),
        node("each", "map", over="inputs", type="webhook", data=named),
        edges=[edge("told", "each")],
    )
    value["webhook"] = {"signing_secrets": ["known", "gone"]}
    surroundings = Surroundings(secrets={"PIPELINE_SECRET_KNOWN"}, all_secrets=all_secrets)

    told = (
        faults(value, surroundings)
        if all_secrets
        else [str(one) for one in validate(value, surroundings).warnings]
    )

    assert [one.rpartition(": ")[0].partition(": t")[0] for one in told] == [
        "nodes[0].data.headers.X-Key line 2 column 2",
        "nodes[1].data.data.headers.X-Key line 2 column 2",
        "nodes[0].data.signing_secret",
        "nodes[1].data.data.signing_secret",
        "webhook.signing_secrets[1]",
    ]
    assert all("PIPELINE_SECRET_" in one for one in told)


def test_a_node_within_a_map_meets_what_one_alone_does() -> None:
    value = document(
        node("each", "map", over="[1]", type="api_call", data={"url": "https://{{ item }}/x"})
    )
    [told] = faults(value, Surroundings())
    assert told.startswith("nodes[0].data.data.url: needs http:// or https:// and a host")


def test_a_definition_without_a_webhook_keeps_the_hash_it_had() -> None:
    plain = Definition.model_validate({"nodes": [{"id": "wait", "type": "delay"}]})
    taking = plain.model_copy(
        update={"webhook": WebhookTrigger.model_validate({"signing_secrets": ["a"]})}
    )
    known = "359aadd2570c7d0e811982fbb54c72938ab3e0310171cf3464522ca95cc6a273"
    assert plain.content_hash() == known
    assert taking.content_hash() != known
