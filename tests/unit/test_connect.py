import base64
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import WorkflowExecutionStatus as ServerStatus
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import TLSConfig

from temporaletl import ConfigurationError, CredentialsError
from temporaletl.errors import TemporalUnavailableError
from temporaletl.queuer.reconciliation import closings
from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal import connect
from temporaletl.temporal.connect import UnknownNamespaceError, connect_patiently, data_converter
from temporaletl.temporal.endpoint import Endpoint, access, endpoint
from temporaletl.temporal.payload_keys import generate_key

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {"HOME": str(tmp_path)})


def test_an_endpoint_without_access_is_plain() -> None:
    place = endpoint(TemporalSettings(address="temporal:7000", namespace="shop"), {})
    assert (place.address, place.namespace) == ("temporal:7000", "shop")
    assert (place.api_key, place.tls) == (None, False)


def test_an_address_without_a_port_gets_the_usual_one() -> None:
    assert Endpoint("temporal.example.com").address == "temporal.example.com:7233"


def test_an_api_key_turns_tls_on_unless_told_otherwise() -> None:
    settings = TemporalSettings()
    place = endpoint(settings, {"TEMPORAL_API_KEY": " secret\n"})
    assert (place.api_key, place.tls) == ("secret", True)
    place = endpoint(settings, {"TEMPORAL_API_KEY": "secret", "TEMPORAL_TLS": "no"})
    assert (place.api_key, place.tls) == ("secret", False)


@pytest.mark.parametrize(
    "text",
    [
        PEM.strip(),
        PEM.strip().replace("\n", "\\n"),
        base64.b64encode(PEM.strip().encode()).decode(),
        base64.encodebytes(PEM.strip().encode()).decode(),
    ],
)
def test_certificates_come_as_pem_or_base64(text: str) -> None:
    place = endpoint(TemporalSettings(), {"TEMPORAL_TLS_SERVER_CA_CERT_DATA": text})
    assert isinstance(place.tls, TLSConfig)
    assert place.tls.server_root_ca_cert == PEM.strip().encode()


def test_certificates_come_as_files(tmp_path: Path) -> None:
    for name in ("cert", "key"):
        (tmp_path / name).write_text(f"{name} {PEM}")
    place = endpoint(
        TemporalSettings(),
        {
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(tmp_path / "cert"),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(tmp_path / "key"),
        },
    )
    assert isinstance(place.tls, TLSConfig)
    assert place.tls.client_cert == f"cert {PEM}".encode()
    assert place.tls.client_private_key == f"key {PEM}".encode()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"TEMPORAL_TLS": "banana"}, "TEMPORAL_TLS must be true or false"),
        ({"TEMPORAL_TLS_CLIENT_KEY_DATA": "c2VjcmV0"}, "TEMPORAL_TLS_CLIENT_KEY_DATA is neither"),
        ({"TEMPORAL_TLS_CLIENT_KEY_DATA": "sécret"}, "TEMPORAL_TLS_CLIENT_KEY_DATA is neither"),
        ({"TEMPORAL_TLS_CLIENT_CERT_PATH": "/no/such"}, "cannot read /no/such"),
        ({"TEMPORAL_PROFILE": "missing"}, "Profile 'missing' not found"),
        (
            {"TEMPORAL_TLS_CLIENT_CERT_PATH": "x", "TEMPORAL_TLS_CLIENT_CERT_DATA": PEM},
            "TEMPORAL_TLS_CLIENT_CERT_PATH and TEMPORAL_TLS_CLIENT_CERT_DATA",
        ),
    ],
)
def test_wrong_access_is_named(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        endpoint(TemporalSettings(), variables)


def test_faults_are_named_by_the_prefix_they_were_read_with() -> None:
    variables = {"SOURCE_TEMPORAL_TLS_CLIENT_CERT_PATH": "x"}
    variables["SOURCE_TEMPORAL_TLS_CLIENT_CERT_DATA"] = PEM
    with pytest.raises(ConfigurationError, match="both SOURCE_TEMPORAL_TLS_CLIENT_CERT_PATH"):
        access(variables, prefix="SOURCE_TEMPORAL_", disable_file=True)


def test_a_profile_says_what_settings_leave_open(tmp_path: Path) -> None:
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.cloud]\naddress = "cloud:7233"\nnamespace = "shop"\napi_key = "k"\n')
    variables = {"TEMPORAL_CONFIG_FILE": str(file), "TEMPORAL_PROFILE": "cloud"}
    place = endpoint(TemporalSettings(), variables)
    assert (place.address, place.namespace, place.api_key) == ("cloud:7233", "shop", "k")
    place = endpoint(TemporalSettings(host="here", namespace="mine"), variables)
    assert (place.address, place.namespace, place.api_key) == ("here:7233", "mine", "k")


def test_secrets_stay_out_of_messages(tmp_path: Path) -> None:
    place = endpoint(TemporalSettings(), {"TEMPORAL_API_KEY": "s3cret"})
    assert "s3cret" not in f"{place!r} {place}"
    file = tmp_path / "temporal.toml"
    file.write_text("[profile.default]\napi_key = s3cret\n")
    with pytest.raises(ConfigurationError) as caught:
        endpoint(TemporalSettings(), {"TEMPORAL_CONFIG_FILE": str(file)})
    assert "s3cret" not in str(caught.value)


def test_access_may_stand_in_a_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TEMPORAL_API_KEY=from-file\nTEMPORAL_TLS=\n")
    assert endpoint(TemporalSettings()).api_key == "from-file"


def test_payload_keys_are_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_converter().payload_codec is None
    monkeypatch.setenv("ETL_PAYLOAD_KEYS", f"k1:{generate_key()}")
    assert data_converter().payload_codec is not None
    monkeypatch.setenv("ETL_PAYLOAD_KEYS", "a:c2VjcmV0")
    with pytest.raises(ConfigurationError, match="ETL_PAYLOAD_KEYS"):
        data_converter()


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        (
            "127.0.0.1:1",
            TemporalUnavailableError,
            r"no Temporal server answers at 127.0.0.1:1 \(TEM",
        ),
        ("no-such-host.invalid:7233", TemporalUnavailableError, "name is not known"),
        ("a b", ConfigurationError, "TEMPORAL_ADDRESS must be host:port"),
    ],
)
async def test_a_command_hears_at_once_that_nothing_answers(
    address: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        await connect.connect(TemporalSettings(address=address))


class Attempts:
    """Stands in for the connection: fails as listed, then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.pauses: list[float] = []
        self.client = object.__new__(Client)

    async def open_client(self, target: Endpoint, **options: object) -> Client:
        del target, options
        if self.failures:
            raise self.failures.pop(0)
        return self.client

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


async def test_a_service_waits_longer_and_longer_until_the_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = Attempts(*(TemporalUnavailableError("away") for _ in range(7)))
    monkeypatch.setattr(connect, "open_client", attempts.open_client)
    client = await connect_patiently(TemporalSettings(), pause=attempts.pause)
    assert client is attempts.client
    assert attempts.pauses == [1, 2, 4, 8, 16, 30, 30]


async def test_a_service_does_not_wait_for_what_a_person_must_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attempts = Attempts(TemporalUnavailableError("away"), CredentialsError("refused"))
    monkeypatch.setattr(connect, "open_client", attempts.open_client)
    with pytest.raises(CredentialsError):
        await connect_patiently(TemporalSettings(), pause=attempts.pause)
    assert attempts.pauses == [1]


@pytest.mark.parametrize(("patience", "waits"), [(timedelta(minutes=2), 1), (timedelta(0), 0)])
async def test_a_service_waits_a_while_for_a_new_servers_namespace(
    monkeypatch: pytest.MonkeyPatch, patience: timedelta, waits: int
) -> None:
    attempts = Attempts(UnknownNamespaceError("not yet"))
    monkeypatch.setattr(connect, "open_client", attempts.open_client)
    monkeypatch.setattr(connect, "NAMESPACE_PATIENCE", patience)
    if waits:
        await connect_patiently(TemporalSettings(), pause=attempts.pause)
    else:
        with pytest.raises(UnknownNamespaceError):
            await connect_patiently(TemporalSettings(), pause=attempts.pause)
    assert len(attempts.pauses) == waits


@pytest.mark.parametrize(("chosen", "hinted"), [({}, True), ({"host": "127.0.0.1"}, False)])
async def test_where_nobody_chose_an_address_a_stack_may_be_kept_elsewhere(
    chosen: dict[str, str], *, hinted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ETL_DATA_DIR", raising=False)
    settings = TemporalSettings.model_validate({"port": 1, **chosen})
    with pytest.raises(TemporalUnavailableError, match="no Temporal server answers") as told:
        await connect.connect(settings)
    assert ("name the folder of one that runs: ETL_DATA_DIR" in str(told.value)) is hinted
    monkeypatch.setenv("ETL_DATA_DIR", "/data/warehouse")
    with pytest.raises(TemporalUnavailableError, match="no Temporal server answers") as told:
        await connect.connect(settings)
    assert str(told.value).endswith("no `etl up` runs on /data/warehouse (ETL_DATA_DIR)") is hinted


def test_a_workflow_that_a_newer_server_calls_paused_is_open() -> None:
    """The SDK's own class refuses the number, and with it a whole page of a list."""
    status = WorkflowExecutionStatus(ServerStatus.WORKFLOW_EXECUTION_STATUS_PAUSED)
    assert status == WorkflowExecutionStatus.RUNNING
    assert status not in closings()
    with pytest.raises(ValueError, match="99"):
        WorkflowExecutionStatus(99)
