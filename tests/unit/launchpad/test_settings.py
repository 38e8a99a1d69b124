"""The settings of Launchpad: which one, as whom, whose work."""

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from launchpadlib.uris import service_roots  # type: ignore[import-untyped]

from temporaletl import ConfigurationError
from temporaletl.external.launchpad.settings import LaunchpadSettings, budget
from temporaletl.external.launchpad.site import close_sites, open_site
from tests.unit.settings_loading import loader

TOKEN = {
    "LP_CONSUMER_KEY": "my-app",
    "LP_ACCESS_TOKEN_KEY": "k3y-of-mine",
    "LP_ACCESS_TOKEN_SECRET": "s3cret-of-mine",
}

Load = Callable[..., LaunchpadSettings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    return loader(LaunchpadSettings, monkeypatch, tmp_path)


def test_without_any_setting_production_is_read_anonymously(load: Load) -> None:
    settings = load()
    assert settings.anonymous
    assert settings.service_root == "https://api.launchpad.net/"
    assert settings.members == settings.targets == ()


def test_the_services_have_the_names_that_launchpadlib_gives_them(load: Load) -> None:
    names = service_roots.keys() - {"edge"}
    loaded = {name: load(LP_SERVICE_ROOT=name).service_root for name in names}
    assert loaded == {name: service_roots[name] for name in names}


@pytest.mark.parametrize("missing", TOKEN)
def test_a_token_in_part_names_what_is_missing(load: Load, missing: str) -> None:
    given = {name: value for name, value in TOKEN.items() if name != missing}
    with pytest.raises(ConfigurationError, match=f"^{missing} missing") as caught:
        load(**given)
    reason = "".join(traceback.format_exception(caught.value))
    assert not any(value in reason for value in given.values() if value != "my-app")


def test_a_whole_token_is_kept_out_of_sight(load: Load) -> None:
    settings = load(**TOKEN)
    assert not settings.anonymous
    assert "of-mine" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "root", "instance"),
    [
        ("production", "https://api.launchpad.net/", "production"),
        ("staging", "https://api.staging.launchpad.net/", "staging"),
        ("https://api.staging.launchpad.net", "https://api.staging.launchpad.net/", "staging"),
        ("qastaging", "https://api.qastaging.launchpad.net/", "qastaging"),
        ("dogfood", "https://api.dogfood.paddev.net/", "dogfood"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", None),
        ("https://lp.example/", "https://lp.example/", None),
    ],
)
def test_a_service_root_is_a_name_or_an_address(
    load: Load, given: str, root: str, instance: str | None
) -> None:
    settings = load(LP_SERVICE_ROOT=given)
    assert (settings.service_root, settings.instance) == (root, instance)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("prod", "be one of"),
        ("ftp://api.launchpad.net", "be one of"),
        ("https://api.launchpad.net/1.0/", "without the version"),
        ("https://api.launchpad.net/devel", "without the version"),
        ("https://me:pass@api.launchpad.net", "without credentials"),
    ],
)
def test_another_service_root_is_refused_with_the_reason(
    load: Load, given: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"LP_SERVICE_ROOT is wrong: .*{reason}"):
        load(LP_SERVICE_ROOT=given)


def test_names_are_separated_by_commas_or_blanks_with_or_without_a_tilde(load: Load) -> None:
    settings = load(LP_MEMBERS="~zoe, ann\n Bob,,ann", LP_TARGETS="ubuntu/+source/bash  /alpha/")
    assert settings.members == ("ann", "bob", "zoe")
    assert settings.targets == ("alpha", "ubuntu/+source/bash")


@pytest.mark.parametrize("name", ["LP_MEMBERS", "LP_TARGETS"])
def test_what_is_no_name_is_refused(load: Load, name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} is wrong: 'https://launchpad.net/\?x'"):
        load(**{name: "https://launchpad.net/?x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LP_PAGE_SIZE", "0"),
        ("LP_PAGE_SIZE", "301"),
        ("LP_REQUESTS_PER_SECOND", "0"),
        ("LP_REQUESTS_PER_SECOND", "nan"),
        ("LP_CONCURRENCY", "many"),
    ],
)
def test_numbers_out_of_range_are_named(load: Load, name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load(**{name: value})


def test_the_rate_comes_from_the_settings(load: Load) -> None:
    load(LP_REQUESTS_PER_SECOND="3")
    assert budget().requests_per_second == 3


def test_equal_settings_share_one_site(load: Load) -> None:
    one, other = load(**TOKEN), load()
    try:
        assert open_site(one) is open_site(one)
        assert open_site(one) is not open_site(other)
    finally:
        close_sites()
