"""Payload keys: users' data in no history and no result, and keys that change while all goes on."""

import asyncio
import os
import subprocess
import sys
import uuid
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    WorkflowFailureError,
)
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporaletl import names
from temporaletl.control.operations.payload_keys import list_keys, retire_key
from temporaletl.errors import ConfigurationError, ConflictError, ETLError
from temporaletl.messages import QueuerInput
from temporaletl.temporal import payload_keys
from temporaletl.temporal.connect import data_converter
from temporaletl.temporal.failures import first_cause
from temporaletl.temporal.payload_codec import EncryptingCodec, mark_of
from temporaletl.temporal.payload_keys import PayloadKeys, UndecryptablePayloadError, generate_key
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.payload_keys import enter_keys
from temporaletl.warehouse.pipeline_results import TRIGGER, read_result, write_result
from temporaletl.worker.pipelines.messages import Decision
from tests.integration.api.in_process import platform_of
from tests.integration.flows.services import running
from tests.integration.pipelines.conftest import Pipelines, definition, mapping
from tests.integration.pipelines.test_waiting import asking, waiting
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

CANARY = "canary-2b7c"
TABLES = ("pipeline_executions", "pipeline_nodes", "pipeline_results", "pipeline_items")
KEYS = {key_id: f"{key_id}:{generate_key()}" for key_id in ("k1", "k2")}

type Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Puts keys into the file of the settings; to be asked for before `encrypted`."""
    file = tmp_path / "payload-keys"

    def put(*ids: str) -> None:
        written = tmp_path / "written"
        written.write_text("\n".join(KEYS[key_id] for key_id in ids))
        written.replace(file)

    monkeypatch.setattr(payload_keys, "_LOOK_EVERY_SECONDS", 0)
    monkeypatch.setenv("ETL_PAYLOAD_KEYS_FILE", str(file))
    put("k1")
    return put


async def encrypting(server: TemporalServer) -> Client:
    return await Client.connect(
        server.address, namespace=server.client.namespace, data_converter=data_converter()
    )


@pytest_asyncio.fixture
async def encrypted(
    put: Put,  # noqa: ARG001 - before the warehouse is opened
    temporal_server: TemporalServer,
    warehouse: Warehouse,
) -> AsyncGenerator[Pipelines]:
    """Both services, whose key is k1."""
    server = await temporal_server.with_namespace()
    enter_keys(warehouse)
    async with running(await encrypting(server), warehouse) as both:
        yield Pipelines(both)


async def histories(server: TemporalServer, namespace: str) -> bytes:
    """All that Temporal has of the workflows of a namespace, as it is stored."""
    client = await Client.connect(server.address, namespace=namespace)
    found = b""
    async for each in client.list_workflows():
        handle = client.get_workflow_handle(each.id, run_id=each.run_id)
        found += (await handle.describe()).raw_description.SerializeToString()
        async for event in handle.fetch_history_events():
            found += event.SerializeToString()
    return found


def stored(warehouse: Warehouse) -> dict[str, str]:
    """The rows of pipelines' tables, as texts."""
    with warehouse.connection() as connection:
        return {
            table: str(connection.execute(f"SELECT to_jsonb(t) FROM {table} t".encode()).fetchall())
            for table in TABLES
        }


def keys_of(warehouse: Warehouse, table: str = "pipeline_results") -> set[str | None]:
    with warehouse.connection() as connection:
        rows = connection.execute(f"SELECT DISTINCT key_id FROM {table}".encode()).fetchall()
        return {None if key_id is None else str(key_id) for (key_id,) in rows}


async def test_what_users_put_in_is_nowhere_in_clear(
    encrypted: Pipelines, temporal_server: TemporalServer, caplog: pytest.LogCaptureFixture
) -> None:
    warehouse = encrypted.services.warehouse
    both = definition(
        {
            "made": mapping(who="trigger.who", many="[trigger.who, trigger.who]"),
            "each": (
                "map",
                {"over": "made.many", "type": mapping(a="1")[0], "data": mapping(a="item")[1]},
            ),
        },
        "made -> each",
    )
    summary = await encrypted.run(both, {"who": CANARY})
    assert summary.state == "completed", summary
    assert encrypted.result(summary, "each") == [{"a": CANARY}, {"a": CANARY}]
    assert CANARY not in caplog.text

    wrong = definition({"made": mapping(who=CANARY.replace("-", "_"))})
    with pytest.raises(WorkflowFailureError) as refused:
        await encrypted.run(wrong)
    assert CANARY.replace("-", "_") in str(first_cause(refused.value.cause))

    history = await histories(temporal_server, encrypted.services.client.namespace)
    assert b"Encoded failure" in history
    assert mark_of("k1") in history
    for clear in (CANARY, CANARY.replace("-", "_")):
        assert clear.encode() not in history
        assert not [table for table, rows in stored(warehouse).items() if clear in rows]
    assert keys_of(warehouse) == keys_of(warehouse, "pipeline_items") == {"k1"}
    with warehouse.connection() as connection:
        for (body,) in connection.execute("SELECT body FROM pipeline_results").fetchall():
            with pytest.raises(zlib.error):
                zlib.decompress(bytes(body))  # type: ignore[call-overload]


async def test_a_run_goes_on_while_its_key_is_replaced_and_the_old_one_is_retired(
    encrypted: Pipelines, put: Put, postgres_url: str
) -> None:
    services = encrypted.services
    warehouse, client = services.warehouse, services.client
    handle = await encrypted.start(asking(), {"n": 7})
    await waiting(warehouse, handle)
    request = QueuerInput(source="numbers", params={"text": CANARY})
    schedule = await client.create_schedule(
        f"{names.SCHEDULE_PREFIX}numbers",
        Schedule(
            ScheduleActionStartWorkflow(
                names.QUEUER_FLOW, request, id="numbers", task_queue="nobody's"
            ),
            ScheduleSpec(),
        ),
    )
    put("k2", "k1")
    async with platform_of(services, postgres_url) as platform:
        await platform.client()
        assert [one.key_id for one in (await list_keys(platform)).in_use] == ["k1", "k2"]

        async def is_listed() -> bool:
            return (await client.count_workflows(f"WorkflowId = '{handle.id}'")).count == 1

        await until(is_listed)
        with pytest.raises(ConflictError, match=f"1 open workflows need.*'k1' .{handle.id}"):
            await retire_key(platform, "k1")
        with pytest.raises(ConflictError, match="the one that encrypts here"):
            await retire_key(platform, "k2")
        await handle.signal(names.DECIDE, Decision(node="ask", outcome="approved"))
        summary = await handle.result()
        assert summary.state == "completed"
        assert keys_of(warehouse) == {"k1", "k2"}

        async def is_ended() -> bool:
            query = f"WorkflowId = '{handle.id}' AND ExecutionStatus = 'Completed'"
            return (await client.count_workflows(query)).count == 1

        await until(is_ended)
        put("k2")
        with pytest.raises(ConfigurationError, match=r"'k1' encrypted.*is not in .*etl key retire"):
            enter_keys(warehouse)
        with pytest.raises(ConfigurationError, match="--force gives that up"):
            await retire_key(platform, "k1")
        put("k2", "k1")
        retired = await retire_key(platform, "k1")
        # The schedule was done before: it must start no more workflows that need the key.
        assert (retired.results > 0, retired.schedules) == (True, 0)
        assert [one.key_id for one in (await list_keys(platform)).in_use] == ["k2"]
    put("k2")
    enter_keys(warehouse)
    assert keys_of(warehouse) == {"k2"}
    assert encrypted.result(summary, TRIGGER) == {"n": 7}
    found = await schedule.describe()
    assert mark_of("k1") not in found.raw_description.SerializeToString()
    assert isinstance(found.schedule.action, ScheduleActionStartWorkflow)
    assert await client.data_converter.decode(found.schedule.action.args, [QueuerInput]) == [
        request
    ]


def test_a_key_that_encrypted_for_a_moment_is_in_use_also_where_it_is_here_no_more(
    put: Put, warehouse: Warehouse
) -> None:
    warehouse.payload_keys.seal(b"text", "payload")
    put("k2")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'k1' encrypted.*is not in"):
            enter_keys(warehouse)
        assert keys_of(warehouse, "etl_payload_keys") == {"k1"}
    put("k2", "k1")
    enter_keys(warehouse)
    assert keys_of(warehouse, "etl_payload_keys") == {"k1", "k2"}
    assert not warehouse.payload_keys.unentered


async def test_a_key_that_nobody_could_enter_is_needed_while_an_open_workflow_has_its_payloads(
    encrypted: Pipelines, put: Put, postgres_url: str
) -> None:
    services = encrypted.services
    handle = await encrypted.start(asking(), {"n": 7})
    await waiting(services.warehouse, handle)
    put("k2", "k1")
    enter_keys(services.warehouse)
    services.rows_changed("DELETE FROM etl_payload_keys WHERE key_id = 'k1'")

    async def is_refused() -> bool:
        async with platform_of(services, postgres_url) as platform:
            with pytest.raises(ETLError, match="'k1'") as refused:
                await retire_key(platform, "k1")
            # Lists of workflows are behind.
            return isinstance(refused.value, ConflictError)

    await until(is_refused)


async def test_another_key_of_the_same_id_is_refused(
    encrypted: Pipelines, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KEYS, "k1", f"k1:{generate_key()}")
    put("k1")
    with pytest.raises(ConfigurationError, match="another key than the one that encrypted"):
        enter_keys(encrypted.services.warehouse)


def test_results_from_before_there_were_keys_are_read_and_nothing_is_encrypted_without(
    put: Put, postgres_url: str, warehouse: Warehouse
) -> None:
    del put, postgres_url
    with warehouse.connection() as connection:
        connection.execute(
            "INSERT INTO pipeline_executions (execution_id, sha256, document, started_how) "
            "VALUES ('e', '', '{}', 'api')"
        )
        keys = connection.payload_keys
        connection.payload_keys = PayloadKeys()
        write_result(connection, "e", "old", [1])
        connection.payload_keys = keys
        write_result(connection, "e", "new", [2])
        found = connection.execute(
            "SELECT node, key_id FROM pipeline_results ORDER BY node DESC"
        ).fetchall()
    assert found == [("old", None), ("new", "k1")]
    assert [read_result(warehouse, "e", node) for node in ("old", "new")] == [1, 2]
    with warehouse.connection() as connection:
        connection.execute("UPDATE pipeline_results SET body = body || '\\x00'::bytea")
    with pytest.raises(UndecryptablePayloadError, match="it was changed"):
        read_result(warehouse, "e", "new")


@pytest.mark.parametrize("service", ["queuer", "worker"])
def test_a_service_without_the_key_does_not_start(
    service: str, put: Put, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> None:
    del put
    enter_keys(warehouse)
    environment = {name: value for name, value in os.environ.items() if "PAYLOAD" not in name}
    environment |= {"DATABASE_URL": postgres_url, "WPE_DB_SCHEMA": warehouse.schema}
    done = subprocess.run(
        [sys.executable, "-m", f"temporaletl.{service}"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert "payload key 'k1' encrypted payloads and results" in done.stderr
    assert "ETL_PAYLOAD_KEYS is not set: add it" in done.stderr


class Spoiling(EncryptingCodec):
    """Changes a byte of every payload of which the text is CANARY."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        sealed = await super().encode(payloads)
        for plain, one in zip(payloads, sealed, strict=True):
            if CANARY.encode() in plain.data:
                one.data = one.data[:-1] + bytes([one.data[-1] ^ 1])
        return sealed


@activity.defn
async def takes(text: str) -> str:
    return text


@workflow.defn
class Spoiled:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            takes,
            CANARY,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)),
        )


async def test_an_activity_whose_input_was_changed_fails_at_once(
    put: Put, temporal_server: TemporalServer
) -> None:
    del put
    keys = payload_keys.payload_keys()
    client = await Client.connect(
        temporal_server.address,
        namespace=temporal_server.client.namespace,
        data_converter=replace(data_converter(), payload_codec=Spoiling(keys)),
    )
    queue = uuid.uuid4().hex
    async with Worker(
        client,
        task_queue=queue,
        workflows=[Spoiled],
        activities=[takes],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        with pytest.raises(WorkflowFailureError) as failed:
            await asyncio.wait_for(
                client.execute_workflow(Spoiled.run, id=queue, task_queue=queue), 30
            )
    error: BaseException | None = failed.value
    told = []
    while error is not None:
        told.append(str(error))
        error = getattr(error, "cause", None)
    assert any("cannot be decrypted with payload key 'k1': it was changed" in text for text in told)
