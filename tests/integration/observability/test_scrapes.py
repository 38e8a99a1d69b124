"""What the processes of a platform expose and export while they load a source."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.telemetry.metrics import registry
from temporaletl.testing.postgres import empty_warehouse
from tests.documentation import ROOT, code_in, tables, text_of
from tests.integration.observability.collector import Collector, collecting
from tests.integration.observability.platform import SERVICES, families, observed, value
from tests.integration.temporal_server import TemporalServer

SECRET = "a-secret-of-the-collector"
OF = {"source": "numbers", "connection": "default"}


@dataclass(frozen=True)
class Seen:
    """What was scraped, exported and logged of a run of two jobs, which has ended."""

    scrapes: dict[str, str]
    collector: Collector
    log: list[dict[str, Any]]
    run: dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def seen(
    temporal_server: TemporalServer,
    postgres_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[Seen]:
    with empty_warehouse(postgres_url, max_connections=5) as warehouse, collecting() as collector:
        async with observed(
            temporal_server,
            warehouse,
            postgres_url,
            tmp_path_factory.mktemp("observed"),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
            OTEL_EXPORTER_OTLP_HEADERS=f"api-key={SECRET}",
        ) as platform:
            run = await platform.load(jobs=2, pages=3, size=10, bad_every=5)
            scrapes = {service: await platform.scrape(service) for service in SERVICES}
        lines = [line for line in platform.log.splitlines() if line.startswith("{")]
        yield Seen(scrapes, collector, [json.loads(line) for line in lines], run)


def test_a_load_is_measured_in_the_process_that_does_it(seen: Seen) -> None:
    worker, queuer, api = (seen.scrapes[name] for name in ("worker", "queuer", "api"))
    assert seen.run["rows"] == {"inserted": 48, "updated": 0, "unchanged": 0, "rejected": 12}
    assert value(worker, "etl_rows_total", outcome="inserted", stream="all", **OF) == 48
    assert value(worker, "etl_rejects_total", stage="transform", **OF) == 12
    assert value(worker, "etl_jobs_total", outcome="completed", **OF) == 2
    pages = value(worker, "etl_pages_total", **OF)
    assert 2 <= pages <= 6  # what came while another was loaded is one with it
    for stage in ("extract", "transform", "load"):
        assert value(worker, "etl_page_duration_seconds_count", stage=stage, **OF) == pages
    assert value(worker, "etl_loaded_bytes_total", **OF) > 0
    assert value(queuer, "etl_batches_total", mode="full", outcome="completed", **OF) == 1
    assert value(queuer, "etl_batch_duration_seconds_count", mode="full", **OF) == 1
    assert value(api, "etl_api_requests_total", route="/api/v1/sync/full", status="202") == 1


def test_the_api_tells_of_the_whole_platform(seen: Seen) -> None:
    api = seen.scrapes["api"]
    assert value(api, "etl_warehouse_up") == 1
    assert value(api, "etl_rejects_kept", stream="all", **OF) == 12
    assert value(api, "etl_watermark_timestamp_seconds", **OF) > 1.7e9
    assert value(api, "etl_last_success_timestamp_seconds", **OF) > 1.7e9
    assert value(api, "etl_table_bytes", table="events") > 0
    assert {"etl_stream_late", "etl_oldest_waiting_seconds", "etl_table_rows"} <= {*families(api)}


def test_the_metrics_of_temporals_sdk_are_passed_on_as_documented(seen: Seen) -> None:
    found = families(seen.scrapes["worker"]) | families(seen.scrapes["queuer"])
    documented = {
        code_in(row[0])[0]
        for head, rows in tables(text_of("observability.md"))
        if head[0] == "metric of the SDK"
        for row in rows
    }
    assert documented - {*found} == {"temporal_workflow_task_execution_failed_total"}
    assert value(seen.scrapes["worker"], "temporal_num_pollers", service="worker") > 0


def test_own_metrics_are_declared_and_have_their_labels(seen: Seen) -> None:
    declared = {one.name: one for one in registry}
    own = [one for text in seen.scrapes.values() for one in families(text).items()]
    checked = 0
    for name, family in own:
        if name.startswith("etl_"):
            labels = {*declared[name].labels}
            assert all({*one.labels} - {"le"} == labels for one in family.samples), name
            checked += 1
    assert checked > 20


def test_prometheus_finds_nothing_wrong_with_a_scrape(seen: Seen) -> None:
    for text in seen.scrapes.values():
        run = promtool("check", "metrics", text=text)
        assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_one_trace_goes_from_the_request_to_the_page(seen: Seen) -> None:
    [request] = [
        span
        for span in seen.collector.named("request")
        if any(one.value.string_value == "/api/v1/sync/full" for one in span.attributes)
    ]
    trace = [(of, span) for of, span in seen.collector.spans if span.trace_id == request.trace_id]
    assert {of for of, _ in trace} == {f"temporaletl-{service}" for service in SERVICES}
    names = {span.name for _, span in trace}
    assert {"RunWorkflow:QueuerFlow", "RunWorkflow:ETLFlow", "RunActivity:run_segment"} <= names
    by_id = {span.span_id: span for _, span in trace}
    for _, page in (one for one in trace if one[1].name == "load page"):
        assert by_id[page.parent_span_id].name == "RunActivity:run_segment"
    assert sum(span.name == "load page" for _, span in trace) >= 2


def test_the_same_metrics_are_exported(seen: Seen) -> None:
    assert {
        ("temporaletl-worker", "etl.rows"),
        ("temporaletl-queuer", "etl.batches"),
        ("temporaletl-api", "etl.watermark.timestamp"),
    } <= seen.collector.metrics
    assert seen.collector.keys == {SECRET}


def test_logs_name_the_trace_beside_the_run_and_hold_no_key(seen: Seen) -> None:
    loaded = [line for line in seen.log if line["event"] == "page_loaded"]
    traces = {span.trace_id.hex() for _, span in seen.collector.spans}
    assert loaded
    for line in loaded:
        assert line["trace_id"] in traces
        assert re.fullmatch(r"[0-9a-f]{16}", line["span_id"])
        assert line["batch_id"] == seen.run["batch_id"]
        assert {"job_id", "connection", "source", "workflow_id"} <= line.keys()
    exposed = "\n".join((*seen.scrapes.values(), json.dumps(seen.log)))
    assert SECRET not in exposed


async def test_the_rules_are_what_prometheus_takes_and_each_alert_is_raised() -> None:
    rules = ROOT / "deploy" / "prometheus"
    for arguments in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        run = await asyncio.to_thread(promtool, *arguments, folder=rules)
        assert run.returncode == 0, run.stdout + run.stderr
    raised = set(re.findall(r'alertname="(\w+)"', (rules / "alerts_test.yaml").read_text()))
    assert raised == set(re.findall(r"alert: (\w+)", (rules / "alerts.yaml").read_text()))


def test_prometheus_parses_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    board = json.loads((ROOT / "deploy" / "grafana" / "temporaletl.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(found)
    ]
    assert len(rules) > 30
    file = tmp_path / "dashboard.json"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run = promtool("check", "rules", str(file))
    assert run.returncode == 0, run.stdout + run.stderr


def promtool(
    *arguments: str, text: str = "", folder: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    command = shutil.which("promtool")
    if command is None:
        pytest.skip("no Prometheus: no `promtool` command on PATH")
    return subprocess.run(
        [command, *arguments],
        input=text,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
