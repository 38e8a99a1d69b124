"""Settings of the API's client: its address, and the token."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator

from temporaletl.credentials import for_header
from temporaletl.errors import ConfigurationError
from temporaletl.secrets import remember_secret
from temporaletl.settings import Settings, check_encrypted, site_address


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
    token_file: Path | None = Field(
        None, validation_alias="ETL_API_TOKEN_FILE", description="a file with that token"
    )

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        return None if url is None else site_address(url, example="https://etl.example.com")

    @model_validator(mode="after")
    def _is_one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("ETL_API_TOKEN and ETL_API_TOKEN_FILE are both set: only one can be")
        if self.url is not None and (self.token or self.token_file):
            check_encrypted(self.url, "ETL_API_URL")
        return self

    def read_token(self) -> SecretStr | None:
        """The token, None where there is none: an API may answer its own machine without one.

        Raises:
            ConfigurationError: the file cannot be read, or holds no token.
        """
        if self.token_file is None:
            return self.token
        try:
            text = self.token_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigurationError(
                f"ETL_API_TOKEN_FILE: {self.token_file} cannot be read: {reason}"
            ) from None
        remember_secret(text.strip())
        try:
            return SecretStr(for_header(text))
        except ValueError as error:
            raise ConfigurationError(
                f"ETL_API_TOKEN_FILE: what {self.token_file} holds {error}"
            ) from None
