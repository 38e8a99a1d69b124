"""Notifications in the warehouse: once for each event and destination, whoever sends and dies."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl.messages import BatchSummary, JobFailure
from temporaletl.notifications import delivery
from temporaletl.notifications.delivery import MOST_ATTEMPTS, Notifier
from temporaletl.notifications.events import Event
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.notifications import (
    Notification,
    claim,
    claim_in,
    failing_destinations,
    read_notifications,
)
from tests.integration.warehouse.batches import begin, finish, make_metadata, rows
from tests.webhooks import Webhooks, running_webhooks


@pytest.fixture(scope="module")
def server() -> Iterator[Webhooks]:
    with running_webhooks() as opened:
        yield opened


@pytest.fixture
def webhooks(server: Webhooks) -> Webhooks:
    server.posts.clear()
    server.answers.clear()
    return server


def make_notifier(warehouse: Warehouse, *urls: str, **given: Any) -> Notifier:
    settings = NotificationSettings.model_validate({"notify_urls": ",".join(urls), **given})
    return Notifier(warehouse, settings)


def ended(
    warehouse: Warehouse, batch: str = "shop-1", *, error: str | None = None, notify: bool = True
) -> BatchSummary:
    metadata = make_metadata(batch).model_copy(update={"notify": notify})
    begin(warehouse, metadata)
    return finish(warehouse, metadata, error=error)


def let_time_pass(warehouse: Warehouse) -> None:
    """Have every attempt and every claim be due now."""
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_notifications SET next_attempt_at = clock_timestamp() "
            "WHERE state IN ('pending', 'sending')"
        )


def listed(warehouse: Warehouse) -> list[Notification]:
    return read_notifications(warehouse, limit=100).notifications[::-1]


def test_what_is_sent_now_nobody_else_can_claim(
    warehouse: Warehouse, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    notifier = make_notifier(warehouse, webhooks.url("/200/now"))
    [destination] = notifier.destinations
    others: list[Notification | None] = []
    claimed_by_us = claim_in

    def claimed_meanwhile(*args: Any, **kwargs: Any) -> Notification | None:
        others.append(claim(warehouse, destination.name, within=timedelta(minutes=1)))
        return claimed_by_us(*args, **kwargs)

    monkeypatch.setattr(delivery, "claim_in", claimed_meanwhile)
    event = Event(key="test:1", kind="test", source="", at=datetime.now(UTC), text="a test")
    sent = notifier.send_now(destination, event)
    assert (others, sent is not None and sent.event_key) == ([None], "test:1")


def paths(webhooks: Webhooks) -> list[str]:
    return [post.path for post in webhooks.posts]


def test_an_end_is_sent_once_to_each_destination_however_often_it_is_announced(
    warehouse: Warehouse, webhooks: Webhooks
) -> None:
    summary = ended(warehouse)
    urls = [webhooks.url("/200/a"), webhooks.url("/200/b")]
    barrier = threading.Barrier(4)

    def announce() -> None:
        barrier.wait()
        make_notifier(warehouse, *urls).announce_end(summary)

    threads = [threading.Thread(target=announce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    make_notifier(warehouse, *urls).deliver()
    assert sorted(paths(webhooks)) == ["/200/a", "/200/b"]
    assert [(one.destination, one.state, one.attempts) for one in listed(warehouse)] == [
        ("NOTIFY_URLS.1", "sent", 1),
        ("NOTIFY_URLS.2", "sent", 1),
    ]


def test_a_destination_that_fails_is_tried_again_and_no_other_one(
    warehouse: Warehouse, webhooks: Webhooks
) -> None:
    webhooks.answers["/200/bad"] = [500, 503]
    notifier = make_notifier(warehouse, webhooks.url("/200/bad"), webhooks.url("/200/good"))
    notifier.announce_end(ended(warehouse))
    notifier.deliver()
    assert sorted(paths(webhooks)) == ["/200/bad", "/200/good"]
    [failing] = failing_destinations(warehouse)
    assert (failing.destination, failing.error) == ("NOTIFY_URLS.1", "answered 500")
    for _ in range(2):
        let_time_pass(warehouse)
        notifier.deliver()
    assert sorted(paths(webhooks)) == ["/200/bad"] * 3 + ["/200/good"]
    assert [(one.state, one.attempts, one.error) for one in listed(warehouse)] == [
        ("sent", 3, None),
        ("sent", 1, None),
    ]
    assert failing_destinations(warehouse) == []


@pytest.mark.parametrize(("path", "attempts"), [("/404/x", 1), ("/500/x", MOST_ATTEMPTS)])
def test_what_is_refused_is_given_up_at_once_and_what_fails_in_the_end(
    warehouse: Warehouse, webhooks: Webhooks, path: str, attempts: int
) -> None:
    notifier = make_notifier(warehouse, webhooks.url(path))
    notifier.announce_end(ended(warehouse))
    for _ in range(MOST_ATTEMPTS + 1):
        let_time_pass(warehouse)
        notifier.deliver()
    assert len(webhooks.posts) == attempts
    [one] = listed(warehouse)
    assert (one.state, one.attempts, one.error) == ("failed", attempts, f"answered {path[1:4]}")
    assert [found.destination for found in failing_destinations(warehouse)] == ["NOTIFY_URLS.1"]


#: Delivers what is due, and is killed once it has sent it, before it can say so.
_KILLED = """
import os, signal, sys
from temporaletl.notifications import delivery
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
delivery.mark_sent = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with Warehouse(WarehouseSettings.load()) as warehouse:
    delivery.Notifier(warehouse, NotificationSettings.load()).deliver()
"""


def test_what_a_process_sent_before_it_died_is_sent_at_most_once_again_and_says_so(
    warehouse: Warehouse, webhooks: Webhooks, postgres_url: str
) -> None:
    url = webhooks.url("/200/a")
    notifier = make_notifier(warehouse, url)
    notifier.register()
    ended(warehouse)
    settings = {
        "DATABASE_URL": postgres_url,
        "WPE_DB_SCHEMA": warehouse.schema,
        "NOTIFY_URLS": url,
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED], env=settings, capture_output=True, check=False, timeout=60
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    notifier.deliver()
    assert len(webhooks.posts) == 1  # who has claimed it may live still
    let_time_pass(warehouse)
    notifier.deliver()
    first, again = webhooks.posts
    assert again.headers["webhook-id"] == first.headers["webhook-id"] == "finished:shop-1"
    assert again.body["text"] == (
        f"{first.body['text']} (sent once again: whether it arrived before is not known)"
    )
    [one] = listed(warehouse)
    assert (one.state, one.repeated, one.attempts) == ("sent", True, 2)


def test_what_two_processes_died_over_is_not_sent_a_third_time(
    warehouse: Warehouse, webhooks: Webhooks
) -> None:
    notifier = make_notifier(warehouse, webhooks.url("/500/a"))
    notifier.announce_end(ended(warehouse))
    for expected in (False, True):
        let_time_pass(warehouse)
        claimed = claim(warehouse, "NOTIFY_URLS.1", within=timedelta(0))
        assert claimed is not None
        assert claimed.repeated is expected
    let_time_pass(warehouse)
    notifier.deliver()
    assert len(webhooks.posts) == 1
    [one] = listed(warehouse)
    assert one.state == "failed"
    assert one.error == "two processes ended while they sent it: it may have arrived"


def test_an_end_that_nobody_announced_is_found_and_none_from_before_there_was_a_destination(
    warehouse: Warehouse, webhooks: Webhooks
) -> None:
    ended(warehouse, "shop-before")
    notifier = make_notifier(warehouse, webhooks.url("/200/a"))
    notifier.register()
    ended(warehouse, "shop-1")
    ended(warehouse, "shop-2", error="no credentials")
    ended(warehouse, "shop-silent", notify=False)
    for _ in range(2):
        notifier.deliver()
    assert [post.body["id"] for post in webhooks.posts] == ["finished:shop-1", "failed:shop-2"]
    with warehouse.connection() as connection:  # then it was taken away for two days
        connection.execute(
            "UPDATE etl_notification_destinations SET seen_at = seen_at - interval '2 days'"
        )
    ended(warehouse, "shop-3")
    notifier.register()
    notifier.deliver()
    assert len(webhooks.posts) == 2


def test_only_the_events_that_are_wanted_are_sent(warehouse: Warehouse, webhooks: Webhooks) -> None:
    notifier = make_notifier(warehouse, webhooks.url("/200/a"), notify_on="failed,late")
    notifier.register()
    notifier.announce_end(ended(warehouse, "shop-1"))
    notifier.announce_end(ended(warehouse, "shop-2", error="no credentials"))
    notifier.deliver()
    assert [post.body["id"] for post in webhooks.posts] == ["failed:shop-2"]


def test_one_that_hangs_holds_up_no_other(warehouse: Warehouse, webhooks: Webhooks) -> None:
    notifier = make_notifier(warehouse, webhooks.url("/hang/a"), webhooks.url("/200/b"))
    summary = ended(warehouse)
    announcing = threading.Thread(target=notifier.announce_end, args=(summary,))
    announcing.start()
    waiting = threading.Event()
    for _ in range(200):
        if any(one.state == "sent" for one in listed(warehouse)) and len(webhooks.posts) == 2:
            break
        waiting.wait(0.05)
    assert announcing.is_alive()
    notifier.stop.set()
    announcing.join(timeout=120)
    assert not announcing.is_alive()
    # Called off, it is another process's to send; whether it arrived is not known.
    found = {one.destination: (one.state, one.repeated, one.error) for one in listed(warehouse)}
    assert found == {
        "NOTIFY_URLS.1": ("pending", True, None),
        "NOTIFY_URLS.2": ("sent", False, None),
    }


def test_no_address_is_in_the_table(warehouse: Warehouse, webhooks: Webhooks) -> None:
    notifier = make_notifier(
        warehouse,
        webhooks.url("/500/canary-a"),
        f"json://canary-b:canary-c@127.0.0.1:{webhooks.port}/500/canary-d",
        "nonsense://canary-e/canary-f",
        slack_webhook_url=webhooks.url("/404/canary-g"),
        webhook_secret="canary-h",
    )
    quoting = JobFailure(job="job", error=f"could not reach {webhooks.url('/500/canary-a')}")
    notifier.announce_end(ended(warehouse).model_copy(update={"failures": (quoting,)}))
    found = rows(warehouse, "SELECT to_jsonb(n)::text FROM etl_notifications AS n")
    assert len(found) == 4
    assert "canary" not in str(found)
    sent = [post.raw.decode() for post in webhooks.posts]
    assert len(sent) == 3
    assert "canary" not in str(sent)


def test_a_row_is_an_event_for_whoever_reads_it_later(
    warehouse: Warehouse, webhooks: Webhooks
) -> None:
    notifier = make_notifier(warehouse, webhooks.url("/200/a"))
    summary = ended(warehouse)
    notifier.announce_end(summary)
    [one] = listed(warehouse)
    event = Event.model_validate(one.event)
    assert (event.key, event.kind, event.source) == ("finished:shop-1", "finished", "shop")
    assert BatchSummary.model_validate(event.data["summary"]) == summary
    page = read_notifications(warehouse, limit=1)
    assert page.next is None
