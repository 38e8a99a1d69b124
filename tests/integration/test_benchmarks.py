"""The benchmarks run: at a size that is no measure of anything, but through all they do."""

import re
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from tests.integration.temporal_production import find_postgres, production_temporal
from tests.integration.temporal_server import require_temporal
from tests.integration.trino_server import TrinoServer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts" / "bench"
#: What each script prints at its end.
LAST_WORDS = {
    "../load-test": "pipelines / bare activities",
    "api": "reads over 300 ms",
    "dispatch": "jobs / bare children",
    "fan_out": "0 jobs lost",
    "growth": "what is full first",
    "latency": "servicetitan, nothing new",
    "ledger": "of the size without",
    "load": "changed / first",
    "plan": "MB more than",
    "pipeline": "identical reload",
    "pipeline_load": "pipeline / source",
    "pipeline_map": "0 goals of the map missed",
    "peers": "reload: ours / dlt's best",
    "questions": "bare DELETE of as many",
    "scale": "memory of the largest / of the smallest",
    "start": "starts over their goal",
}
_TIMEOUT_SECONDS = 240


def output_of(script: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, FOLDER / script, *words],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    # 1 is a missed goal, too: what is so small is not held to it.
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert LAST_WORDS[script] in done.stdout, done.stdout
    return done.stdout


def test_every_benchmark_is_run_here() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.is_file()} == {
        name for name in LAST_WORDS if "/" not in name
    }


def test_the_load_stage_is_measured() -> None:
    said = output_of("load", "--rows", "1000", "--page", "250", "--rounds", "1", "--divided")
    assert "round 1: limit" in said
    assert "changed: divided / undivided, CPU" in said
    assert "WAL of the reload" in said


def test_questions_are_measured() -> None:
    said = output_of("questions", "--rows", "20000", "--cost-rows", "0")
    assert "How many issues had which status on a day." in said


def test_the_ledger_of_a_year_is_weighed() -> None:
    said = output_of("ledger", "--days", "5", "--pages-keep-days", "1", "--jobs-keep-days", "2")
    assert said.count(", day 5: ") == 4
    # Each run of the days before is pruned, but for those whose reject stays.
    assert "in all 1,536 pages and 852 jobs" in said


def test_planning_is_measured() -> None:
    assert output_of("plan", "--jobs", "5", "10").count(" jobs/CPU s") == 2


def test_dispatch_is_measured_beside_bare_children() -> None:
    require_temporal()
    said = output_of("dispatch", "--jobs", "4", "--rounds", "1")
    assert "round 1: children" in said


def test_starting_is_measured() -> None:
    require_temporal()
    measured = ("etl --help", "etl status", "etl run", "(both)")
    said = output_of("start", "--rounds", "1", "--only", *measured)
    assert [line.partition("  ")[0] for line in said.splitlines()[:-1]] == [*measured]


def test_a_whole_run_is_measured() -> None:
    require_temporal()
    said = output_of("pipeline", "jira", "--size", "20", "--records-per-job", "10")
    assert "0 inserted, 0 updated" in said.partition("identical reload")[2]


@pytest.mark.slow
def test_runs_of_growing_size_are_measured() -> None:
    require_temporal()
    assert output_of("scale", "--events", "1000", "2000").count(" events from ") == 2


@pytest.mark.slow
def test_what_a_growing_platform_needs_is_worked_out_from_measured_costs() -> None:
    require_temporal()
    small = ("--issues", "8", "--page", "4", "--small-page", "1", "--small-job", "2")
    sizes = ("--events-a-day", "1000000", "--sources", "10", "100")
    said = output_of("growth", *small, "--idle-runs", "1", *sizes)
    assert said.count(" events a day: ") > said.count("1,000,000 events a day: ") == 2
    history = re.search(r"^history events +([\d,.e+]+) ", said, re.MULTILINE)
    assert history is not None, said
    assert float(history[1]) > 5, said  # a run has that many at least


@pytest.mark.slow
def test_ours_and_dlt_load_the_same_events_side_by_side() -> None:
    require_temporal()
    prepared = subprocess.run(
        [ROOT / "scripts/peers/prepare"], capture_output=True, text=True, timeout=200, check=False
    )
    if prepared.returncode != 0:
        pytest.skip(prepared.stderr.strip().splitlines()[-1])
    said = output_of("peers", "--size", "120", "--rounds", "1")
    assert "round 1: changed: ours" in said


_FEW_JOBS = ("--jobs", "5", "--idle-seconds", "0.1")


def test_a_run_of_many_tiny_jobs_is_measured() -> None:
    require_temporal()
    assert output_of("fan_out", *_FEW_JOBS).startswith("5 jobs, 5 rows")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_is_measured_on_the_production_server_of_temporal() -> None:
    if find_postgres() is None or shutil.which("go") is None:
        pytest.skip("no PostgreSQL with btree_gin, or no Go to build Temporal's server")
    production_temporal()
    said = output_of("fan_out", *_FEW_JOBS, "--production")
    assert "commits of Temporal: " in said


def test_the_use_of_the_allowed_concurrency_is_measured_for_each_source() -> None:
    said = output_of("latency", "--size", "20", "--latency-ms", "1")
    assert said.count(", first load") == said.count(", nothing new") == 4


def test_the_api_is_measured() -> None:
    require_temporal()
    few = ("--requests", "20", "--streams", "3", "--runs", "20", "--pages", "400", "--open", "2")
    said = output_of("api", "--size", "20", "--rate", "20", "--seconds", "1", "--held", "1", *few)
    assert " 0 errors;" in said
    assert "3 opened for" in said


def test_pipelines_are_measured_beside_bare_activities() -> None:
    require_temporal()
    said = output_of("../load-test", "--workflows", "4", "--concurrent", "2")
    assert "; 0 failures" in said


def test_a_load_of_a_pipeline_is_measured_beside_a_source() -> None:
    require_temporal()
    assert "round 1: source" in output_of("pipeline_load", "--rows", "50", "--rounds", "1")


def test_a_map_over_many_items_is_measured() -> None:
    require_temporal()
    said = output_of("pipeline_map", "--items", "120")
    assert "120 items, all: 120 tried, item 40 failed" in said
    assert "120 items, failed alone: 1 tried, item 40 failed" in said


@pytest.mark.slow
@pytest.mark.parametrize("source", ["launchpad", "salesforce", "servicetitan", "trino"])
def test_a_whole_run_of_every_source_is_measured(
    request: pytest.FixtureRequest, source: str
) -> None:
    require_temporal()
    if source == "trino":
        # Skips, where it cannot be had.
        server: TrinoServer = request.getfixturevalue("trino_server")
        assert server.port
    output_of("pipeline", source, "--size", "20")


@pytest.fixture
def load_stage(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TEMPORALETL_BENCH", "1")
    loader = SourceFileLoader("load_stage", str(FOLDER / "load"))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    loader.exec_module(module)
    return module


def test_what_others_write_is_not_taken_for_the_loaders(
    load_stage: ModuleType, postgres_url: str
) -> None:
    bench = load_stage.Bench(postgres_url, 1_000, 250)
    try:
        bench.empty()
        bench.load()
        before = bench.wal()
        if before is None:
            pytest.skip("no PostgreSQL 18: it does not count WAL by backend")
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SET search_path TO etl_bench")
            # What autovacuum does to ledger and catalogues, and more of it.
            other.execute(
                "CREATE TABLE noise AS SELECT repeat('x', 100) FROM generate_series(1,9999)"
            )
            other.execute("VACUUM FULL etl_jobs")
        assert bench.wal() - before < 10_000
        again = bench.load()[1]
        assert again.rows.unchanged == 1_000
        assert 0 < bench.wal() - before < load_stage.MOST_WAL
    finally:
        bench.close()
