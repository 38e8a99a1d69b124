"""Texts of notifications, their settings, and each kind of destination over real HTTP."""

import base64
import hashlib
import hmac
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apprise.plugins.slack import NotifySlack

from temporaletl.errors import ConfigurationError, SettingsError
from temporaletl.messages import BatchSummary, JobCounts, JobFailure, RowCounts
from temporaletl.notifications import posting, services
from temporaletl.notifications.delivery import MOST_ATTEMPTS, _pause
from temporaletl.notifications.destinations import (
    Destination,
    check_destinations,
    destinations_of,
)
from temporaletl.notifications.events import Event, end_of, neutral, sentence
from temporaletl.notifications.posting import DeliveryError, DeliveryRefusedError
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.secrets import redacted, remember_secret
from tests.webhooks import Webhooks, running_webhooks

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
SUMMARY = BatchSummary(
    batch_id="shop-full-1",
    workflow_id="etl-shop-1",
    source="shop",
    mode="full",
    state="failed",
    seconds=12.3,
    jobs=JobCounts(planned=3, completed=2, failed=1),
    rows=RowCounts(inserted=4, updated=3, unchanged=2, rejected=1),
    failures=(JobFailure(job="shop-orders-full-1", error="no such table"),),
)
HOSTILE = "a <!channel> @everyone <@U1> [x](http://e) **b** `c` ~d~ _e_ <b>f</b> &amp; g\nh \x1b[2J"


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with running_webhooks() as opened:
        yield opened


def settings(**given: str) -> NotificationSettings:
    return NotificationSettings.model_validate(given)


def sole(**given: str) -> Destination:
    [found] = destinations_of(settings(**given))
    return found


def send(destination: Destination, summary: BatchSummary = SUMMARY) -> None:
    destination.send(end_of(summary, NOON), threading.Event())


def test_the_sentence_says_what_came_of_the_batch_and_where_to_look() -> None:
    assert sentence(SUMMARY) == (
        "shop full failed in 12 s: 2 of 3 jobs, 4 rows inserted, 3 updated, 2 unchanged, "
        "1 rejected; 1 failed, first shop-orders-full-1: no such table (etl-shop-1)"
    )
    unplanned = SUMMARY.model_copy(update={"failures": (), "error": "no credentials"})
    assert sentence(unplanned).endswith("1 rejected; no credentials (etl-shop-1)")
    linked = end_of(SUMMARY, NOON, web_address="https://etl.example.com")
    assert linked.text.endswith("(etl-shop-1) https://etl.example.com/runs/etl-shop-1")


def test_a_text_from_outside_is_shown_and_does_nothing() -> None:
    remember_secret("s3cretcanary")
    shown = neutral(f"{HOSTILE} s3cretcanary")
    assert not set("<>@&*`~[]\n\x1b") & set(shown)
    assert "_e_" not in shown
    assert "s3cretcanary" not in shown
    assert "channel" in shown
    assert r"x1b" in shown
    plain = "HTTP 503 of jira_cloud: job/jira-issues-full-01 (see 3/4), up to 100 %"
    assert neutral(plain) == plain
    assert len(neutral("x" * 10_000)) == 500


def test_slack_gets_the_sentence_and_webhooks_the_whole_summary(webhooks: Webhooks) -> None:
    found = destinations_of(
        settings(
            slack_webhook_url=webhooks.url("/200/slack"),
            notify_urls=f"{webhooks.url('/200/a,b')}, {webhooks.url('/204/b')},",
        )
    )
    assert [one.name for one in found] == ["SLACK_WEBHOOK_URL", "NOTIFY_URLS.1", "NOTIFY_URLS.2"]
    for one in found:
        send(one)
    slack, *others = webhooks.posts
    assert slack.body == {"text": sentence(SUMMARY)}
    assert [post.path for post in others] == ["/200/a,b", "/204/b"]
    for post in others:
        assert post.body["text"] == sentence(SUMMARY)
        assert post.body["type"] == "run.failed"
        assert BatchSummary.model_validate(post.body["summary"]) == SUMMARY
        assert post.headers["webhook-id"] == post.body["id"] == "failed:shop-full-1"
        assert abs(int(post.headers["webhook-timestamp"]) - time.time()) < 60
        assert "webhook-signature" not in post.headers


@pytest.mark.parametrize(
    ("secret", "key"),
    [("plain words", b"plain words"), ("whsec_" + base64.b64encode(b"k" * 24).decode(), b"k" * 24)],
)
def test_a_webhook_is_signed_as_standard_webhooks_have_it(
    webhooks: Webhooks, secret: str, key: bytes
) -> None:
    send(sole(notify_urls=webhooks.url("/200/signed"), webhook_secret=secret))
    [post] = webhooks.posts
    signed = f"{post.headers['webhook-id']}.{post.headers['webhook-timestamp']}.".encode()
    digest = hmac.new(key, signed + post.raw, hashlib.sha256).digest()
    assert post.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("/404/s3cretpath", DeliveryRefusedError, "answered 404"),
        ("/307/s3cretpath", DeliveryRefusedError, "answered 307: redirects are not followed"),
        ("/302/nowhere", DeliveryRefusedError, "answered 302: redirects are not followed"),
        ("/500/s3cretpath", DeliveryError, "answered 500"),
        ("/429/s3cretpath", DeliveryError, "answered 429"),
        ("/hang/s3cretpath", DeliveryError, "did not answer: timed out"),
        ("/drip/s3cretpath", DeliveryError, "did not answer: timed out"),
    ],
)
def test_what_a_webhook_does_not_take_is_told_without_its_address(
    webhooks: Webhooks,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(posting, "WITHIN", timedelta(seconds=0.5))
    with pytest.raises(error) as refused:
        send(sole(slack_webhook_url=webhooks.url(path)))
    assert str(refused.value) == message
    assert refused.value.__cause__ is None
    assert [post.path for post in webhooks.posts] == [path]


def test_a_deaf_webhook_is_told_without_its_address() -> None:
    with running_webhooks() as closed:
        address = closed.url("/200/s3cretpath")
    with pytest.raises(DeliveryError, match=r"^did not answer: ConnectionError$"):
        send(sole(notify_urls=address))


def test_another_scheme_is_delivered_by_apprise_as_plain_text(webhooks: Webhooks) -> None:
    failed = SUMMARY.model_copy(update={"error": HOSTILE})
    send(sole(notify_urls=f"json://127.0.0.1:{webhooks.port}/200/x"), failed)
    [post] = webhooks.posts
    assert post.body["title"] == "TemporalETL: run.failed"
    assert post.body["message"] == sentence(failed)
    assert "github" not in post.raw.decode().lower()


def test_nothing_that_a_source_says_addresses_a_channel_through_apprise(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotifySlack, "webhook_url", webhooks.url("/200"))
    failed = SUMMARY.model_copy(update={"error": HOSTILE})
    send(sole(notify_urls=f"slack://{'T' * 9}/{'B' * 9}/{'c' * 24}"), failed)
    [post] = webhooks.posts
    text = json.dumps(post.body, ensure_ascii=False)
    assert "channel" in text
    assert not {"<!", "<@", "@everyone", "](", "**"} & {
        mark for mark in ("<!", "<@", "@everyone", "](", "**") if mark in text
    }
    assert "github" not in text.lower()


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ("nonsense://s3cretplace/s3cretpath", "is no address that Apprise knows"),
        ("json://127.0.0.1:{port}/404/s3cretpath", "was not reached, or refused it"),
        ("json://127.0.0.1:{port}/302/s3cretpath", "was not reached, or refused it"),
        ("json://hooks.example.com/s3cretpath", "wants the encrypted form of its scheme"),
    ],
)
def test_what_apprise_does_not_deliver_is_told_without_its_address(
    webhooks: Webhooks, address: str, error: str
) -> None:
    with pytest.raises((DeliveryError, DeliveryRefusedError), match=error) as refused:
        send(sole(notify_urls=address.format(port=webhooks.port)))
    assert "s3cret" not in str(refused.value)
    assert "/200/elsewhere" not in [post.path for post in webhooks.posts]


def test_a_service_of_apprise_that_drips_is_waited_for_so_long_and_no_longer(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "WITHIN", timedelta(seconds=1))
    with pytest.raises(DeliveryError, match=r"^did not answer within 1 s$"):
        send(sole(notify_urls=f"json://127.0.0.1:{webhooks.port}/drip/x"))


ADDRESSES = (
    "http://127.0.0.1:{port}/404/canary-webhook",
    "json://canary-user:canary-pass@127.0.0.1:{port}/500/canary-json?+x=canary-head",
    "slack://T1CANARY9/B1CANARY9/canarycanarycanarycanary",
    "nonsense://canary-token/canary-place",
)


def test_no_part_of_an_address_is_in_a_log_even_at_debug(
    webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotifySlack, "webhook_url", webhooks.url("/500"))
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        given = ",".join(ADDRESSES).format(port=webhooks.port)
        for one in destinations_of(settings(notify_urls=given)):
            with pytest.raises((DeliveryError, DeliveryRefusedError)) as refused:
                send(one)
            written.write(f"{refused.value} {one!r}")
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert len(webhooks.posts) >= 3
    assert "canary" not in written.getvalue().lower()
    # What a library might log yet is taken out by our own logs.
    for part in ("canary-webhook", "canary-pass", "canary-json", "canary-token", "B1CANARY9"):
        assert part not in redacted(f"POST /x/{part}/y failed")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"slack_webhook_url": "slack://a/b/c"}, "must be an address like https://"),
        ({"notify_urls": "hooks.example.com/x"}, "must be an address like https://"),
        ({"notify_urls": "http://hooks.example.com/x"}, "must begin with https://"),
        ({"notify_on": "failed,finnished"}, "'finnished' is none of finished, failed"),
        ({"webhook_secret": "whsec_!!!"}, "is no base64 behind whsec_"),
    ],
)
def test_a_wrong_setting_is_named_without_its_value(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], fault: str
) -> None:
    variables = {
        "slack_webhook_url": "SLACK_WEBHOOK_URL",
        "notify_urls": "NOTIFY_URLS",
        "notify_on": "NOTIFY_ON",
        "webhook_secret": "ETL_WEBHOOK_SECRET",
    }
    for name, value in given.items():
        monkeypatch.setenv(variables[name], value)
    with pytest.raises(SettingsError, match=fault) as wrong:
        NotificationSettings.load()
    assert "example.com/x" not in str(wrong.value)


def test_a_destination_that_is_none_is_named_before_anything_starts() -> None:
    given = settings(notify_urls="https://a.example/x, ftp://s3cret-word/canary")
    with pytest.raises(ConfigurationError) as refused:
        check_destinations(given)
    assert str(refused.value) == "NOTIFY_URLS.2 is no address that Apprise knows"


def test_attempts_come_ever_more_slowly_and_end() -> None:
    pauses = [_pause(attempt, None) for attempt in range(1, MOST_ATTEMPTS + 1)]
    assert pauses[-1] is None
    waited: Any = [pause.total_seconds() for pause in pauses[:-1] if pause is not None]
    assert waited == sorted(waited)
    assert waited[0] == 15
    assert sum(waited) > 3_600
    assert _pause(1, timedelta(minutes=5)) == timedelta(minutes=5)
    assert _pause(1, timedelta(days=5)) == timedelta(hours=1)


def test_an_event_is_the_same_after_it_was_stored() -> None:
    event = end_of(SUMMARY, NOON)
    assert Event.model_validate(event.model_dump(mode="json")) == event
