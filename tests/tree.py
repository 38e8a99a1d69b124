"""A folder with all that it holds, to be compared with what it held before."""

from pathlib import Path


def tree(folder: Path) -> dict[str, str | bytes]:
    """The content of each file, and the kind of everything else, by its path."""
    return {
        path.relative_to(folder).as_posix(): _content(path) for path in sorted(folder.rglob("*"))
    }


def _content(path: Path) -> str | bytes:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return path.read_bytes() if path.is_file() else "folder"
