import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from temporaletl.errors import SourceUnavailableError
from temporaletl.messages import BatchSummary, JobCounts, JobFailure, RowCounts
from temporaletl.queuer.notification import notify, sentence
from temporaletl.secrets import remember_secret
from temporaletl.settings import NotificationSettings

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


class Webhooks:
    """A server whose path /NNN answers with that status and keeps what was posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, Any]] = []
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posts.append((self.path, json.loads(body)))
                self.send_response(int(self.path[1:4]))
                self.send_header("Content-Length", "0")
                if self.path.startswith("/3"):
                    self.send_header("Location", "/200")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    opened = Webhooks()
    yield opened
    opened.close()


def settings(*, slack: str | None = None, urls: str | None = None) -> NotificationSettings:
    return NotificationSettings.model_validate({"slack_webhook_url": slack, "notify_urls": urls})


def test_the_sentence_says_what_came_of_the_batch_and_where_to_look() -> None:
    assert sentence(SUMMARY) == (
        "shop full failed in 12 s: 2 of 3 jobs, 4 rows inserted, 3 updated, 2 unchanged, "
        "1 rejected; 1 failed, first shop-orders-full-1: no such table (etl-shop-1)"
    )


def test_the_sentence_says_why_a_batch_was_not_planned() -> None:
    unplanned = SUMMARY.model_copy(update={"failures": (), "error": "no credentials"})
    assert sentence(unplanned).endswith("1 rejected; no credentials (etl-shop-1)")


def test_slack_gets_the_sentence_and_the_others_the_whole_summary(webhooks: Webhooks) -> None:
    others = f"{webhooks.url('/200/a')}, {webhooks.url('/204/b')},"
    notify(settings(slack=webhooks.url("/200/slack"), urls=others), SUMMARY)
    (_, slack), *whole = webhooks.posts
    assert slack == {"text": sentence(SUMMARY)}
    assert [path for path, _ in whole] == ["/200/a", "/204/b"]
    for _, body in whole:
        assert body["text"] == sentence(SUMMARY)
        assert BatchSummary.model_validate(body["summary"]) == SUMMARY


def test_nobody_configured_means_nobody_told() -> None:
    notify(settings(), SUMMARY)


def test_a_webhook_that_refuses_is_named_by_its_setting_and_not_by_its_url(
    webhooks: Webhooks,
) -> None:
    with pytest.raises(SourceUnavailableError) as refused:
        notify(settings(slack=webhooks.url("/404/T0/s3cret")), SUMMARY)
    assert str(refused.value) == "a webhook of SLACK_WEBHOOK_URL answered 404"


def test_a_deaf_webhook_is_named_without_its_url_and_the_others_hear(webhooks: Webhooks) -> None:
    closed = Webhooks()
    closed.close()
    urls = f"{closed.url('/200/s3cret')},{webhooks.url('/200/b')}"
    with pytest.raises(SourceUnavailableError) as refused:
        notify(settings(urls=urls), SUMMARY)
    assert str(refused.value) == "a webhook of NOTIFY_URLS did not answer: ConnectionError"
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    assert [path for path, _ in webhooks.posts] == ["/200/b"]


def test_nothing_that_a_source_says_steers_a_terminal_or_a_channel(webhooks: Webhooks) -> None:
    remember_secret("s3cretcanary")
    error = "no s3cretcanary \x1b[2J\x9b <!channel> & <https://x.example.com|here>"
    failed = SUMMARY.model_copy(update={"failures": (JobFailure(job="j", error=error),)})
    settings = NotificationSettings(
        slack_webhook_url=SecretStr(webhooks.url("/200")),
        notify_urls=SecretStr(webhooks.url("/204")),
    )
    notify(settings, failed)
    (_, slack), (_, other) = webhooks.posts
    for text in (slack["text"], other["text"], other["summary"]["failures"][0]["error"]):
        assert "s3cretcanary" not in text
        assert r"\x1b[2J\x9b" in text
    assert "&lt;!channel&gt; &amp; &lt;https" in slack["text"]


def test_a_webhook_that_redirects_is_not_followed(webhooks: Webhooks) -> None:
    settings = NotificationSettings(notify_urls=SecretStr(webhooks.url("/307")))
    with pytest.raises(SourceUnavailableError, match="NOTIFY_URLS answered 307"):
        notify(settings, SUMMARY)
    assert [path for path, _ in webhooks.posts] == ["/307"]
