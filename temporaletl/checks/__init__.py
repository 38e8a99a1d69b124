"""Checks: what a source needs, tried where a command runs and where the services do."""
