import pytest

from temporaletl.errors import DuplicateStrategyError, UnknownSourceError
from temporaletl.registry import Registry


@pytest.fixture
def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    registry.register("red", 1, place="paint.py:1")
    registry.register("blue", 2, place="paint.py:9")
    return registry


def test_what_is_registered_is_found(colours: Registry[int]) -> None:
    assert colours.get("red") == 1
    assert "red" in colours
    assert "green" not in colours
    assert colours.place("blue") == "paint.py:9"


def test_a_taken_name_is_refused_with_both_places(colours: Registry[int]) -> None:
    with pytest.raises(DuplicateStrategyError) as refused:
        colours.register("red", 3, place="other.py:5")
    assert str(refused.value) == (
        "colour 'red' is registered twice: in paint.py:1 and in other.py:5"
    )
    assert colours.get("red") == 1


def test_an_unknown_name_is_answered_with_the_known_ones(colours: Registry[int]) -> None:
    with pytest.raises(UnknownSourceError, match=r"'green'; known: blue, red; .* restart"):
        colours.get("green")


def test_an_empty_registry_says_that_it_knows_none() -> None:
    with pytest.raises(UnknownSourceError, match="known: none"):
        Registry[int]("colour").get("red")


def test_the_place_of_an_unknown_name_is_an_unknown_name(colours: Registry[int]) -> None:
    with pytest.raises(UnknownSourceError, match="green"):
        colours.place("green")


def test_names_come_in_order(colours: Registry[int]) -> None:
    assert list(colours) == ["blue", "red"]
