"""How an author installs a package, in the Python that runs this command."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

#: The first pip that knows dependency groups.
_PIP = (25, 1)
_MEANING = "beside TemporalETL, which finds it now"

type Step = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Installers:
    """What a Python has to install packages with."""

    python: str  # as one calls it
    path: str
    pip: str | None = None  # its version
    uv: bool = False
    ensurepip: bool = False


def installers() -> Installers:
    """What the running Python has."""
    try:
        pip = version("pip")
    except PackageNotFoundError:
        pip = None
    found = shutil.which("python")
    # Not resolved: an environment's python links to that of all others.
    same = found is not None and Path(found).absolute() == Path(sys.executable).absolute()
    return Installers(
        python="python" if same else shlex.quote(sys.executable),
        path=shlex.quote(sys.executable),
        pip=pip,
        uv=shutil.which("uv") is not None,
        ensurepip=find_spec("ensurepip") is not None,
    )


def install_steps(there: Installers) -> tuple[Step, ...]:
    """The commands that install the package of the present folder, each with its meaning."""
    by_pip = (f"{there.python} -m pip install -e . --group dev", _MEANING)
    by_uv = (f"uv pip install --python {there.path} -e . --group dev", _MEANING)
    newer = (
        f"{there.python} -m pip install --upgrade 'pip>=25.1'",
        f"pip {there.pip or 'of ensurepip'} may not know --group",
    )
    if there.pip and _knows_groups(there.pip):
        return (by_pip,)
    if there.uv:
        return (by_uv,)
    if there.pip:
        return (newer, by_pip)
    if there.ensurepip:
        return ((f"{there.python} -m ensurepip", "this Python has no pip"), newer, by_pip)
    return (("install uv", "this Python has no pip: https://docs.astral.sh/uv"), by_uv)


def _knows_groups(pip: str) -> bool:
    numbers = [int(part) if part.isdigit() else 0 for part in pip.split(".")[:2]]
    return tuple(numbers) >= _PIP
