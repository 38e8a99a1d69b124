"""ServiceTitan's backlog as jobs."""
