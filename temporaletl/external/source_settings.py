"""What the settings of every source have in common, and how their variables are called.

    class ShopRate(RateSettings, alias_generator=variables("SHOP")): ...

    class ShopSettings(ShopRate, SourceSettings, alias_generator=variables("SHOP")):
        token: SecretStr = Field(description="the access token")  # SHOP_TOKEN

    rate_budget("shop")(ShopRate.budget)

A subclass repeats a field only where its default, its bounds or its description differ.
"""

from pydantic import AliasGenerator, Field, PositiveFloat, PositiveInt

from temporaletl.budget import RateBudget
from temporaletl.settings import Settings


def variables(prefix: str) -> AliasGenerator:
    """Name each setting after its variable: `page_size` of SHOP is SHOP_PAGE_SIZE.

    A `validation_alias` of the field's own wins.
    """
    return AliasGenerator(validation_alias=lambda name: f"{prefix}_{name.upper()}")


class RateSettings(Settings):
    """How often a source may be asked.

    A class of its own where it is read although the rest of the source's settings is not set.
    """

    requests_per_second: PositiveFloat | None = Field(
        None, description="how often all workers together may ask; unset: without limit"
    )

    @classmethod
    def budget(cls) -> RateBudget:
        """The source's rate budget, by its settings: to be registered with `rate_budget`."""
        return RateBudget(requests_per_second=cls.load().requests_per_second)


class SourceSettings(Settings):
    """How a source is asked over HTTP; where it is, and as whom, subclasses add."""

    page_size: PositiveInt = Field(100, description="records asked for at once")
    concurrency: PositiveInt = Field(8, description="requests at once from one process")
    connect_timeout_seconds: PositiveFloat = Field(10, description="patience for a connection")
    read_timeout_seconds: PositiveFloat = Field(60, description="patience for an answer")

    @classmethod
    def variable(cls, setting: str) -> str:
        """The environment variable of a setting."""
        return str(cls.model_fields[setting].validation_alias or setting.upper())
