"""What the integration tests share: one real server of each kind for the session."""

from tests.integration.jira_dataset import dataset
from tests.integration.postgres_server import postgres_url, warehouse
from tests.integration.temporal_server import shared_temporal, temporal_server
from tests.integration.temporal_subjects import subjects
from tests.integration.trino_reading import lake
from tests.integration.trino_server import trino_server

__all__ = [
    "dataset",
    "lake",
    "postgres_url",
    "shared_temporal",
    "subjects",
    "temporal_server",
    "trino_server",
    "warehouse",
]
