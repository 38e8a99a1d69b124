"""Expressions of pipelines: one Python expression, checked when defined, evaluated in a sandbox."""
