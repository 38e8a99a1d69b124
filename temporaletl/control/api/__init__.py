"""The HTTP API: operations over HTTP, under `/api/v1`."""
