"""Faults that a fake injects on purpose."""

from temporaletl.testing.fakes.faults import TRANSPORT, Fault, Faults, FaultSpecError, parse_fault

__all__ = ["TRANSPORT", "Fault", "FaultSpecError", "Faults", "parse_fault"]
