"""Connectors to the systems that both services speak to."""
