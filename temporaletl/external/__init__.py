"""Connectors that both services use: one module for each outside system."""
