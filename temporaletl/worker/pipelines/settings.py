"""Settings of pipelines."""

from pydantic import Field

from temporaletl.settings import Settings


class PipelineSettings(Settings):
    """PIPELINE_…: bounds of what users' definitions may take."""

    expression_memory_megabytes: int = Field(
        256, ge=16, validation_alias="PIPELINE_EXPRESSION_MEMORY_MB"
    )
    expression_seconds: float = Field(10, gt=0, validation_alias="PIPELINE_EXPRESSION_SECONDS")
