"""What the author of a source imports."""

from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    PermanentError,
    RateLimitedError,
    RecordError,
    RetryableError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.messages import ETLInput, Window
from temporaletl.rows import Event, Json, LocalTime, Reject, Row
from temporaletl.strategies import (
    Page,
    PageRequest,
    Plan,
    Query,
    TransformContext,
    extract_method,
    params_method,
    query_type,
    transform_inputs_method,
    transform_method,
)

__all__ = [
    "ConfigurationError",
    "CredentialsError",
    "ETLInput",
    "Event",
    "Json",
    "LocalTime",
    "Page",
    "PageRequest",
    "PermanentError",
    "Plan",
    "Query",
    "RateLimitedError",
    "RecordError",
    "Reject",
    "RetryableError",
    "Row",
    "SourceProtocolError",
    "SourceUnavailableError",
    "TransformContext",
    "Window",
    "extract_method",
    "params_method",
    "query_type",
    "transform_inputs_method",
    "transform_method",
]
