"""Faults that a fake injects on purpose."""

from temporaletl.testing.fakes.faults import (
    ANSWERS,
    ENDLESS,
    TRANSPORT,
    Fault,
    Faults,
    FaultSpecError,
    parse_fault,
)

__all__ = ["ANSWERS", "ENDLESS", "TRANSPORT", "Fault", "FaultSpecError", "Faults", "parse_fault"]
