"""The servers that releases are made and tried with."""

from tests.integration.postgres_server import postgres_url
from tests.integration.temporal_server import shared_temporal, temporal_server

__all__ = ["postgres_url", "shared_temporal", "temporal_server"]
