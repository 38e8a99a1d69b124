"""The platform on one machine: PostgreSQL, a Temporal server, and both services as processes."""
