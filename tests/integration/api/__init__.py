"""The HTTP API, as a process of its own, beside both services."""
