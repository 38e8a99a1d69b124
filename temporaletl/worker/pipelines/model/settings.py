"""Settings of the language model that pipelines ask, and the tokens that it may take."""

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.settings.platform import Settings


class ModelSettings(Settings):
    """PIPELINE_MODEL…: the endpoint of nodes of the type `ai_agent`, and budgets of tokens."""

    url: str | None = Field(None, validation_alias="PIPELINE_MODEL_URL")
    key: SecretStr | None = Field(None, validation_alias="PIPELINE_MODEL_KEY")
    model: str | None = Field(None, validation_alias="PIPELINE_MODEL")
    call_tokens: int = Field(100_000, ge=1, validation_alias="PIPELINE_MODEL_CALL_TOKENS")
    execution_tokens: int = Field(
        1_000_000, ge=1, validation_alias="PIPELINE_MODEL_EXECUTION_TOKENS"
    )
    day_tokens: int = Field(10_000_000, ge=1, validation_alias="PIPELINE_MODEL_DAY_TOKENS")

    @field_validator("url")
    @classmethod
    def _bare(cls, value: str | None) -> str | None:
        return value and site_address(value, example="https://api.openai.com/v1")

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.url is not None and self.key is not None:
            check_encrypted(self.url, "PIPELINE_MODEL_URL")
        return self

    @property
    def host(self) -> str:
        """The host of the endpoint, for messages."""
        return urlsplit(self.url or "").hostname or "the model"
