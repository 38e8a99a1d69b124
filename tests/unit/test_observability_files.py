"""Documentation, alerts and dashboard speak of metrics that exist, and of all of them."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from temporaletl.telemetry.instruments import AnyInstrument, Histogram
from temporaletl.telemetry.metrics import registry
from tests.documentation import ROOT, code_in, sections, tables, text_of

DEPLOY = ROOT / "deploy"
PAGE = "observability.md"
INSTRUMENTS: Mapping[str, AnyInstrument] = {one.name: one for one in registry}
#: Parts of PromQL between braces and behind `by`; and what they are about.
_SELECTOR = re.compile(r"\b((?:etl|temporal)_[a-z_]+)(?:\{([^}]*)\})?")


def documented(heading: str) -> dict[str, list[list[str]]]:
    """The rows of the page's tables of that heading, by the name in their first cell."""
    return {
        code_in(row[0])[0]: [code_in(cell) for cell in row]
        for head, rows in tables(text_of(PAGE))
        if head[0] == heading
        for row in rows
    }


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the alerts and of the dashboard, with where it stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    board = json.loads((DEPLOY / "grafana" / "temporaletl.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]


def names_of(one: AnyInstrument) -> set[str]:
    ends = ("_bucket", "_sum", "_count") if isinstance(one, Histogram) else ("",)
    return {f"{one.name}{end}" for end in ends}


EXPOSED = {name: one for one in INSTRUMENTS.values() for name in names_of(one)}


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    assert {name: row[1] for name, row in documented("metric").items()} == {
        name: list(one.labels) for name, one in INSTRUMENTS.items()
    }


def test_every_alert_is_documented_with_its_severity_and_no_other() -> None:
    page = dict(re.findall(r"^\| `(\w+)` \| (page|warning) \|", text_of(PAGE), re.MULTILINE))
    assert page == {rule["alert"]: rule["labels"]["severity"] for rule in rules()}
    assert len(page) == 10


def test_every_alert_says_what_to_do_and_has_a_runbook_and_there_are_no_others() -> None:
    page = "https://github.com/canonical/temporaletl/blob/main/docs/runbooks.md"
    for rule in rules():
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url"}, rule["alert"]
        assert notes["runbook_url"] == f"{page}#{rule['alert'].lower()}"
    written = [heading for heading, _ in sections(text_of("runbooks.md"))]
    assert written == ["Runbooks", *(rule["alert"] for rule in rules())]


def test_files_of_the_deployment_name_pages_that_exist() -> None:
    files = [ROOT / "docker-compose.yml", *(one for one in DEPLOY.rglob("*") if one.is_file())]
    named = {
        (str(file.relative_to(ROOT)), page)
        for file in files
        for page in re.findall(r"\bdocs/[\w/-]+\.md", file.read_text("utf-8"))
    }
    assert len(named) > 2
    assert [one for one in named if not (ROOT / one[1]).is_file()] == []


@pytest.mark.parametrize(("where", "expression"), [*expressions()])
def test_every_expression_is_about_metrics_and_labels_that_exist(
    where: str, expression: str
) -> None:
    found = _SELECTOR.findall(expression)
    assert found, where
    for name, matchers in found:
        if name.startswith("temporal_"):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert base in documented("metric of the SDK"), (where, name)
            continue
        assert name in EXPOSED or "label_values" in expression, (where, name)
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert labels <= {*EXPOSED[name].labels, "instance"}, (where, name)


def test_the_dashboard_shows_every_metric() -> None:
    text = "\n".join(expression for _, expression in expressions())
    shown = {name for name, _ in _SELECTOR.findall(text)}
    missing = [name for name, one in INSTRUMENTS.items() if not shown & names_of(one)]
    assert missing == []


def test_every_metric_follows_the_conventions() -> None:
    for name, one in INSTRUMENTS.items():
        assert name.startswith("etl_")
        assert one.about.endswith("."), name
        assert name.endswith("_total") == (one.kind == "counter"), name
        if one.kind == "histogram":
            assert name.endswith("_duration_seconds"), name
        # Ids, addresses and texts would be as many series as there are runs.
        assert not {"batch_id", "job_id", "run_id", "workflow_id", "url", "message"} & {*one.labels}
