"""The base class of queries: the typed parameters of a job."""

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from temporaletl.errors import ConfigurationError
from temporaletl.validation import faults_of

#: A run's parameter for deletion scans: the platform's own, so that queries need not have it.
ACCEPT_DELETIONS = "accept_deletions"
_sources: dict[type, str] = {}


def name_source(query: type, source: str) -> None:
    """Register the source that errors of a query class name."""
    _sources[query] = source


class Query(BaseModel):
    """Query of a job: its parameters, checked and typed.

    Subclasses add fields and raise the two class attributes: `VERSION` when rows change in a
    way their readers must know, `SPECIFIC_VERSION` at any change of the transform.

        class BranchQuery(Query):
            SPECIFIC_VERSION = "1.1"

            region: str
            page_size: int = 100

        query = BranchQuery.from_dict({"region": "north"})
        assert (query.region, query.page_size) == ("north", 100)
        assert (query.version(), query.specific_version()) == ("1", "1.1")
    """

    # A text of digits alone comes as a number from a command line.
    model_config = ConfigDict(
        frozen=True, extra="forbid", defer_build=True, coerce_numbers_to_str=True
    )

    VERSION: ClassVar[str] = "1"
    SPECIFIC_VERSION: ClassVar[str] = "1.0"

    @classmethod
    def version(cls) -> str:
        """Stored on every row; changes with breaking changes only."""
        return cls.VERSION

    @classmethod
    def specific_version(cls) -> str:
        """Stored on every row; changes with any change."""
        return cls.SPECIFIC_VERSION

    @classmethod
    def from_dict(cls, params: Mapping[str, JsonValue]) -> Self:
        """Build from a job's parameters.

        Raises:
            ConfigurationError: a parameter is unknown, missing or of the wrong type; it is named.
        """
        own = {
            name: value
            for name, value in params.items()
            if name != ACCEPT_DELETIONS or name in cls.model_fields
        }
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            raise ConfigurationError(_explain(cls, error)) from None


def _explain(cls: type[Query], error: ValidationError) -> str:
    name = _sources.get(cls, cls.__name__)
    unknown: list[str] = []
    faults: list[str] = []
    for fault in faults_of(error):
        if fault.type == "extra_forbidden" and len(fault.location) == 1:
            unknown.append(fault.path)
        else:
            faults.append(f"{name}: {fault.path or 'query'}: {fault.message}")
    if unknown:
        refused, known = ", ".join(map(repr, unknown)), ", ".join(cls.model_fields) or "none"
        faults.insert(0, f"{name} takes no parameter {refused}; it takes: {known}")
    return "; ".join(faults)
