"""The dbt package says what the row classes say."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from temporalio.api.enums.v1 import WorkflowExecutionStatus

from temporaletl.rows import TemporalWorkflow
from temporaletl.strategies import import_sources
from temporaletl.worker.loading.evolution import rows_of
from tests.documentation import ROOT

SOURCES = ("jira", "launchpad", "salesforce", "servicetitan", "temporal", "trino")


def files_of(folder: Path) -> dict[Path, str]:
    return {
        path.relative_to(folder): path.read_text("utf-8")
        for path in folder.rglob("*.*")
        if path.parent.name in {*SOURCES, "temporaletl"}
    }


def test_the_committed_models_are_what_the_row_classes_say(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "dbt_package.py"
    subprocess.run([sys.executable, script, tmp_path, *SOURCES], check=True)
    written = files_of(tmp_path)
    assert len(written) > len(SOURCES)
    assert files_of(ROOT / "dbt" / "models" / "staging") == written, "run scripts/docs"


@pytest.mark.parametrize("source", SOURCES)
def test_row_classes_know_values_and_references_of_columns_that_there_are(source: str) -> None:
    import_sources("temporaletl.worker.sources")
    tables = {row.table for row in rows_of(source)}
    for row in rows_of(source):
        columns = {field.name for field in msgspec.structs.fields(row)}
        assert {*row.known_values, *row.refers_to} <= columns, row
        assert {*row.refers_to.values()} <= tables, row


def test_the_known_statuses_of_executions_are_temporals() -> None:
    prefix = "WORKFLOW_EXECUTION_STATUS_"
    theirs = {name.removeprefix(prefix) for name, _ in WorkflowExecutionStatus.items()}
    known = {*TemporalWorkflow.known_values["status"]}
    assert known == (theirs - {"UNSPECIFIED"}) | {"DELETED"}
