"""Settings of the API's client: its address, and the token."""

from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from temporaletl.errors import ConfigurationError
from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.settings.platform import Settings


class NotOverApiError(ConfigurationError):
    """The API has no such operation; whoever wants it must be where the platform is."""

    def __init__(self) -> None:
        super().__init__(
            "that is not done over the API: unset ETL_API_URL to do it with the settings of this "
            "machine"
        )


class ClientSettings(Settings):
    """Where the API is that the command line uses, and as whom."""

    url: str | None = Field(
        None,
        validation_alias="ETL_API_URL",
        description="the HTTP API that `etl` uses, such as https://etl.example.com",
    )
    token: SecretStr | None = Field(
        None, validation_alias="ETL_API_TOKEN", description="the token that is sent to ETL_API_URL"
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        return None if url is None else site_address(url, example="https://etl.example.com")

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        if self.url is not None and self.token:
            check_encrypted(self.url, "ETL_API_URL")
        return self
