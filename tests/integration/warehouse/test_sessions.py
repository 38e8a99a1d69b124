"""Sessions end by themselves, and who waits for one knows for whom."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from temporaletl import Event
from temporaletl.errors import CredentialsError, WarehouseOverloadedError, WarehouseUnavailableError
from temporaletl.messages import RunPolicy
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse, translated
from temporaletl.warehouse.ledger import begin_job, end_job
from temporaletl.warehouse.sessions import Session
from temporaletl.worker.loading import Loader
from tests.integration.loading.jobs import Job, counts, fetch, make_event
from tests.integration.tcp_relay import TcpRelay
from tests.integration.warehouse.frozen import ENDED

LEASE = timedelta(seconds=1)


@contextmanager
def opened(url: str, like: Warehouse, **settings: Any) -> Iterator[Warehouse]:
    """Another process's view of the same schema."""
    asked = {"database_url": url, "schema_name": like.schema, **settings}
    with Warehouse(WarehouseSettings.model_validate(asked)) as other:
        yield other


def short_leased(job: Job) -> Job:
    job.input = job.input.model_copy(update={"policy": RunPolicy(heartbeat_timeout=LEASE)})
    job.lineage = replace(job.lineage, job=job.input)
    job.loader = Loader(job.warehouse, [Event], job.lineage)
    return job


@contextmanager
def frozen(job: Job, url: str, moment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that loads the job's page, and has stopped in the middle of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.warehouse.frozen", moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    given = {"url": url, "schema": job.warehouse.schema, "job": job.input.model_dump(mode="json")}
    process.stdin.write(json.dumps(given))
    process.stdin.close()
    process.stdin = None
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        yield process
    finally:
        process.kill()
        process.communicate(timeout=120)


@pytest.mark.parametrize("moment", ["between", "copying"])
def test_the_next_attempt_ends_the_session_of_one_that_is_frozen_and_goes_on(
    warehouse: Warehouse, postgres_url: str, moment: str
) -> None:
    job = short_leased(Job(warehouse))
    with frozen(job, postgres_url, moment) as process, capture_logs() as logs:
        begin_job(warehouse, job.input, workflow_id="wf", run_id="next")
        assert counts(job.load(*(make_event(n) for n in range(10)))) == (10, 0, 0, 0)
        process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == ENDED
    assert "terminating connection" in said
    [ended] = [each["ended"] for each in logs if each["event"] == "session_ended"]
    assert f"temporaletl {process.pid}@" in ended
    assert fetch(warehouse, "SELECT count(*) FROM events") == [{"count": 10}]


def test_a_session_that_says_nothing_in_a_transaction_is_ended_by_the_server(
    warehouse: Warehouse, postgres_url: str
) -> None:
    job = Job(warehouse)

    def fall_silent(session: Session) -> None:
        session.execute("SELECT FROM etl_jobs FOR UPDATE")
        # Its lease is not over yet: the row is free again by itself.
        assert end_job(warehouse, job.input, "completed").state == "completed"

    def speak_again(session: Session) -> None:
        with translated():
            session.execute("SELECT 1")

    with (
        opened(postgres_url, warehouse, idle_transaction_timeout_seconds=0.5) as other,
        other.connection() as session,
    ):
        fall_silent(session)
        with pytest.raises(WarehouseUnavailableError, match="idle-in-transaction timeout"):
            speak_again(session)


def test_a_lock_that_somebody_else_keeps_is_named_and_his_session_left_alone(
    warehouse: Warehouse, postgres_url: str
) -> None:
    job = short_leased(Job(warehouse))
    with (
        psycopg.connect(postgres_url, application_name="operators tool") as holder,
        opened(postgres_url, warehouse, lock_timeout_seconds=4) as other,
    ):
        holder.execute(
            sql.SQL("SELECT FROM {} FOR UPDATE").format(
                sql.Identifier(warehouse.schema, "etl_jobs")
            )
        )
        pid = holder.info.backend_pid
        with pytest.raises(WarehouseUnavailableError) as refused:
            begin_job(other, job.input, workflow_id="wf", run_id="run")
        assert f"operators tool of user postgres, server process {pid}, idle in trans" in str(
            refused.value
        )
        holder.execute("SELECT 1")


def test_a_session_of_the_platform_that_is_at_work_is_not_ended(
    warehouse: Warehouse, postgres_url: str
) -> None:
    job = short_leased(Job(warehouse))
    with (
        opened(postgres_url, warehouse, lock_timeout_seconds=4) as other,
        warehouse.connection() as holder,
    ):
        holder.execute("SELECT FROM etl_jobs FOR UPDATE")
        holder.pgconn.send_query(b"SELECT pg_sleep(30)")
        with pytest.raises(WarehouseUnavailableError, match=r"temporaletl .*, active for"):
            begin_job(other, job.input, workflow_id="wf", run_id="run")
        holder.cancel_safe()
        while holder.pgconn.get_result():
            pass


@pytest.mark.parametrize(
    ("admitting", "replaced"),
    [(True, False), (True, True), (False, False)],
    ids=["a connection", "a server that was replaced", "the network"],
)
def test_a_connection_that_nothing_passes_any_more_is_given_up_and_its_job_goes_on(
    warehouse: Warehouse, postgres_url: str, admitting: bool, replaced: bool
) -> None:
    job = short_leased(Job(warehouse))
    with (
        TcpRelay(postgres_url) as relay,
        opened(relay.url, warehouse, network_timeout_seconds=3) as cut_off,
        cut_off.connection() as connection,
    ):
        connection.execute("SELECT FROM etl_jobs FOR UPDATE")
        relay.freeze(admitting=admitting)
        assert counts(job.load(make_event())) == (1, 0, 0, 0)
        if replaced:
            assert connection.backend is not None
            connection.backend = replace(connection.backend, server="1")
        with pytest.raises(psycopg.OperationalError, match="no answer for"):
            connection.execute("SELECT 1")
        assert connection.closed


def test_a_statement_that_takes_too_long_is_ended_and_names_the_setting(
    warehouse: Warehouse, postgres_url: str
) -> None:
    with (
        opened(postgres_url, warehouse, statement_timeout_seconds=0.2) as short,
        pytest.raises(WarehouseOverloadedError, match="WPE_DB_STATEMENT_TIMEOUT_SECONDS"),
        short.connection() as connection,
    ):
        connection.execute("SELECT pg_sleep(20)")


def test_a_user_who_is_refused_is_no_outage(warehouse: Warehouse, postgres_url: str) -> None:
    as_nobody = make_conninfo(postgres_url, user="somebody who left")
    with (
        opened(as_nobody, warehouse, network_timeout_seconds=2) as refused,
        pytest.raises(CredentialsError, match="does not exist"),
        refused.connection(),
    ):
        pass


def test_nothing_outlives_a_transaction(warehouse: Warehouse, postgres_url: str) -> None:
    with opened(postgres_url, warehouse) as other:
        session = other._pool.getconn()
        try:
            ours = "SELECT name FROM pg_settings WHERE source = 'session'"
            before = session.execute(ours).fetchall()
            assert before == []
        finally:
            other._pool.putconn(session)
        with other.connection() as same:
            assert same is session
            assert same.execute("SELECT current_schema(), current_setting('timezone')").fetchone()
            assert same.execute(
                "SELECT current_setting('idle_in_transaction_session_timeout')"
            ).fetchone() == ("30s",)
        assert session.execute(ours).fetchall() == []


def test_a_connection_that_broke_while_it_was_idle_is_replaced_without_a_word(
    warehouse: Warehouse, postgres_url: str
) -> None:
    with opened(postgres_url, warehouse) as other:
        with other.connection() as connection:
            first = connection.backend
        assert first is not None
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", [first.pid])
        with other.connection() as connection:
            assert connection.backend != first
