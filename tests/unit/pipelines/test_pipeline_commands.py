"""`etl pipeline`: faults by file and line, the graph, the schema, and what the guide says."""

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from temporaletl.control.cli.main import app
from temporaletl.control.cli.views.executions import _size
from temporaletl.control.operations.execution_details import NodeDetails
from temporaletl.control.operations.pipelines import pipeline_schema, validate_pipeline
from temporaletl.warehouse.pipeline_nodes import NodeRecord
from temporaletl.worker.pipelines.expressions.language import FUNCTIONS, METHODS, ROOTS
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.nodes.types import NODE_TYPES
from tests.documentation import code_in, tables, text_of

_GUIDE = text_of("pipelines.md")
_ORDERS = re.findall(r"```yaml\n(.*?)```", _GUIDE, re.DOTALL)[0]


@pytest.fixture
def etl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    Path("orders.yaml").write_text(_ORDERS)
    Path("wrong.yaml").write_text(_ORDERS.replace("fetch.status", "fetsh.status"))
    return CliRunner()


def test_the_pipeline_of_the_guide_is_valid_and_drawn(etl: CliRunner) -> None:
    found = etl.invoke(app, ["pipeline", "validate", "orders.yaml"])
    assert found.output == "orders.yaml: valid, 3 nodes and 2 edges\n"
    drawn = etl.invoke(app, ["pipeline", "graph", "orders.yaml"])
    assert drawn.output.splitlines() == [
        "flowchart LR",
        '    n0["fetch<br/>api_call"]',
        '    n1["any<br/>condition"]',
        '    n2["rows<br/>load"]',
        "    n0 --> n1",
        "    n1 -->|true| n2",
    ]
    picture = etl.invoke(app, ["pipeline", "graph", "--svg", "orders.yaml"]).output
    [style] = ElementTree.fromstring(picture).findall("{*}style")  # noqa: S314 - our own
    assert ".node rect" in str(style.text)
    assert picture.count('class="node"') == 3


def test_a_fault_is_told_by_file_and_line(etl: CliRunner) -> None:
    found = etl.invoke(app, ["pipeline", "validate", "wrong.yaml"], standalone_mode=False)
    assert found.return_value == 2
    told = re.findall(r"```text\n(.*?)\.\.\.\n```", _GUIDE, re.DOTALL)[0]
    assert found.stderr.startswith(told.replace("orders.yaml:9", "wrong.yaml:8"))
    as_json = etl.invoke(app, ["pipeline", "validate", "wrong.yaml", "--json"])
    [fault] = json.loads(as_json.stdout)["faults"]
    assert (fault["path"], fault["node"], fault["line"], fault["column"]) == (
        *("nodes[1].data.condition", "any", 8, 1),
    )


def first_column(head: str) -> set[str]:
    """What the table of the guide with this head lists."""
    of_head = (rows for heads, rows in tables(_GUIDE) if heads[0] == head)
    return {name for row in chain.from_iterable(of_head) for name in code_in(row[0])}


def test_the_guide_names_every_type_field_function_and_method() -> None:
    assert first_column("type") == NODE_TYPES.keys()
    assert first_column("in `data`") == NodeData.model_fields.keys()
    prose = re.sub(r"```.*?```", "", _GUIDE, flags=re.DOTALL)
    named = set(re.findall(r"`([^`]+)`", prose)) | first_column("name")
    assert {f"{field}" for kind in NODE_TYPES.values() for field in kind.model_fields} <= named
    assert named >= FUNCTIONS | METHODS
    assert ROOTS.keys() <= {re.split(r"\W", name)[0] for name in first_column("name")}
    listed = re.findall(r"^(?:Functions|Methods): (.*?\.)$", _GUIDE, re.DOTALL | re.MULTILINE)
    calls = {word for text in listed for word in re.findall(r"`(\w+)`", text)}
    assert calls - {"sorted"} == (FUNCTIONS | METHODS) - {"sorted"}


def test_the_schema_takes_what_the_guide_shows() -> None:
    schema = pipeline_schema()
    kinds = schema["$defs"]["Node"]["oneOf"]  # type: ignore[index, call-overload]
    assert [kind["properties"]["type"]["const"] for kind in kinds] == [*NODE_TYPES]  # type: ignore[index, call-overload, union-attr]
    references = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)))
    assert references <= schema["$defs"].keys()  # type: ignore[union-attr]


def test_the_transform_that_the_guide_shows_is_a_node() -> None:
    node = json.loads(re.findall(r"```json\n(.*?)```", _GUIDE, re.DOTALL)[0])
    document = {"nodes": [{"id": "one", **node}], "edges": []}
    assert validate_pipeline(json.dumps(document), as_json=True).pipeline is not None


@pytest.mark.parametrize("table", ["events", "jira_events", "issues", "collections", "etl_jobs"])
def test_a_table_of_the_platform_or_of_a_source_is_not_loaded_into(table: str) -> None:
    found = validate_pipeline(_ORDERS.replace("table: orders", f"table: {table}"))
    assert [fault.path for fault in found.faults] == ["nodes[2].data.table"]


def test_a_source_that_is_not_there_is_a_fault() -> None:
    found = validate_pipeline("nodes: [{id: a, type: source, data: {source: jirra}}]")
    assert "jirra is no source; there are" in str(found.faults[0])


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"items": 3, "failed": 0}, "4 B"),
        ({"model": "m-1", "reserved_tokens": 0}, "4 B, 1,200 + 34 tokens of m-1"),
        ({"model": None, "reserved_tokens": 1_500}, "4 B, 1,200 + 34 tokens, 1,500 reserved"),
    ],
)
def test_what_a_node_took_of_a_model_stands_beside_its_result(
    told: dict[str, Any], expected: str
) -> None:
    values: dict[str, Any] = {**dict.fromkeys(NodeRecord._fields), "result_bytes": 4}
    details = {"prompt_tokens": 1_200, "completion_tokens": 34, **told}
    record = NodeRecord(**{**values, "details": details})
    assert _size(NodeDetails("a", "ai_agent", "a", "completed", record)) == expected
