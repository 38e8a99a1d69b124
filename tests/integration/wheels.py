"""Sources that other wheels bring, without installing any."""

from pathlib import Path


def publish(folder: Path, source: str, module: str) -> None:
    """Let whoever has `folder` on the path find a source by its entry point, as after a `pip`."""
    wheel = folder / f"{source}_source-1.0.dist-info"
    wheel.mkdir(parents=True)
    (wheel / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {source}-source\nVersion: 1.0\n")
    (wheel / "entry_points.txt").write_text(f"[temporaletl.sources]\n{source} = {module}\n")
