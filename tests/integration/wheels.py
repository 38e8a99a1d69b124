"""Sources of other wheels, found by their entry point without an installation."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def installed(folder: Path, source: str, module: str) -> Iterator[None]:
    """Put a source's entry point on the path, as `pip install` does, until the block ends."""
    wheel = folder / f"{source}_source-1.0.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {source}-source\nVersion: 1.0\n")
    (wheel / "entry_points.txt").write_text(f"[temporaletl.sources]\n{source} = {module}\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
