"""Prepares and builds releases of the checkout that it is in: see scripts/release."""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("queuer", "worker", "api")
#: Wherever the version stands, the first of which the others agree with.
_STANDS = (
    ("pyproject.toml", r'^version = "(.+)"$'),
    ("uv.lock", r'^name = "temporaletl"\nversion = "(.+)"$'),
    ("deploy/chart/Chart.yaml", r"^(?:version|appVersion): (.+)$"),
    *((f"{service}/rockcraft.yaml", r'^version: "(.+)"$') for service in SERVICES),
    ("docker-compose.yml", r"\$\{TEMPORALETL_VERSION:-([^}]+)\}"),
    ("docs/containers.md", r"\btemporaletl-(?:queuer|worker|api):(\d[\w.]*\w)"),
    ("docs/install.md", r"\btemporaletl-(\d[\w.]*)-py3-none-any\.whl"),
)
_UNRELEASED = "## Unreleased\n"
#: What `rockcraft pack` reads.
_OF_ROCKS = ("LICENSE", "README.md", "pyproject.toml", "uv.lock", "scripts/start-worker.sh")
_OF_ROCKS_TREES = ("temporaletl", *SERVICES)
_CHART = "deploy/chart"


class RefusedError(Exception):
    """A release cannot be made of what is there; the message says what to do."""


# -- what is there -------------------------------------------------------------------------------


def git(*arguments: str) -> str:
    return run("git", *arguments).stdout.decode().strip()


def run(
    *command: str | Path, folder: Path = ROOT, given: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[bytes]":
    """A command that succeeds, or refuses the release with the end of what it says."""
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(given or {})}, capture_output=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        raise RefusedError(f"{Path(command[0]).name} failed: {said[-1500:] or done.returncode}")
    return done


def versions() -> dict[str, set[str]]:
    """The versions that each file names."""
    found = {}
    for file, pattern in _STANDS:
        found[file] = set(re.findall(pattern, (ROOT / file).read_text("utf-8"), re.MULTILINE))
        if not found[file]:
            raise RefusedError(f"{file} names no version any more: mend scripts/release.py")
    return found


def agreed_version() -> str:
    """The version, which all files name alike."""
    found = versions()
    (ours,) = found["pyproject.toml"]
    others = {file: named for file, named in found.items() if named != {ours}}
    if others:
        listed = "; ".join(f"{file}: {', '.join(sorted(named))}" for file, named in others.items())
        raise RefusedError(
            f"pyproject.toml has version {ours}, but {listed}: `scripts/release prepare VERSION` "
            "enters one everywhere"
        )
    return ours


def changes(version: str) -> str:
    """What CHANGELOG.md says of a version."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heading = rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d\n"
    section = re.search(rf"{heading}(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None or not section[1].strip():
        raise RefusedError(
            f"CHANGELOG.md says nothing of {version}: `scripts/release prepare {version}` gives it "
            "what stands under Unreleased"
        )
    return section[1].strip() + "\n"


def check_new(version: str) -> None:
    """Refuse a version that is no next one."""
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise RefusedError(f"{version} is no version of the form 1.2.3")
    tags = git("tag", "--list", "v*").splitlines()
    if f"v{version}" in tags:
        raise RefusedError(f"{version} is released: there is a tag v{version}. Take the next one")
    later = [tag for tag in tags if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]
    if later and _order(version) < max(map(_order, later)):
        raise RefusedError(f"{version} is before {max(later, key=_order)}, which is released")


def check_clean() -> None:
    if changed := git("status", "--porcelain"):
        some = ", ".join(line.split()[-1] for line in changed.splitlines()[:5])
        raise RefusedError(f"what is released is committed, but these are not: {some}")


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.removeprefix("v").split(".")))


# -- preparing -----------------------------------------------------------------------------------


def prepare(version: str) -> None:
    """Enter a version in the checkout, and freeze what is tested later; safe to repeat."""
    check_new(version)
    versions()
    for file, pattern in _STANDS:
        path = ROOT / file
        text = re.sub(
            pattern,
            lambda found: found[0].replace(found[1], version),
            path.read_text("utf-8"),
            flags=re.MULTILINE,
        )
        path.write_text(text, "utf-8")
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    if f"\n## {version} - " not in text:
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        entered = f"{_UNRELEASED}\n## {version} - {today}\n"
        changelog.write_text(text.replace(_UNRELEASED, entered, 1), "utf-8")
    changes(version)
    # The checkout's own code, wherever this Python has another one.
    pytest = (
        "-m",
        "pytest",
        "--quiet",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "--timeout=900",
    )
    ours = {"PYTHONPATH": str(ROOT), "RELEASE": version, "CI": "true"}
    run(sys.executable, *pytest, "tests/releases/freezing.py", given=ours)
    say(f"{version} is entered, and frozen in tests/releases/{version}: read it, and commit it.")


# -- building ------------------------------------------------------------------------------------


def build(folder: Path | None, image_tag: str | None, for_docker: Sequence[str]) -> None:
    """Build all files of the version that is committed, in a folder of their own."""
    check_clean()
    version = agreed_version()
    check_new(version)
    notes = changes(version)
    frozen = (sys.executable, "-m", "tests.releases.frozen", version)
    asked = subprocess.run(
        frozen,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=False,
    )
    if asked.returncode:
        stale = ", ".join(asked.stdout.decode().splitlines())
        raise RefusedError(
            f"tests/releases/{version} is not as the checkout is ({stale}): run "
            f"`scripts/release prepare {version}`, and commit it"
        )
    folder = (folder or ROOT / "dist" / f"temporaletl-{version}").absolute()
    if folder.exists():
        raise RefusedError(f"{folder} is there already: remove it, or name another one by --to")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        made, source = Path(scratch, "made"), Path(scratch, "source")
        made.mkdir()
        export(source)
        epoch = int(git("log", "-1", "--format=%ct"))
        build_distributions(source, made, epoch)
        chart, rocks = f"temporaletl-chart-{version}.tgz", f"temporaletl-rocks-{version}.tar.gz"
        archive(made / chart, "temporaletl", source / _CHART, files_in(source / _CHART), epoch)
        of_rocks = [Path(file) for file in _OF_ROCKS]
        for tree in _OF_ROCKS_TREES:
            of_rocks += [Path(tree) / file for file in files_in(source / tree)] or [Path(tree)]
        archive(made / rocks, f"temporaletl-rocks-{version}", source, of_rocks, epoch)
        write_sbom(source, made / f"temporaletl-{version}.cdx.json", epoch)
        (made / "NOTES.md").write_text(notes, "utf-8")
        build_images(source, made / "images.txt", image_tag or version, version, for_docker)
        sums = (f"{_sha256(file)}  {file.name}\n" for file in sorted(made.iterdir()))
        (made / "SHA256SUMS").write_text("".join(sums), "utf-8")
        made.rename(folder)
    say(*sorted(file.name for file in folder.iterdir()), sep="\n  ", begin=f"{folder}:\n  ")
    if image_tag is None:  # a dry run's commit goes with its clone
        commit = git("rev-parse", "HEAD")
        say(f"Nothing is published. `git tag --annotate v{version} {commit}` names what was built.")


def export(target: Path) -> None:
    """Write what is committed, and nothing else."""
    with tarfile.open(fileobj=io.BytesIO(run("git", "archive", "HEAD").stdout)) as tar:
        tar.extractall(target, filter="data")


def build_distributions(source: Path, made: Path, epoch: int) -> None:
    """The wheel and the source distribution, by the locked hatchling."""
    command = (sys.executable, "-m", "hatchling", "build", "-d", made, "-t", "wheel", "-t", "sdist")
    run(*command, folder=source, given={"SOURCE_DATE_EPOCH": str(epoch)})


def files_in(folder: Path) -> list[Path]:
    """The files of a folder by their paths in it; none of what is a link to one."""
    if folder.is_symlink():
        return []
    return [path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()]


def archive(target: Path, name: str, source: Path, files: Iterable[Path], epoch: int) -> None:
    """A tar of files below one folder, the same bytes for the same content."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = epoch
        entry.mode = 0o755 if entry.issym() or entry.mode & 0o100 else 0o644
        return entry

    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for file in sorted(files):
            tar.add(source / file, f"{name}/{file.as_posix()}", recursive=False, filter=plain)


def write_sbom(source: Path, target: Path, epoch: int) -> None:
    """The SBOM, which says of itself no other number and time than the commit's."""
    run(source / "scripts" / "sbom", target, folder=source)
    document = json.loads(target.read_text("utf-8"))
    commit = git("rev-parse", "HEAD")
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, commit)}"
    document["metadata"]["timestamp"] = datetime.fromtimestamp(epoch, UTC).isoformat()
    target.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def build_images(
    source: Path, listed: Path, tag: str, version: str, arguments: Sequence[str]
) -> None:
    """The images, in the engine that answers, and their ids in a file."""
    docker = shutil.which("docker")
    if docker is None or not _answers(docker):
        say("No images: no container engine answers.")
        return
    lines = []
    for service in SERVICES:
        # BuildKit takes files of one size and time for the same; the times are the commit's.
        (source / service / "Dockerfile").touch()
        name = f"temporaletl-{service}:{tag}"
        labels = {"version": version, "revision": git("rev-parse", "HEAD")}
        words = [f"--label=org.opencontainers.image.{key}={one}" for key, one in labels.items()]
        words += [*arguments, f"--tag={name}", f"--file={service}/Dockerfile", "."]
        run(docker, "build", "--quiet", *words, folder=source, given={"DOCKER_BUILDKIT": "1"})
        image = run(docker, "image", "inspect", "--format={{.Id}}", name).stdout.decode().strip()
        lines.append(f"{name} {image}\n")
    listed.write_text("".join(lines), "utf-8")


def _answers(docker: str) -> bool:
    return not subprocess.run([docker, "version"], capture_output=True, check=False).returncode


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# -- trying --------------------------------------------------------------------------------------


def dry_run(version: str | None, folder: Path | None, for_docker: Sequence[str]) -> None:
    """Prepare and build what is committed in a clone, of which the files built alone stay."""
    check_clean()
    version = version or agreed_version()
    check_new(version)
    folder = (folder or ROOT / "dist" / f"temporaletl-{version}-dry-run").absolute()
    with tempfile.TemporaryDirectory(prefix="temporaletl-release-") as scratch:
        clone = Path(scratch, "checkout")
        git("clone", "--quiet", str(ROOT), str(clone))
        script = clone / "scripts" / "release.py"
        name = ("-c", "user.name=dry run", "-c", "user.email=dry-run@localhost")
        run(sys.executable, script, "prepare", version, folder=clone)
        run("git", "add", "--all", folder=clone)
        run("git", *name, "commit", "--quiet", "--message", version, folder=clone)
        asked = ["--to", str(folder), "--image-tag", f"{version}-dry-run", "--", *for_docker]
        built = run(sys.executable, script, "build", *asked, folder=clone)
    say(built.stderr.decode().strip())


def say(*words: str, sep: str = " ", begin: str = "") -> None:
    sys.stderr.write(f"{begin}{sep.join(words)}\n")


def main(arguments: Sequence[str]) -> int:
    own, _, for_docker = (list(part) for part in _parted(arguments))
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("prepare").add_argument("version")
    for name in ("build", "dry-run"):
        commands.add_parser(name).add_argument("--to", type=Path, metavar="DIR")
    commands.choices["dry-run"].add_argument("version", nargs="?", help="default: the present one")
    commands.choices["build"].add_argument("--image-tag", help="default: the version")
    asked = parser.parse_args(own)
    try:
        match asked.command:
            case "prepare":
                prepare(asked.version)
            case "build":
                build(asked.to, asked.image_tag, for_docker)
            case _:
                dry_run(asked.version, asked.to, for_docker)
    except RefusedError as refused:
        say(f"release: {refused}")
        return 2
    return 0


def _parted(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
    """What is before `--`, it, and what is behind."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at : at + 1], arguments[at + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
