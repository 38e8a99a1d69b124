"""Settings of the HTTP API."""

from pydantic import Field, PositiveFloat, PositiveInt

from temporaletl.settings.platform import Settings


class ApiSettings(Settings):
    """Where the HTTP API listens, and how much it takes."""

    host: str = Field(
        "127.0.0.1",
        validation_alias="ETL_API_HOST",
        description=(
            "where the API listens; others than this machine are refused until a token exists"
        ),
    )
    port: int = Field(8080, ge=0, le=65_535, validation_alias="ETL_API_PORT")
    start_services: bool = Field(
        default=False,
        validation_alias="START_TEMPORAL_WORKER",
        description="whether `etl serve` also runs the queuer and a worker, as child processes",
    )
    requests_per_minute: PositiveInt = Field(
        30_000,
        validation_alias="ETL_API_REQUESTS_PER_MINUTE",
        description="requests of one token, or one address, that are answered",
    )
    request_kilobytes: PositiveInt = Field(
        256,
        validation_alias="ETL_API_REQUEST_KILOBYTES",
        description="the largest body of a request",
    )
    request_seconds: PositiveFloat = Field(
        10,
        validation_alias="ETL_API_REQUEST_SECONDS",
        description="how long a request may take to arrive, its head and its body",
    )
    warehouse_metrics_seconds: PositiveFloat = Field(
        15,
        le=3_600,
        validation_alias="ETL_METRICS_WAREHOUSE_SECONDS",
        description="the warehouse is asked for its metrics no more often than this",
    )
    streams: PositiveInt = Field(
        1_000,
        validation_alias="ETL_API_STREAMS",
        description="streams of events that one process keeps open",
    )
    streams_per_token: PositiveInt = Field(
        50,
        validation_alias="ETL_API_STREAMS_PER_TOKEN",
        description="of them, those of one token",
    )
