"""Limits of a batch in the engine, and their bounds."""

import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporaletl.errors import ConfigurationError
from temporaletl.messages import RunPolicy
from temporaletl.worker.segment import SegmentLimits

_ZERO = timedelta(0)
#: The least span that is one.
_MOMENT = timedelta.resolution
_YEAR = timedelta(days=365)
#: A shorter one is over before it can be renewed, where a warehouse is slow.
_SHORTEST_HEARTBEAT = timedelta(seconds=1)
_LONGEST_HEARTBEAT = timedelta(days=1)
_MOST_JOBS = 1_000  # as many as a batch may have in flight
_MANY = 1_000_000
_LARGEST_PAYLOAD = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Limits of a batch: concurrency, retries and waits.

    - `jobs_at_once`: 1 to 1,000.
    - `policy`: `heartbeat_timeout` from 1 second to 1 day; `max_attempts` from 1;
      `activity_timeout` and `job_timeout` above 0, to 365 days; `initial_interval` and
      `maximum_interval` from 0 to 365 days; `backoff_coefficient` from 1 to 1,000.
    - `segment`: `duration` and `scan_duration` above 0, to 365 days; `rows_per_page` from 1 to
      1,000,000; `pages` from 1, or None; the thresholds from 0 to 1; `reject_payload_bytes` from 1
      to 64 MiB.
    - `longest_wait`: from 0 to 365 days, or None.

    Raises:
        ConfigurationError: a limit lies outside of its bounds; names it, and them.
    """

    #: Each takes two of the warehouse's connections at most, and six of the loop's threads.
    jobs_at_once: int = 4
    #: Retries, the time-outs of segments and of jobs, and after which silence this process counts
    #: as dead (`heartbeat_timeout`).
    policy: RunPolicy = field(default_factory=RunPolicy)
    segment: SegmentLimits = field(default_factory=SegmentLimits)
    #: A longer cool-down of the source fails its job; None waits out any.
    longest_wait: timedelta | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.policy, RunPolicy):
            raise ConfigurationError("EngineLimits: policy must be a RunPolicy")
        if not isinstance(self.segment, SegmentLimits):
            raise ConfigurationError("EngineLimits: segment must be a SegmentLimits")
        _check_number("jobs_at_once", self.jobs_at_once, 1, _MOST_JOBS)
        _check_span("longest_wait", self.longest_wait, _ZERO, optional=True)
        policy, segment = self.policy, self.segment
        _check_span(
            "policy.heartbeat_timeout",
            policy.heartbeat_timeout,
            _SHORTEST_HEARTBEAT,
            _LONGEST_HEARTBEAT,
        )
        _check_span("policy.activity_timeout", policy.activity_timeout, _MOMENT)
        _check_span("policy.job_timeout", policy.job_timeout, _MOMENT, optional=True)
        _check_span("policy.initial_interval", policy.initial_interval, _ZERO)
        _check_span("policy.maximum_interval", policy.maximum_interval, _ZERO)
        _check_number("policy.max_attempts", policy.max_attempts, 1)
        _check_number(
            "policy.backoff_coefficient", policy.backoff_coefficient, 1, 1_000, kind=float
        )
        _check_span("segment.duration", segment.duration, _MOMENT)
        _check_span("segment.scan_duration", segment.scan_duration, _MOMENT)
        _check_number("segment.rows_per_page", segment.rows_per_page, 1, _MANY)
        if segment.pages is not None:
            _check_number("segment.pages", segment.pages, 1)
        for name in ("reject_threshold", "conflict_threshold"):
            _check_number(f"segment.{name}", getattr(segment, name), 0, 1, kind=float)
        _check_number(
            "segment.reject_payload_bytes", segment.reject_payload_bytes, 1, _LARGEST_PAYLOAD
        )


def _check_number(
    name: str, value: Any, least: float, most: float = math.inf, *, kind: type = int
) -> None:
    fits = isinstance(value, (int, kind)) and not isinstance(value, bool)
    if not fits or not least <= value <= most:
        what = "a whole number" if kind is int else "a number"
        bounds = f"from {least:,}" if most == math.inf else f"from {least:,} to {most:,.0f}"
        raise ConfigurationError(f"EngineLimits: {name} must be {what} {bounds}, not {value!r}")


def _check_span(
    name: str, value: Any, least: timedelta, most: timedelta = _YEAR, *, optional: bool = False
) -> None:
    if value is None and optional:
        return
    if not isinstance(value, timedelta) or not least <= value <= most:
        lower = "above 0" if least == _MOMENT else f"from {least.total_seconds():g} seconds"
        raise ConfigurationError(
            f"EngineLimits: {name} must be a timedelta {lower} to {most.days:,} days, not {value!r}"
        )
