"""Secrets that the process knows stay out of all that leaves it."""

import base64
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from rich.text import Text
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError

from temporaletl.control.cli import output
from temporaletl.errors import ConfigurationError
from temporaletl.external.error_bodies import message_in
from temporaletl.messages import JobFailure, JobProgress
from temporaletl.secrets import (
    REDACTED,
    forget_secrets,
    redacted,
    remember_login,
    remember_secret,
    weakness_of,
)
from temporaletl.telemetry.logs import configure_logs
from temporaletl.temporal.connect import data_converter
from temporaletl.temporal.interceptor import as_application_error

CANARY = "s3cret/canary+77 ü"


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
        repr(CANARY.encode()),
        repr(CANARY.encode("latin-1")),
        ascii(CANARY),
        "https://x.example.com/?key=s3cret%2fcanary%2b77%20%c3%bc",
        "https://x.example.com/s3cret/canary+77%20%C3%BC",
        json.dumps({"text": json.dumps({"token": CANARY})}),
        json.dumps({"token": CANARY}).replace("/", "\\/"),
        json.dumps({"token": CANARY}).replace("+", "\\u002B").replace("\\u00fc", "\\u00FC"),
        f"Basic {base64.b64encode(CANARY.encode()).decode()}",
    ],
)
def test_a_secret_is_taken_out_in_every_form_that_texts_have(text: str) -> None:
    remember_secret(CANARY)
    found = redacted(text)
    assert REDACTED in found
    assert "canary" not in found


def test_a_secret_is_taken_out_of_xml_and_of_quotations_of_quotations() -> None:
    remember_secret("a<\"canary'\\&b")
    texts = ("<p>a&lt;&quot;canary&#x27;\\&amp;b</p>", "<p>a&lt;\"canary'\\&amp;b</p>")
    for text in (*texts, repr(repr("a<\"canary'\\&b")), json.dumps(repr("a<\"canary'\\&b"))):
        assert "canary" not in redacted(text)


def test_each_line_of_a_key_is_a_secret() -> None:
    remember_secret("-----BEGIN\\nQ2FuYXJ5Q2Fu\\nYXJ5")
    for text in ("-----BEGIN\nQ2FuYXJ5Q2Fu\nYXJ5", "unexpected Q2FuYXJ5Q2Fu at line 1"):
        assert "Q2FuYXJ5" not in redacted(text)


def test_what_a_server_says_is_redacted_before_it_is_cut() -> None:
    remember_secret(CANARY)
    told = message_in(json.dumps({"message": "x" * 290 + f" {CANARY}"}).encode())
    assert "s3cret" not in told


def test_a_secret_that_somebody_put_on_one_line_is_one_still() -> None:
    secret = "my  canary\tphrase 99!"
    remember_secret(secret)
    told = message_in(json.dumps({"message": f"wrong password: {secret}"}).encode())
    assert told == f"wrong password: {REDACTED}"


def test_a_secret_is_taken_out_of_json_that_may_stand_within_html() -> None:
    remember_secret("p&canary<w>ord'+1")
    for amp, less in (("\\u0026", "\\u003c"), ("\\u0026", "\\u003C")):
        written = f"p{amp}canary{less}w{less.replace('c', 'e').replace('C', 'E')}ord'+1"
        assert "canary" not in redacted(f'{{"echo": "{written}"}}')


def test_the_header_of_basic_authentication_is_a_secret() -> None:
    remember_login("me@example.com", "s3cretcanary")
    assert redacted("Basic bWVAZXhhbXBsZS5jb206czNjcmV0Y2FuYXJ5") == f"Basic {REDACTED}"


def test_a_short_secret_blanks_no_part_of_other_words() -> None:
    remember_secret("word")
    assert redacted("password: word, words") == f"password: {REDACTED}, words"
    assert redacted(repr("\nword")) == repr(f"\n{REDACTED}")
    remember_secret("x")
    assert redacted("x = x") == "x = x"


@pytest.mark.parametrize(
    ("secret", "weakness"),
    [
        ("abc", "is too short to be redacted"),
        ("data", "only where it stands alone"),
        ("a-b-c-d", "only where it stands alone"),
        ("postgres", "is a plain word or number"),
        ("123456789012", "is a plain word or number"),
        ("postgres1", None),
        ("a-b-c-d-", None),
        ("correcthorsebatterystaple", None),
    ],
)
def test_a_secret_that_redaction_cannot_hide_well_is_known_as_such(
    secret: str, weakness: str | None
) -> None:
    found = weakness_of(secret)
    assert (found is None) if weakness is None else (weakness in str(found))
    assert secret not in str(found)


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


@pytest.mark.usefixtures("_logs_as_before")
def test_a_secret_that_is_a_number_breaks_no_line() -> None:
    remember_secret("20250131")
    stream = _Terminal(terminal=False)
    configure_logs(stream=stream)
    structlog.get_logger("somewhere").warning("loaded", rows=20250131, of=["20250131", {"a": 1}])
    line = json.loads(stream.getvalue())
    assert (line["rows"], line["of"]) == (20250131, [REDACTED, {"a": 1}])


def test_no_failure_and_no_cause_of_it_tells_a_secret_to_history() -> None:
    remember_secret(CANARY)
    converter = data_converter()
    failure = Failure()
    error = ApplicationError(f"no {CANARY}")
    error.__cause__ = ValueError(f"Invalid header value {CANARY!r}")
    converter.failure_converter.to_failure(error, converter.payload_converter, failure)
    assert "canary" not in str(failure)
    assert failure.cause.message == f"Invalid header value '{REDACTED}'"
    known = ApplicationError("as it came")
    known._failure = Failure(message="outer", cause=Failure(message=CANARY, stack_trace=CANARY))
    again = Failure()
    converter.failure_converter.to_failure(known, converter.payload_converter, again)
    assert (again.message, again.cause.message) == ("outer", REDACTED)


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
    output.add_row(table := output.make_table("name"), Text(odd, style="red"))
    output.print_table(table)
    output.print_fields([("error", Text(odd, style="red"))])
    output.say(Text(odd))
    output.print_json({"text": odd})
    told = capsys.readouterr()
    output.out.cache_clear()
    output.err.cache_clear()
    for text in (told.out, told.err):
        assert "canary" not in text
        assert "[bold]" in text
        for odd_character in ("\x1b", "\x9b", "\u202e"):
            assert odd_character not in text
    assert r"\x1b[2J\x9b2J\u202e" in told.out
    assert json.loads(told.out[told.out.index("{") :])["text"].endswith("\x1b[2J\x9b2J\u202e[bold]")


_FAULTS = {
    "an exception": "raise ValueError(told)",
    "a thread's": "t = threading.Thread(target=int, args=(told,)); t.start(); t.join()",
    "a destructor's": "class A:\n    def __del__(self): raise ValueError(told)\nA()",
    "a warning": "warnings.warn(told)",
    "a library's log line": "logging.getLogger('a.library').error('%s', told)",
    "a cause": "try: int(told)\nexcept ValueError as error: raise KeyError(told) from error",
}


@pytest.mark.parametrize("fault", _FAULTS)
def test_no_fault_that_nobody_catches_tells_a_secret_or_obeys_a_record(fault: str) -> None:
    program = (
        "import logging, threading, warnings\n"
        "from temporaletl.secrets import remember_secret\n"
        "from temporaletl.terminal import print_faults_safely\n"
        "print_faults_safely()\n"
        "remember_secret('s3cretcanary')\n"
        "told = 'Bearer s3cret' + 'canary \\x1b[2J\\x9b2J'\n" + _FAULTS[fault]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert f"Bearer {REDACTED} \\x1b[2J" in done.stderr
    assert "s3cretcanary" not in done.stderr
    for control_character in ("\x1b", "\x9b"):
        assert control_character not in done.stderr


def test_a_secret_that_was_forgotten_is_remembered_again_in_all_its_forms() -> None:
    for _ in range(2):
        remember_secret(CANARY)
        remember_secret(CANARY)
        assert CANARY not in redacted(json.dumps([CANARY, json.dumps(CANARY)], ensure_ascii=False))
        forget_secrets()
    # What another secret is written as has forms of its own.
    remember_secret("a+b/c d")
    remember_secret("a%2Bb%2Fc%20d")
    assert "%252B" not in redacted("https://x.example.com/?key=a%252Bb%252Fc%2520d")
