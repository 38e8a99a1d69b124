"""Former names of the suite's classes, methods and attribute work, and name their successors."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from temporaletl import testing
from temporaletl.testing import FakeSourceFixture, SourceFixture, SourceSuite
from temporaletl.testing.fakes import FakeServer, Faults, Request, Response, Traffic


class Silent:
    """A service that has nothing to say."""

    own_faults: dict[str, str] = {}  # noqa: RUF012 - as the protocol has it

    def bind(self, base_url: str, faults: Faults) -> None:
        """Take no notice of where it is served."""

    def refuse(self, status: int) -> Response:
        return Response(status)

    def answer(self, request: Request) -> Response:  # noqa: ARG002
        return Response(200)


class Served(FakeSourceFixture):
    source = "silent"

    def make_server(self) -> FakeServer:
        return FakeServer(Silent())

    def environment(self, url: str) -> Mapping[str, str]:
        return {"SILENT_URL": url}


def former_fixture() -> Any:
    """A fixture as its author wrote it with the former names, base class included."""
    with pytest.warns(DeprecationWarning, match="is now called") as caught:

        class Former(getattr(testing, "FakeRig")):  # type: ignore[misc] # noqa: B009
            source = "silent"

            def make_server(self) -> FakeServer:
                return FakeServer(Silent())

            def environment(self, url: str) -> Mapping[str, str]:
                return {"SILENT_URL": url}

            def truth(self) -> Mapping[str, int]:
                return {"all": 1}

            def spoil(self) -> None:
                self.spoilable.rewrites.append((b"a", b"b"))

            def strike(self, fault: str) -> None:
                super().strike(fault.replace("any", "reset"))

            def mend(self) -> None:
                super().mend()

    texts = [str(warning.message) for warning in caught]
    for current in ("FakeSourceFixture", "expected", "corrupt", "inject_fault", "restore"):
        assert any(text.endswith(f" is now called {current}") for text in texts), current
    assert {warning.filename for warning in caught} == {__file__}
    return Former


@pytest.mark.parametrize(
    ("former", "current"), [("Rig", SourceFixture), ("FakeRig", FakeSourceFixture)]
)
def test_a_former_class_name_is_the_class(former: str, current: type) -> None:
    with pytest.warns(
        DeprecationWarning, match=f"testing.{former} is now called {current.__name__}"
    ):
        assert getattr(testing, former) is current


def test_an_unknown_name_is_none_of_the_suite() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Bench'"):
        getattr(testing, "Bench")  # noqa: B009


def test_a_fixture_with_former_method_names_serves_the_suite() -> None:
    fixture = former_fixture()()
    serving: Iterator[Mapping[str, str]] = fixture.serve()
    next(serving)
    assert fixture.expected() == {"all": 1}
    with pytest.warns(DeprecationWarning, match="spoilable is now called corruptible"):
        fixture.corrupt()
    assert fixture.corruptible.rewrites == [(b"a", b"b")]
    with pytest.warns(DeprecationWarning, match="strike is now called inject_fault"):
        fixture.inject_fault("any:1")
    assert fixture.server.faults.rate("reset") == 1
    with pytest.warns(DeprecationWarning, match="mend is now called restore"):
        fixture.restore()
    assert fixture.corruptible.rewrites == []
    assert fixture.clear_faults() == 0
    next(serving, None)


def test_a_former_method_name_calls_what_a_fixture_defines_under_the_current_one() -> None:
    class Current(Served):
        def corrupt(self) -> None:
            self.done = True

    fixture: Any = Current()
    with pytest.warns(DeprecationWarning, match="spoil is now called corrupt"):
        fixture.spoil()
    assert fixture.done


def test_the_requests_of_a_fake_have_a_former_name() -> None:
    with pytest.warns(DeprecationWarning, match="asked is now called requested"):
        assert Traffic().asked("/") == []


def test_a_suite_with_the_former_attribute_has_its_fixture() -> None:
    with pytest.warns(DeprecationWarning, match="Former.rig is now called fixture") as caught:

        class Former(SourceSuite):
            rig = Served

    assert Former.fixture is Served
    assert {warning.filename for warning in caught} == {__file__}
