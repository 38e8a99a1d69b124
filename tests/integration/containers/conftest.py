"""A container engine for the tests of a session, with the base images."""

from collections.abc import Iterator

import pytest

from tests.integration.containers.engine import (
    Engine,
    import_base_images,
    missing,
    running_engine,
)


@pytest.fixture(scope="session")
def bare_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has the images which ours are built from."""
    if reason := missing():
        pytest.skip(reason)
    with running_engine(tmp_path_factory.mktemp("engine")) as one:
        import_base_images(one, tmp_path_factory.mktemp("base"))
        yield one
