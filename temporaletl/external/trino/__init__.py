"""The Trino connector: access, queries, their order, and their values."""
