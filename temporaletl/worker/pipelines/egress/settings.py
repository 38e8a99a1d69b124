"""Settings of the requests that pipelines send."""

from ipaddress import ip_network

from pydantic import Field, SecretStr, field_validator

from temporaletl.settings.platform import Settings
from temporaletl.worker.pipelines.egress.addresses import Network

_HIGHEST_PORT = 65_535


class EgressSettings(Settings):
    """Whom pipelines may send requests to, and how large an answer may be."""

    free_secrets = frozenset({"proxy"})

    hosts: str = Field("", validation_alias="PIPELINE_ALLOWED_HOSTS")
    private_networks: str = Field("", validation_alias="PIPELINE_ALLOWED_NETWORKS")
    allowed_ports: str = Field("80,443", validation_alias="PIPELINE_ALLOWED_PORTS")
    proxy: SecretStr | None = Field(None, validation_alias="PIPELINE_EGRESS_PROXY")
    response_megabytes: float = Field(10, gt=0, validation_alias="PIPELINE_RESPONSE_MB")

    @field_validator("private_networks")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        for one in _listed(text):
            ip_network(one)
        return text

    @field_validator("allowed_ports")
    @classmethod
    def _are_ports(cls, text: str) -> str:
        for one in _listed(text):
            if not one.isdigit() or not 0 < int(one) <= _HIGHEST_PORT:
                raise ValueError(f"{one} is no port")
        return text

    @property
    def networks(self) -> tuple[Network, ...]:
        return tuple(map(ip_network, _listed(self.private_networks)))

    @property
    def ports(self) -> frozenset[int]:
        return frozenset(map(int, _listed(self.allowed_ports)))

    def allows(self, host: str) -> bool:
        """Whether requests may name a host: every one, where none is listed."""
        host = host.lower().rstrip(".")
        allowed = [one.lower() for one in _listed(self.hosts)]
        return not allowed or any(
            host.endswith(one[1:]) if one.startswith("*.") else host == one for one in allowed
        )


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]
