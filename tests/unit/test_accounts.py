"""What an account sees, against the widest view under which rows were loaded."""

import pytest

from temporaletl.accounts import AccountView, KnownView

KNOWN = KnownView(frozenset({"me"}), frozenset({"browse"}), frozenset({"A", "B"}))


def view(containers: str, asked_for: str | None = None, account: str = "me") -> AccountView:
    wanted = None if asked_for is None else frozenset(asked_for)
    return AccountView(account, frozenset({"browse"}), frozenset(containers), wanted)


@pytest.mark.parametrize(
    "present", [view("AB"), view("ABC"), view("A", asked_for="A"), view("", asked_for="")]
)
def test_a_view_of_all_that_is_asked_for_lacks_nothing(present: AccountView) -> None:
    assert KNOWN.lacks(present) is None


@pytest.mark.parametrize("present", [view("A"), view("A", asked_for="AB"), view("", "A")])
def test_what_is_asked_for_and_not_seen_any_more_is_lacking(present: AccountView) -> None:
    assert "lacks 1 of the" in str(KNOWN.lacks(present))


def test_another_account_is_told_by_its_name() -> None:
    assert "now it is 'you'" in str(KNOWN.lacks(view("AB", account="you")))


def test_an_account_that_the_source_does_not_name_lacks_only_what_a_named_one_loaded() -> None:
    untold = AccountView(None, frozenset({"browse"}), frozenset("AB"))
    assert "now the source names none" in str(KNOWN.lacks(untold))
    assert KnownView(frozenset(), frozenset(), frozenset()).lacks(untold) is None


@pytest.mark.parametrize(
    ("known", "present", "other"),
    [
        ("cloud 1", "cloud 2", True),
        ("cloud 1", "cloud 1", False),
        ("cloud 1", "server 2", False),  # which cannot be compared
        ("namespace:a 1, namespace:b 2", "namespace:b 3, namespace:c 1", True),
        ("namespace:a 1, namespace:b 2", "namespace:b 2, namespace:c 1", False),
        (None, "cloud 1", False),
        ("cloud 1", None, False),
    ],
)
def test_two_sites_are_told_apart_by_ids_of_one_kind(
    known: str | None, present: str | None, other: bool
) -> None:
    loaded = KnownView(frozenset(), frozenset(), frozenset(), known)
    assert loaded.is_of_other_site(AccountView("me", site=present)) is other
