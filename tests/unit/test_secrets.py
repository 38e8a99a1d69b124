"""Secrets that the process knows stay out of all that leaves it."""

import importlib
import io
import json
import logging
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from pydantic import SecretStr

import temporaletl
from control import output
from temporaletl.errors import ConfigurationError
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.interceptor import as_application_error
from temporaletl.logs import configure_logs
from temporaletl.messages import JobFailure, JobProgress
from temporaletl.secrets import REDACTED, redacted, remember_login, remember_secret
from temporaletl.settings import Settings, WarehouseSettings

CANARY = "s3cret/canary+77 ü"


def settings_classes() -> Iterator[type[Settings]]:
    for module in pkgutil.walk_packages(temporaletl.__path__, "temporaletl."):
        if not module.name.startswith("temporaletl.testing"):
            importlib.import_module(module.name)
    todo = [Settings]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls.__module__.startswith("temporaletl."):
            yield cls


SECRET_FIELDS = [
    pytest.param(cls, name, id=f"{cls.__name__}.{name}")
    for cls in settings_classes()
    for name, field in cls.model_fields.items()
    if "SecretStr" in str(field.annotation)
]


@pytest.mark.parametrize(("cls", "name"), SECRET_FIELDS)
def test_every_secret_of_every_setting_is_trimmed_and_known(cls: type[Settings], name: str) -> None:
    checked = cls._clean_secret(SecretStr("  canary-of-a-setting\n"), _Info(name))  # type: ignore[arg-type]
    assert isinstance(checked, SecretStr)
    assert checked.get_secret_value() == "canary-of-a-setting"
    assert redacted("so: canary-of-a-setting") == f"so: {REDACTED}"


class _Info:
    def __init__(self, field_name: str) -> None:
        self.field_name = field_name


@pytest.mark.parametrize("odd", ["tok\nen", "tok\u200ben", "token\u2026", "tok\x00en", "tok\xa0en"])
@pytest.mark.parametrize("name", ["JIRA_PERSONAL_TOKEN", "JIRA_API_TOKEN", "JIRA_EMAIL"])
def test_what_no_header_can_hold_is_refused_by_name_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, odd: str
) -> None:
    monkeypatch.setenv("JIRA_URL", "https://jira.example.com")
    for each in ("JIRA_EMAIL", "JIRA_API_TOKEN") if name != "JIRA_PERSONAL_TOKEN" else ():
        monkeypatch.setenv(each, "fine")
    if "\0" in odd:
        monkeypatch.setattr(os, "environ", {**os.environ, name: odd})
    else:
        monkeypatch.setenv(name, odd)
    with pytest.raises(ConfigurationError, match=f"{name} is wrong: holds a character") as told:
        JiraSettings.load()
    assert odd not in str(told.value)


def test_a_secret_with_a_newline_at_its_end_is_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIRA_URL", "https://jira.example.com")
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", " s3cretcanary77\n")
    token = JiraSettings.load().personal_token
    assert token is not None
    assert token.get_secret_value() == "s3cretcanary77"


@pytest.mark.parametrize(
    "text",
    [
        CANARY,
        f"Invalid header value b'Bearer {CANARY}'",
        "https://x.example.com/?key=s3cret%2Fcanary%2B77%20%C3%BC",
        "https://x.example.com/?key=s3cret%2Fcanary%2B77+%C3%BC",
        json.dumps({"token": CANARY}),
        json.dumps({"token": CANARY}, ensure_ascii=False),
        repr({"token": CANARY}),
    ],
)
def test_a_secret_is_taken_out_in_every_form_that_texts_have(text: str) -> None:
    remember_secret(CANARY)
    found = redacted(text)
    assert REDACTED in found
    assert "canary" not in found


def test_the_header_of_basic_authentication_is_a_secret() -> None:
    remember_login("me@example.com", "s3cretcanary")
    assert redacted("Basic bWVAZXhhbXBsZS5jb206czNjcmV0Y2FuYXJ5") == f"Basic {REDACTED}"


def test_a_short_secret_blanks_no_part_of_other_words() -> None:
    remember_secret("word")
    assert redacted("password: word, words") == f"password: {REDACTED}, words"
    remember_secret("x")
    assert redacted("x = x") == "x = x"


def test_a_password_within_an_address_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret%2Fcanary@db.example.com/x")
    WarehouseSettings.load().conninfo()
    assert redacted("password=s3cret/canary") == f"password={REDACTED}"


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook
    yield
    root.handlers[:], root.level, sys.excepthook = before
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class _Terminal(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("terminal", [False, True])
def test_no_log_line_tells_a_secret_or_obeys_a_record(*, terminal: bool) -> None:
    remember_secret(CANARY)
    stream = _Terminal(terminal=terminal)
    configure_logs(stream=stream)
    log = structlog.get_logger("somewhere")
    record = "\x1b]0;owned\x07\x9b31m\u202e\x7f"
    try:
        int(f"{CANARY} {record}")
    except ValueError as error:
        log.warning("failed", error=str(error), data={"token": CANARY}, exc_info=True)
        logging.getLogger("a.library").exception("%s in %s", CANARY, record)
    text = stream.getvalue()
    assert "canary" not in text
    assert text.count(REDACTED) >= 4
    for odd in ("\x1b]", "\x07", "\x9b", "\u202e", "\x7f"):
        assert odd not in text
    if not terminal:
        for line in text.splitlines():
            json.loads(line)


def test_no_error_tells_a_secret_to_temporal_or_the_ledger() -> None:
    remember_secret(CANARY)
    for error in (ValueError(CANARY), ConfigurationError(f"no {CANARY}")):
        assert "canary" not in str(as_application_error(error, attempt=1))
    assert "canary" not in JobFailure(job="j", error=CANARY).error
    assert "canary" not in str(JobProgress(state="failed", stream="s", error=CANARY).error)


def test_nothing_printed_tells_a_secret_or_obeys_a_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    remember_secret(CANARY)
    output.out.cache_clear()
    output.err.cache_clear()
    odd = f"{CANARY} \x1b[2J\x9b2J\u202e[bold]"
    output.say(odd)
    output.note(odd, "red")
    output.print_fields([("error", odd)])
    table = output.make_table("name")
    output.add_row(table, odd)
    output.print_table(table)
    output.print_json({"text": odd})
    told = capsys.readouterr()
    output.out.cache_clear()
    output.err.cache_clear()
    for text in (told.out, told.err):
        assert "canary" not in text
        assert "[bold]" in text
        for control in ("\x1b", "\x9b", "\u202e"):
            assert control not in text
    assert r"\x1b[2J\x9b2J\u202e" in told.out
    assert json.loads(told.out[told.out.index("{") :])["text"].endswith("\x1b[2J\x9b2J\u202e[bold]")


def test_a_traceback_that_nobody_catches_tells_no_secret() -> None:
    program = (
        "from temporaletl.secrets import remember_secret\n"
        "from temporaletl.terminal import print_tracebacks_safely\n"
        "print_tracebacks_safely()\n"
        "remember_secret('s3cretcanary')\n"
        "raise ValueError('Bearer s3cret' + 'canary \\x1b[2J')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert f"ValueError: Bearer {REDACTED} \\x1b[2J" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://jira.example.com", True),
        ("http://jira.example.com", False),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://localhost", True),
        ("http://localhost.example.com", False),
        ("http://jira.internal:8080/base", True),
        ("http://10.0.0.7", False),
    ],
)
def test_credentials_go_out_encrypted_unless_a_setting_names_the_host(
    monkeypatch: pytest.MonkeyPatch, url: str, *, fine: bool
) -> None:
    monkeypatch.setenv("JIRA_URL", url)
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", "s3cretcanary")
    monkeypatch.setenv("ETL_PLAIN_HTTP_HOSTS", "other.internal, Jira.internal")
    if fine:
        assert JiraSettings.load().url == url
        return
    with pytest.raises(ConfigurationError, match=r"JIRA_URL must begin with https.*ETL_PLAIN_HTTP"):
        JiraSettings.load()
