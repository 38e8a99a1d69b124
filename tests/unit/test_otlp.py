"""Whether telemetry is exported, and where to, by the standard variables."""

import logging
import os
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from temporaletl.secrets import redacted
from temporaletl.telemetry import otlp, tracing
from temporaletl.telemetry.instruments import Counter, Gauge, Histogram
from temporaletl.telemetry.otlp_metrics import name_and_unit
from tests.documentation import ROOT

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, None),
        ({ENDPOINT: "http://there:4318/"}, "http://there:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://there/mine"}, "http://there/mine"),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://there"}, None),
        ({ENDPOINT: "http://there", "OTEL_SDK_DISABLED": "True"}, None),
        ({ENDPOINT: "http://there", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({ENDPOINT: "http://there", "OTEL_METRICS_EXPORTER": "none"}, "http://there/v1/traces"),
    ],
)
def test_the_endpoint_is_that_of_the_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = otlp.target("traces")
    assert (found and found.url) == url


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "only http/protobuf is spoken"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin: otlp or none"),
        ({}, "pip install 'temporaletl[otel]' installs what it takes"),
    ],
)
def test_what_cannot_be_exported_is_logged_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://there")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if not variables:
        monkeypatch.setattr(otlp, "find_spec", lambda _: None)
    with capture_logs() as logged:
        assert otlp.target("traces") is None
    [line] = logged
    assert line["event"] == "telemetry_off"
    assert reason in line["reason"]


def test_a_key_in_the_headers_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENDPOINT, "http://there")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20secret%20key, other=one")
    found = otlp.target("metrics")
    assert found is not None
    assert found.headers == {"api-key": "a secret key", "other": "one"}
    assert "secret" not in repr(found)
    assert "a secret key" not in redacted("with a secret key")


def test_off_a_service_imports_nothing_of_it() -> None:
    look = (
        "import sys, temporaletl.queuer.__main__, temporaletl.worker.__main__\n"
        "import temporaletl.engine.__main__\n"
        "print([name for name in sys.modules if 'opentelemetry' in name])\n"
        # A library of the API's own imports the plain interfaces, where they are.
        "import temporaletl.control.api.app\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert ran.stdout == "[]\n[]\n"


def test_off_a_span_is_nothing_and_errors_pass_it() -> None:
    with pytest.raises(KeyError), tracing.span("page", rows=1):
        raise KeyError
    assert tracing.tracer() is None
    assert logging.getLogger("opentelemetry").handlers == []


@pytest.mark.parametrize(
    ("instrument", "expected"),
    [
        (Counter("etl_rows_total", ""), ("etl.rows", "1")),
        (Counter("etl_extracted_bytes_total", ""), ("etl.extracted", "By")),
        (Gauge("etl_watermark_timestamp_seconds", ""), ("etl.watermark.timestamp", "s")),
        (Histogram("etl_page_duration_seconds", ""), ("etl.page.duration", "s")),
    ],
)
def test_names_are_those_of_opentelemetry(
    instrument: Counter | Gauge | Histogram, expected: tuple[str, str]
) -> None:
    assert name_and_unit(instrument) == expected
