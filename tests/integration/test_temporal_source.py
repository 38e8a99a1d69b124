"""The source `temporal` against a real server, with executions of every kind."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import RawValue

from temporaletl import ConfigurationError, Plan, SourceUnavailableError, Window
from temporaletl.external import temporal
from temporaletl.external.temporal import temporal_account
from temporaletl.messages import ETLInput
from temporaletl.queuer.sources.temporal.inputs import expand
from temporaletl.queuer.sources.temporal.params import describe
from temporaletl.rows import TemporalWorkflow
from tests.integration.job_reading import plan_of
from tests.integration.temporal_server import TemporalServer
from tests.integration.temporal_subjects import (
    FATES,
    SUBJECT_ATTRIBUTES,
    Subjects,
    make_job,
    pages_of,
    rows_of,
    source,
    until,
)

__all__ = ["source"]


def keys_of(rows: list[TemporalWorkflow]) -> list[str]:
    return sorted(row.run_id for row in rows)


async def closed_rows(subjects: Subjects) -> list[TemporalWorkflow]:
    job = make_job(subjects)
    return rows_of(job, *await pages_of(job))


async def test_every_execution_is_listed_once(subjects: Subjects) -> None:
    closed = make_job(subjects)
    running = make_job(subjects, running=True)
    pages = await pages_of(closed)
    rows = rows_of(closed, *pages) + rows_of(running, *await pages_of(running))
    assert max(len(page.records) for page in pages) == 3
    assert len(set(keys_of(rows))) == len(rows) == subjects.rows
    for fate, status in FATES.items():
        expected = {status, "COMPLETED"} if fate == "continue" else {status}
        found = [row for row in rows if row.workflow_id.startswith(f"{fate}-")]
        assert {row.status for row in found} == expected
        assert all((row.close_time is None) == (row.status == "RUNNING") for row in found)


async def test_memo_and_search_attributes_arrive_decoded(subjects: Subjects) -> None:
    for row in await closed_rows(subjects):
        # Servers from 1.30 on keep no entry that is null.
        assert row.memo | {"null": None} == {
            "json": {"ü": [1, None, "x"]},
            "bytes": {"encoding": "binary/plain", "data": "AP8="},
            "null": None,
        }
        assert {name: row.search_attributes[name] for name in SUBJECT_ATTRIBUTES} == (
            SUBJECT_ATTRIBUTES
        )
        assert row.workflow_type == "SubjectFlow"
        assert row.task_queue == "nobody" or row.task_queue.startswith("queue-")
        assert row.history_length >= 1
        assert row.namespace == subjects.namespace


async def test_extraction_goes_on_behind_any_page(subjects: Subjects) -> None:
    job = make_job(subjects)
    pages = await pages_of(job)
    for number, page in enumerate(pages, start=1):
        rest = await pages_of(job, page.cursor)
        assert keys_of(rows_of(job, *rest)) == keys_of(rows_of(job, *pages[number:]))


async def test_a_window_includes_its_start_and_excludes_its_end(subjects: Subjects) -> None:
    moment = timedelta(microseconds=1)
    for row in (await closed_rows(subjects))[::5]:
        assert row.close_time is not None
        for window, inside in (
            (Window(start=row.close_time, end=row.close_time + moment), True),
            (Window(start=row.close_time, end=row.close_time + timedelta(days=1)), True),
            (Window(start=row.close_time - moment, end=row.close_time), False),
            (Window(end=row.close_time), False),
            (Window(start=row.close_time + moment), False),
        ):
            job = make_job(subjects, window)
            found = keys_of(rows_of(job, *await pages_of(job)))
            assert (row.run_id in found) is inside, window


@pytest.mark.parametrize("token", [b"rubbish", b'{"CloseTime":"never"}'])
async def test_a_token_the_server_does_not_take_begins_the_window_anew(
    subjects: Subjects, token: bytes
) -> None:
    job = make_job(subjects)
    pages = await pages_of(job, {"token": base64.b64encode(token).decode(), "restarts": 0})
    assert len(keys_of(rows_of(job, *pages))) == subjects.closed


def make_plan(subjects: Subjects, end: datetime, **params: Any) -> Plan:
    names = [subjects.namespace]
    return plan_of("temporal", ["workflows"], end=end, namespaces=names, **params)


async def planned(plan: Plan) -> list[ETLInput]:
    return [job async for job in expand(plan, describe(plan))]


@pytest.mark.parametrize("most", [1, 10, 50_000])
async def test_planned_jobs_cover_everything_once(subjects: Subjects, most: int) -> None:
    end = datetime.now(UTC) + timedelta(seconds=1)
    jobs = await planned(make_plan(subjects, end, executions_per_job=most))
    rows = [row for job in jobs for row in rows_of(job, *await pages_of(job))]
    assert len(set(keys_of(rows))) == len(rows) == subjects.rows
    assert len(jobs) == 2 if most == 50_000 else len(jobs) > 2


async def both_closed(client: Client) -> bool | None:
    closed = await client.count_workflows("ExecutionStatus != 'Running'")
    return closed.count == 2 or None


async def test_a_memo_of_an_unknown_codec_is_loaded_as_bytes(
    temporal_server: TemporalServer,
) -> None:
    secret = RawValue(Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x01"))
    client = (await temporal_server.with_namespace()).client
    for name, memo in (("plain", {"note": "words"}), ("secret", {"note": secret})):
        handle = await client.start_workflow("SubjectFlow", id=name, task_queue="nobody", memo=memo)
        await handle.terminate()
    await until(lambda: both_closed(client), "two closed executions")
    job = make_job(Subjects(client.namespace, client, rows=2, closed=2))
    pages = await pages_of(job)
    assert {row.workflow_id: row.memo for row in rows_of(job, *pages)} == {
        "plain": {"note": "words"},
        "secret": {"note": {"encoding": "binary/encrypted", "data": "AQ=="}},
    }
    assert pages[-1].note is not None
    assert pages[-1].note.startswith("1 executions")


async def test_the_account_is_known_by_its_namespaces(
    subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", subjects.namespace)
    view = await asyncio.to_thread(temporal_account)
    answer = await subjects.client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=subjects.namespace)
    )
    id_ = answer.namespace_info.id
    assert view.containers == {id_}
    assert view.site == f"namespace:{subjects.namespace} {id_}"
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", "no-such-namespace")
    with pytest.raises(ConfigurationError, match="no-such-namespace"):
        await asyncio.to_thread(temporal_account)


async def test_an_unknown_namespace_is_named(subjects: Subjects) -> None:
    wrong = Subjects("no-such-namespace", subjects.client, rows=0, closed=0)
    with pytest.raises(ConfigurationError, match=r"no-such-namespace.*SOURCE_TEMPORAL_NAMESPACES"):
        await pages_of(make_job(wrong))
    with pytest.raises(ConfigurationError, match="no-such-namespace"):
        await planned(make_plan(wrong, datetime.now(UTC)))


async def test_a_source_that_does_not_answer_may_answer_later(
    subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(temporal, "_DELAYS", ())
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:1 \(SOURCE_TEMPORAL_ADDRESS\)"):
        await pages_of(make_job(subjects))
