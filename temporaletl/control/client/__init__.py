"""A client of the HTTP API: the operations, as somebody has them who has only its address."""
