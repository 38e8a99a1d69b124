"""Notification of a batch's end: Slack and other webhooks."""

from xml.sax.saxutils import escape

import requests

from temporaletl.errors import SourceUnavailableError
from temporaletl.messages import BatchSummary
from temporaletl.names import label
from temporaletl.secrets import cleaned
from temporaletl.settings import NotificationSettings
from temporaletl.terminal import fit_to_print

_TIMEOUT_SECONDS = (5, 10)


def sentence(summary: BatchSummary) -> str:
    """The summary in one line that a person can act on."""
    rows = summary.rows
    line = (
        f"{label(summary.source, summary.connection)} {summary.mode} {summary.state} "
        f"in {summary.seconds:.0f} s: "
        f"{summary.jobs.completed} of {summary.jobs.planned} jobs, "
        f"{rows.inserted} rows inserted, {rows.updated} updated, {rows.unchanged} unchanged, "
        f"{rows.rejected} rejected"
    )
    if summary.failures:
        first = summary.failures[0]
        line += f"; {summary.jobs.failed} failed, first {first.job}: {first.error}"
    if summary.notes:
        line += f"; {summary.notes[0].note}"
    if summary.error:
        line += f"; {summary.error}"
    return fit_to_print(f"{line} ({summary.workflow_id})")


def _for_slack(text: str) -> str:
    # Where it came from, nobody may address a channel or name a link.
    return escape(text)


def notify(settings: NotificationSettings, summary: BatchSummary) -> None:
    """Post the sentence to Slack and the whole summary to the other webhooks.

    One that fails does not keep the others from being notified.

    Raises:
        SourceUnavailableError: a webhook did not take it; the message does not name the URL,
            which is a secret.
    """
    posts: list[tuple[str, str, object]] = []
    if settings.slack_webhook_url is not None:
        url = settings.slack_webhook_url.get_secret_value()
        posts.append(("SLACK_WEBHOOK_URL", url, {"text": _for_slack(sentence(summary))}))
    if settings.notify_urls is not None:
        cleaned_summary = cleaned(summary.model_dump(mode="json"), fit_to_print)
        body = {"text": sentence(summary), "summary": cleaned_summary}
        urls = (url.strip() for url in settings.notify_urls.get_secret_value().split(","))
        posts.extend(("NOTIFY_URLS", url, body) for url in urls if url)
    faults = []
    for setting, url, content in posts:
        try:
            # The content is for that address alone.
            answer = requests.post(
                url, json=content, timeout=_TIMEOUT_SECONDS, allow_redirects=False
            )
        except requests.RequestException as error:
            faults.append(f"a webhook of {setting} did not answer: {type(error).__name__}")
        else:
            if not answer.ok or answer.is_redirect:
                faults.append(f"a webhook of {setting} answered {answer.status_code}")
    if faults:
        raise SourceUnavailableError("; ".join(faults))
