"""Secrets in files: read as variables are, refused in one line, replaced while all goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from pydantic import Field, SecretStr

from temporaletl import ConfigurationError, CredentialsError
from temporaletl.bound_connection import bound
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import WarehouseCredentialsError
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.temporal_settings import source_settings
from temporaletl.secrets import REDACTED, redacted
from temporaletl.setting_catalogue import platform_settings, settings_of_source
from temporaletl.settings.environment import Settings, given_variables
from temporaletl.settings.platform import TemporalSettings
from temporaletl.settings.secret_files import replaced_since
from temporaletl.temporal.attempts import recovery_of, unless_replaced
from temporaletl.temporal.endpoint import endpoint
from temporaletl.worker.pipelines.secrets import SecretStore
from tests.unit.settings_loading import loader
from tests.unit.test_cli import Etl, etl

__all__ = ["etl"]

SECRET = "a-canary-in-a-file"


class _Shop(Settings):
    free_secrets = frozenset({"password"})

    token: SecretStr | None = Field(None, validation_alias="SHOP_TOKEN", description="the token")
    password: SecretStr | None = Field(None, validation_alias="SHOP_PASSWORD")


type Load = Callable[..., _Shop]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    return loader(_Shop, monkeypatch, tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    return tmp_path / "secret"


def test_every_secret_setting_can_be_in_a_file() -> None:
    settings = [platform_settings(), *(settings_of_source(name) for name in known_planners())]
    without = {one.names[0] for each in settings for one in each if one.secret and not one.files}
    # One whose file has keys by lines, and is read otherwise; the others have a path beside them.
    assert without == {
        "ETL_PAYLOAD_KEYS",
        "TEMPORAL_TLS_CLIENT_KEY_DATA",
        "SOURCE_TEMPORAL_TLS_CLIENT_KEY_DATA",
    }


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"])
def test_a_secret_is_read_from_its_file_and_kept_in(
    load: Load, tmp_path: Path, begin: str, end: str
) -> None:
    (tmp_path / "secret").write_text(begin + SECRET + end, "utf-8", newline="")
    token = load(SHOP_TOKEN_FILE="secret").token
    assert token is not None
    assert token.get_secret_value() == SECRET
    assert redacted(f"no {SECRET}") == f"no {REDACTED}"


@pytest.mark.parametrize(
    ("held", "variables", "said"),
    [
        (SECRET, {"SHOP_TOKEN": "x"}, "SHOP_TOKEN and SHOP_TOKEN_FILE are both set: unset one"),
        (None, {}, "SHOP_TOKEN_FILE: cannot read {file}: No such file or directory"),
        ("\n", {}, "SHOP_TOKEN_FILE: {file} is empty"),
        (f"{SECRET}\nb", {}, "SHOP_TOKEN_FILE: what {file} holds is wrong: holds a character that"),
        (f"{SECRET}\udcff", {}, "SHOP_TOKEN_FILE: cannot read {file}: it is no text"),
    ],
)
def test_a_file_that_is_no_good_is_refused_in_one_line_without_what_it_holds(
    load: Load, tmp_path: Path, held: str | None, variables: dict[str, str], said: str
) -> None:
    file = tmp_path / "secret"
    if held is not None:
        file.write_bytes(held.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError) as raised:
        load(variables, SHOP_TOKEN_FILE=str(file))
    assert str(raised.value).startswith(said.format(file=file))
    assert "\n" not in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_secret_that_was_pasted_in_the_place_of_its_path_is_not_repeated(load: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the file that it names: No such"):
        load(SHOP_TOKEN_FILE=SECRET)
    assert redacted(SECRET) == REDACTED


def test_dotenv_may_name_the_file_and_what_is_given_hides_both(
    load: Load, tmp_path: Path, file: Path
) -> None:
    (tmp_path / ".env").write_text(f"shop_token_file={file.name}\nSHOP_PASSWORD=p\n")
    with given_variables({"SHOP_PASSWORD": "q"}):
        found = load()
    assert found.token == SecretStr(SECRET)
    assert found.password == SecretStr("q")
    with given_variables({"SHOP_TOKEN": "given"}):
        assert load().token == SecretStr("given")


def test_settings_are_renewed_from_files_and_keep_what_was_there_while_one_is_gone(
    load: Load, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = load(SHOP_TOKEN_FILE=str(file), SHOP_PASSWORD="p")
    began = monotonic()
    assert loaded.renewed() == loaded
    assert not replaced_since(began)
    file.write_text("another-canary\n")
    assert loaded.renewed().token == SecretStr("another-canary")
    assert loaded.renewed().password == SecretStr("p")
    assert replaced_since(began)
    assert not replaced_since(monotonic())
    file.unlink()
    assert loaded.renewed().token == load(SHOP_TOKEN_FILE=str(file)).token
    (warning,) = caplog.messages
    assert f"SHOP_TOKEN_FILE: cannot read {file}: No such file" in warning
    assert "canary" not in redacted(warning)


@pytest.mark.parametrize("kind", [CredentialsError, WarehouseCredentialsError])
def test_credentials_that_were_refused_while_their_file_was_replaced_are_tried_again(
    kind: type[CredentialsError], load: Load, file: Path
) -> None:
    load(SHOP_TOKEN_FILE=str(file))
    began, refused = monotonic(), kind("refused")
    assert unless_replaced(refused, began) is refused
    file.write_text("a-new-one")
    again = unless_replaced(refused, began)
    assert not recovery_of(again, attempt=1, limit=20).final
    assert "replaced meanwhile" in str(again)
    assert unless_replaced(again, began) is again
    assert recovery_of(unless_replaced(refused, monotonic()), attempt=1, limit=20).final


def test_a_named_connection_reads_no_file_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    connections = tmp_path / "connections.toml"
    connections.write_text(
        '[acme]\nsource = "jira"\nJIRA_URL = "https://acme.example.com"\n'
        f'JIRA_PERSONAL_TOKEN = {{ file = "{file}" }}\n'
        '[other]\nsource = "temporal"\nSOURCE_TEMPORAL_NAMESPACES = "n"\n'
        f'SOURCE_TEMPORAL_GRPC_META_X_FILE = {{ env = "A_PATH" }}\n'
    )
    known_planners()
    monkeypatch.setenv("ETL_CONNECTIONS", str(connections))
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN_FILE", "/nowhere/at-all")
    monkeypatch.setenv("A_PATH", str(file))
    with bound("jira", "acme"):
        assert JiraSettings.load().personal_token == SecretStr(SECRET)
    with bound("jira", "default"), pytest.raises(ConfigurationError, match="PERSONAL_TOKEN_FILE"):
        JiraSettings.load()
    with bound("temporal", "other"):
        assert SECRET not in str(source_settings()[1].rpc_metadata)


def test_temporals_credentials_are_in_files_and_read_again(tmp_path: Path, file: Path) -> None:
    (tmp_path / "region").write_text("north\n")
    variables = {
        "TEMPORAL_API_KEY_FILE": str(file),
        "TEMPORAL_GRPC_META_X_REGION_FILE": str(tmp_path / "region"),
    }
    first = endpoint(TemporalSettings(), variables)
    assert (first.api_key, first.tls) == (SECRET, True)
    assert first.rpc_metadata == {"x-region": "north"}
    assert first.reread is not None
    file.write_text("another")
    assert first.reread().api_key == "another"
    assert endpoint(TemporalSettings(), {"TEMPORAL_API_KEY": "a"}).reread is None
    with pytest.raises(ConfigurationError, match="TEMPORAL_API_KEY_FILE are both set"):
        endpoint(TemporalSettings(), {**variables, "TEMPORAL_API_KEY": "b"})


def test_a_pipelines_secret_is_in_one_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINE_SECRET_SHOP_FILE", str(file))
    assert SecretStore().read("shop") == SECRET
    monkeypatch.setenv("PIPELINE_SECRET_SHOP", "x")
    with pytest.raises(ConfigurationError, match="are both set"):
        SecretStore().read("shop")


def test_etl_settings_shows_the_file_of_a_secret_and_what_is_wrong_with_it(
    etl: Etl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JIRA_API_TOKEN_FILE", str(file))
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN_FILE", str(tmp_path / "absent"))
    monkeypatch.setenv("TEMPORAL_API_KEY_FILE", str(file))
    _, out, _ = etl("settings", "--json")
    listed = json.loads(out)
    of = {one["name"]: one for one in listed["settings"]}
    for name in ("JIRA_API_TOKEN", "TEMPORAL_API_KEY"):
        shown = [of[name][key] for key in ("value", "origin", "fault")]
        assert shown == ["[redacted]", f"file {file}", None]
    assert "absent: No such file" in of["JIRA_PERSONAL_TOKEN"]["fault"]
    assert listed["unknown"] == []
    monkeypatch.setenv("JIRA_API_TOKEN", "x")
    _, out, _ = etl("settings", "jira", "--set-only")
    assert "JIRA_API_TOKEN is set, too: unset one of them" in " ".join(out.split())
    assert "canary" not in out
