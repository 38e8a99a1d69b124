"""Instruments, as Prometheus' own client reads what they expose."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from temporaletl.telemetry.instruments import Counter, Gauge, Histogram, Registry


@pytest.fixture
def registry() -> Registry:
    return Registry()


def samples(registry: Registry) -> dict[tuple[str, str], float]:
    return {
        (one.name, ",".join(one.labels.values())): one.value
        for family in text_string_to_metric_families(registry.exposition())
        for one in family.samples
    }


def test_what_is_recorded_is_read_as_it_was(registry: Registry) -> None:
    counter = registry.declare(Counter("etl_rows_total", "Rows.", ("source",)))
    gauge = registry.declare(Gauge("etl_up", "Whether it is up."))
    odd = 'a "quoted"\\ \n name'
    counter.add(2, source="jira")
    counter.add(3, source="jira")
    counter.add(0, source=odd)
    gauge.set(-1.5)
    found = samples(registry)
    assert found == {
        ("etl_rows_total", "jira"): 5,
        ("etl_rows_total", odd): 0,
        ("etl_up", ""): -1.5,
    }
    assert registry.exposition().count("# TYPE") == 2


def test_a_histogram_counts_what_is_within_each_bound(registry: Registry) -> None:
    histogram = registry.declare(Histogram("etl_load_seconds", "Loads.", (), (0.1, 1.0)))
    for seconds in (0.1, 0.5, 2.0):
        histogram.observe(seconds)
    found = samples(registry)
    assert found.pop(("etl_load_seconds_sum", "")) == pytest.approx(2.6)
    assert found == {
        ("etl_load_seconds_bucket", "0.1"): 1,
        ("etl_load_seconds_bucket", "1"): 2,
        ("etl_load_seconds_bucket", "+Inf"): 3,
        ("etl_load_seconds_count", ""): 3,
    }


def test_what_was_never_recorded_is_not_exposed(registry: Registry) -> None:
    registry.declare(Gauge("etl_up", "Whether it is up."))
    assert registry.exposition() == ""


def test_gauges_are_brought_up_to_date_when_they_are_read(registry: Registry) -> None:
    gauge = registry.declare(Gauge("etl_table_bytes", "Sizes.", ("table",)))
    gauge.set(1, table="dropped")
    with registry.read_by(lambda: gauge.set_all([(("events",), 7)])):
        assert samples(registry) == {("etl_table_bytes", "events"): 7}
    gauge.set_all([])
    assert samples(registry) == {}


def test_a_name_is_declared_once_and_its_labels_are_given_always(registry: Registry) -> None:
    counter = registry.declare(Counter("etl_rows_total", "Rows.", ("source",)))
    with pytest.raises(ValueError, match="etl_rows_total is declared twice"):
        registry.declare(Gauge("etl_rows_total", "Again."))
    with pytest.raises(TypeError, match="has the labels"):
        counter.add(1)
    with pytest.raises(KeyError):
        counter.add(1, sauce="jira")
