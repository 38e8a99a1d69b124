import pytest

from temporaletl import ConfigurationError
from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal.connect import UnknownNamespaceError, connect, connect_patiently
from tests.integration.temporal_server import TemporalServer


async def test_a_client_is_connected_to_the_namespace(temporal_server: TemporalServer) -> None:
    settings = TemporalSettings(address=temporal_server.address, namespace="default")
    for client in (await connect(settings), await connect_patiently(settings)):
        assert client.namespace == "default"
        assert await client.service_client.check_health()


async def test_an_unknown_namespace_is_named_with_its_remedy(
    temporal_server: TemporalServer,
) -> None:
    settings = TemporalSettings(address=temporal_server.address, namespace="no-such")
    with pytest.raises(UnknownNamespaceError, match="namespace create --namespace no-such"):
        await connect(settings)


async def test_tls_towards_a_server_without_it_is_a_wrong_setting(
    temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_TLS", "true")
    settings = TemporalSettings(address=temporal_server.address, namespace="default")
    with pytest.raises(ConfigurationError, match="TEMPORAL_TLS=false"):
        await connect_patiently(settings)
