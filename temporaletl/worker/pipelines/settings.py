"""Settings of pipelines."""

from pydantic import Field

from temporaletl.settings.platform import Settings


class PipelineSettings(Settings):
    """PIPELINE_…: bounds of what users' definitions may take."""

    expression_memory_megabytes: int = Field(
        256, ge=16, validation_alias="PIPELINE_EXPRESSION_MEMORY_MB"
    )
    result_megabytes: float = Field(16, gt=0, le=1_000, validation_alias="PIPELINE_RESULT_MB")
    list_megabytes: float = Field(100, gt=0, le=1_000, validation_alias="PIPELINE_LIST_MB")
    results_kept_days: float = Field(30, gt=0, validation_alias="PIPELINE_RESULTS_KEPT_DAYS")
    expression_seconds: float = Field(10, gt=0, validation_alias="PIPELINE_EXPRESSION_SECONDS")
