"""The connections file: odd ones are read or refused, and no secret pasted into one is repeated."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from temporaletl.bound_connection import bound
from temporaletl.connections.providers import load_connections
from temporaletl.errors import ConfigurationError
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.secrets import redacted
from tests.unit.connections_file import ACME, TOKEN, ConnectionsFile

_PASTED = [
    "ATATT3xFfGF0a1b2c3d4",
    "xoxb-123456-abcdef-pasted",
    "c2VjcmV0L3Rva2Vu/aGVyZQ==",
    "/9hc2VjcmV0K3Rva2VuPT0=",
    "-----BEGIN KEY-----\\nMIIEvQIBADANBg\\n-----END KEY-----",
    "secret of many words",
    "TOKEN=of-a-pasted-line",
    "nul\\u0000in-the-pasted-token",
    "long" * 100,
]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConnectionsFile:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_CONNECTIONS", "connections.toml")
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    made = ConnectionsFile(tmp_path / "connections.toml")
    made.write(ACME)
    return made


@pytest.mark.parametrize("kind", ["env", "file"])
@pytest.mark.parametrize("pasted", _PASTED, ids=range(len(_PASTED)))
def test_a_secret_that_stands_where_its_name_should_is_not_repeated(
    file: ConnectionsFile, kind: str, pasted: str
) -> None:
    file.write(ACME.replace('env = "ACME_TOKEN"', f'{kind} = "{pasted}"'))
    secret = pasted.replace("\\n", "\n").replace("\\u0000", "\0")
    with bound("jira", "acme"), pytest.raises(ConfigurationError) as error:
        JiraSettings.load()
    assert str(error.value).startswith("connections.toml: connection 'acme': JIRA_API_TOKEN: ")
    for text in (str(error.value), redacted(f"it was {secret}"), repr(error.value)):
        for part in secret.split():
            assert part not in text or part in ("of", "many")


@pytest.mark.parametrize("kind", ["env", "file"])
@pytest.mark.parametrize("text", ["", " ", "A=B", "9A", "A B", "Ä", "a\\u0000"])
def test_what_is_no_name_of_a_variable_and_no_path_is_refused(
    file: ConnectionsFile, kind: str, text: str
) -> None:
    file.write(ACME.replace('env = "ACME_TOKEN"', f'{kind} = "{text}"'))
    with bound("jira", "acme"), pytest.raises(ConfigurationError, match="JIRA_API_TOKEN: "):
        JiraSettings.load()


def test_a_variable_whose_name_is_no_secrets_is_named_where_it_is_not_set(
    file: ConnectionsFile,
) -> None:
    file.write(ACME.replace("ACME_TOKEN", "acme_token"))
    with bound("jira", "acme"), pytest.raises(ConfigurationError) as error:
        JiraSettings.load()
    assert str(error.value).endswith("the environment variable that it names is not set")


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_it(
    file: ConnectionsFile, tmp_path: Path
) -> None:
    text = ACME.replace('env = "ACME_TOKEN"', 'file = "token"')
    file.write(text.replace('"loader@acme.example.com"', '{ env = "ACME_EMAIL" }'))
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / ".env").write_text("ACME_EMAIL=loader@acme.example.com")
    for name in ("connections.toml", ".env", "token"):
        (tmp_path / name).write_text((tmp_path / name).read_text(), encoding="utf-8-sig")
    with bound("jira", "acme"):
        settings = JiraSettings.load()
    assert (settings.email, settings.api_token) == ("loader@acme.example.com", SecretStr(TOKEN))


@pytest.mark.parametrize("nested", ["[" * 5_000, "{ a = " * 5_000])
def test_a_setting_that_is_nested_without_end_is_refused(
    file: ConnectionsFile, nested: str
) -> None:
    file.write(ACME.replace("= 50", f"= {nested}"))
    with pytest.raises(ConfigurationError, match="nested too deep"):
        load_connections()
