import os
from datetime import timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from temporaletl.errors import ConfigurationError
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings.environment import given_variables
from temporaletl.settings.fields import FieldSettings
from temporaletl.settings.platform import (
    Settings,
    TemporalSettings,
    WaitSettings,
    WarehouseSettings,
    WorkerSettings,
)

SECRET = "s3cret-word"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, no `.env`, and the variables of other programs set to mislead."""
    for name in os.environ:
        if name.startswith(("TEMPORAL_", "WPE_", "ETL_", "DATABASE_", "SLACK_", "NOTIFY_")):
            monkeypatch.delenv(name)
    for name in ("HOST", "USER", "NAME", "PORT", "PASSWORD", "NAMESPACE", "ADDRESS"):
        monkeypatch.setenv(name, "7")
    monkeypatch.chdir(tmp_path)


def parts(settings: WarehouseSettings) -> dict[str, object]:
    return dict(conninfo_to_dict(settings.conninfo().get_secret_value()))


def test_nothing_set_means_a_server_on_this_machine() -> None:
    settings = TemporalSettings.load()
    assert settings.target == "127.0.0.1:7233"
    assert settings.namespace == "default"
    assert settings.queuer_queue == "etl-queuer-queue"
    assert settings.worker_queue == "etl-worker-queue"


def test_variables_of_other_programs_are_not_ours(tmp_path: Path) -> None:
    """An environment's USER is not the warehouse's, nor is one in a shared `.env`."""
    (tmp_path / ".env").write_text("USER=somebody\nHOST=elsewhere\nPASSWORD=theirs\n")
    warehouse = WarehouseSettings.load()
    assert (warehouse.host, warehouse.user, warehouse.password) == (None, "postgres", None)
    assert TemporalSettings.load() == TemporalSettings()


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({"TEMPORAL_ADDRESS": "temporal:7000"}, "temporal:7000"),
        ({"TEMPORAL_HOST": "temporal"}, "temporal:7233"),
        ({"TEMPORAL_HOST": "temporal", "TEMPORAL_PORT": "7000"}, "temporal:7000"),
        ({"TEMPORAL_HOST": "temporal:7001", "TEMPORAL_PORT": "7000"}, "temporal:7001"),
        ({"TEMPORAL_ADDRESS": "a:1", "TEMPORAL_HOST": "b:2", "TEMPORAL_PORT": "3"}, "a:1"),
        ({"TEMPORAL_PORT": "7000"}, "127.0.0.1:7000"),
    ],
)
def test_the_server_may_be_named_in_several_ways(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], target: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert TemporalSettings.load().target == target


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("TEMPORAL_NAMESPACE", "namespace"),
        ("TEMPORAL_QUEUE", "queuer_queue"),
        ("TEMPORAL_TASK_QUEUE", "queuer_queue"),
        ("TEMPORAL_ETL_QUEUE", "worker_queue"),
        ("TEMPORAL_MAX_CONCURRENT_WORKFLOWS", "max_concurrent_workflows"),
        ("TEMPORAL_MAX_CONCURRENT_ACTIVITIES", "max_concurrent_activities"),
        ("TEMPORAL_WORKFLOW_TIMEOUT_MINUTES", "workflow_timeout_minutes"),
        ("TEMPORAL_ACTIVITY_TIMEOUT_MINUTES", "activity_timeout_minutes"),
        ("TEMPORAL_ACTIVITY_MAX_RETRIES", "activity_max_retries"),
        ("TEMPORAL_WORKFLOW_INITIAL_INTERVAL_SECONDS", "initial_interval_seconds"),
        ("TEMPORAL_WORKFLOW_BACKOFF_COEFFICIENT", "backoff_coefficient"),
    ],
)
def test_each_variable_of_temporal_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, field: str
) -> None:
    monkeypatch.setenv(name, "31")
    assert str(getattr(TemporalSettings.load(), field)).removesuffix(".0") == "31"


def test_the_policy_of_a_batch_comes_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ACTIVITY_TIMEOUT_MINUTES", "2")
    monkeypatch.setenv("TEMPORAL_ACTIVITY_MAX_RETRIES", "3")
    monkeypatch.setenv("TEMPORAL_WORKFLOW_TIMEOUT_MINUTES", "90")
    policy = TemporalSettings.load().policy()
    assert policy.activity_timeout == timedelta(minutes=2)
    assert policy.max_attempts == 3
    assert policy.job_timeout == timedelta(minutes=90)


def test_the_warehouse_may_be_named_by_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("HOST", "NAME", "USER", "PASSWORD", "SCHEMA"):
        monkeypatch.setenv(f"WPE_DB_{part}", f"my {part.lower()}")
    monkeypatch.setenv("WPE_DB_PORT", "5433")
    settings = WarehouseSettings.load()
    assert parts(settings) == {
        "host": "my host",
        "port": "5433",
        "dbname": "my name",
        "user": "my user",
        "password": "my password",
    }
    assert settings.schema_name == "my schema"


def test_a_database_url_wins_over_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WPE_DB_HOST", "elsewhere")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:pass@db:5433/shop?sslmode=require")
    assert parts(WarehouseSettings.load()) == {
        "host": "db",
        "port": "5433",
        "dbname": "shop",
        "user": "me",
        "password": "pass",
        "sslmode": "require",
    }


def test_a_database_url_may_name_a_unix_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:@/shop?host=/tmp/socket")
    assert parts(WarehouseSettings.load())["host"] == "/tmp/socket"  # noqa: S108 - not opened


def test_a_bad_database_url_is_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"mysql://me:{SECRET}@db/shop")
    with pytest.raises(ConfigurationError, match="DATABASE_URL is not a PostgreSQL URL") as bad:
        WarehouseSettings.load().conninfo()
    assert SECRET not in str(bad.value)
    assert bad.value.__cause__ is None


def test_without_a_warehouse_the_error_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"set WPE_DB_HOST .*DATABASE_URL; `etl up`"):
        WarehouseSettings.load().conninfo()


def test_secrets_are_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WPE_DB_HOST", "db")
    monkeypatch.setenv("WPE_DB_PASSWORD", SECRET)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{SECRET}@db/shop")
    monkeypatch.setenv("SLACK_WEBHOOK_URL", f"https://hooks/{SECRET}")
    monkeypatch.setenv("NOTIFY_URLS", f"https://a/{SECRET}")
    warehouse, notification = WarehouseSettings.load(), NotificationSettings.load()
    for thing in (warehouse, notification, warehouse.conninfo()):
        assert SECRET not in f"{thing} {thing!r}"


def test_secrets_are_not_in_the_error_of_another_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WPE_DB_PASSWORD", SECRET)
    monkeypatch.setenv("WPE_DB_PORT", SECRET)
    with pytest.raises(ConfigurationError) as bad:
        WarehouseSettings.load()
    assert "WPE_DB_PORT is wrong" in str(bad.value)
    assert SECRET not in str(bad.value)
    assert bad.value.__suppress_context__


def test_a_wrong_value_is_named_with_its_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETL_REJECT_THRESHOLD", "7")
    monkeypatch.setenv("ETL_SEGMENT_SECONDS", "soon")
    with pytest.raises(ConfigurationError) as bad:
        WorkerSettings.load()
    segment, threshold = str(bad.value).split("; ")
    assert segment.startswith("ETL_SEGMENT_SECONDS is wrong: ")
    assert segment.endswith("(the longest one segment goes on)")
    assert threshold.startswith("ETL_REJECT_THRESHOLD is wrong: ")


def test_the_first_of_several_names_stands_for_a_wrong_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEMPORAL_PORT", "0")
    with pytest.raises(ConfigurationError, match="TEMPORAL_PORT is wrong"):
        TemporalSettings.load()


def test_a_missing_variable_is_named_with_its_use() -> None:
    from pydantic import Field  # noqa: PLC0415

    class ShopSettings(Settings):
        url: str = Field(validation_alias="SHOP_URL", description="where the shop is")

    with pytest.raises(ConfigurationError, match=r"^SHOP_URL is not set \(where the shop is\)$"):
        ShopSettings.load()


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "")
    monkeypatch.setenv("WPE_DB_PORT", "")
    monkeypatch.setenv("DATABASE_URL", "")
    assert TemporalSettings.load().namespace == "default"
    assert WarehouseSettings.load().port == 5432
    assert WarehouseSettings.load().database_url is None


def test_a_dotenv_file_is_read_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "TEMPORAL_TASK_QUEUE=from-file\nTEMPORAL_NAMESPACE=from-file\nWPE_DB_USER=\nOTHER=1\n"
    )
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "from-environment")
    settings = TemporalSettings.load()
    assert settings.queuer_queue == "from-file"
    assert settings.namespace == "from-environment"
    assert WarehouseSettings.load().user == "postgres"


def test_present_settings_are_read_anew_where_a_variable_is_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    variable = "ETL_LONGEST_WAIT_MINUTES"

    def minutes() -> float:
        assert WaitSettings.present() is WaitSettings.present()
        return WaitSettings.present().longest_wait_minutes

    found = [minutes()]
    (tmp_path / ".env").write_text(f"{variable}=9")
    found.append(minutes())
    monkeypatch.setenv(variable, "5")
    found.append(minutes())
    with given_variables({variable: "7"}):
        found.append(minutes())
    assert [*found, minutes()] == [60, 9, 5, 7, 5]


def test_present_settings_have_the_secret_that_its_file_has_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    monkeypatch.setenv("ETL_HASH_KEY_FILE", str(file))
    for key in ("first-key", "other-key"):
        file.write_text(key)
        found = FieldSettings.present().hash_key
        assert found is not None
        assert found.get_secret_value() == key


def test_code_may_name_fields() -> None:
    assert TemporalSettings(namespace="mine").namespace == "mine"
    assert TemporalSettings.model_validate({"worker_queue": "q"}).worker_queue == "q"


@pytest.mark.parametrize("text", ["inf", "nan", "-inf"])
def test_no_span_is_endless(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("ETL_SEGMENT_SECONDS", text)
    monkeypatch.setenv("ETL_HEARTBEAT_TIMEOUT_SECONDS", text)
    with pytest.raises(ConfigurationError, match="ETL_SEGMENT_SECONDS is wrong"):
        WorkerSettings.load()
    with pytest.raises(ConfigurationError, match="ETL_HEARTBEAT_TIMEOUT_SECONDS is wrong"):
        TemporalSettings.load()


@pytest.mark.parametrize("variable", ["SLACK_WEBHOOK_URL", "NOTIFY_URLS"])
@pytest.mark.parametrize(
    "text", [SECRET, f"https://a.test/x, http:///{SECRET}", f"http:///{SECRET}"]
)
def test_a_wrong_webhook_is_named_but_not_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(
        ConfigurationError, match=f"^{variable} is wrong: must be an address"
    ) as told:
        NotificationSettings.load()
    assert SECRET not in str(told.value)
