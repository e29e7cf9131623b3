"""Files of the Hugging Face hub, requested by commit and stored in the hub's own cache, where they are found offline.

The cache is that of `huggingface_hub`: `snapshots/<commit>/` holds the fetched files of a commit, and
`refs/<revision>` names the commit of a branch or tag at the last request. Both are written here, so that a machine
without a network finds what a machine with one has fetched.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import logging
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import Any, Literal

from tuneoff.checksums import sha256
from tuneoff.errors import ChecksumMismatch, SourceError, SourceNotFound, SourceUnreachable, first_line

PROBE_SECONDS = 5.0
"""How long the hub may take to answer before its cache is tried."""

PATIENCE_SECONDS = 30.0
"""Longest time to wait, at most `ATTEMPTS` times, where the hub answers that there were too many requests."""

ATTEMPTS = 4

HINTS = {
    "dataset": "An alias of `tuneoff list datasets` or a local file needs no hub: "
    "`--set task.data.train=FILE.csv --set task.data.test=FILE.csv`.",
    "model": "An alias of `tuneoff list models` (such as minilm) or a local model folder needs no hub: "
    "`--set model.source=minilm`. `--random-weights` builds an architecture alone, to time and size it.",
}

_COMMIT = re.compile(r"[0-9a-f]{40}")
_NETWORK = {"TransportError", "ConnectionError", "Timeout", "TimeoutException", "TimeoutError", "OfflineModeIsEnabled"}
_LOG = logging.getLogger(__name__)

Kind = Literal["model", "dataset"]

_FILES_BY_COMMIT: dict[tuple[str, str, str], tuple[str, ...]] = {}
"""Kind, name and commit -> paths of the files: what a commit holds never changes, so a process asks once."""


@dataclass(frozen=True)
class Repository:
    """A model or data set at one commit.

    Attributes:
        kind: what it is.
        name: its id, org/name.
        revision: the branch, tag or commit that was requested; None for the hub's main branch.
        commit: the commit of that revision.
        files: paths of all its files at the hub; where the hub did not answer, of those in the cache.
        trouble: why the hub did not answer; empty where it did.
    """

    kind: Kind
    name: str
    revision: str | None
    commit: str
    files: tuple[str, ...]
    trouble: str = ""

    @property
    def folder(self) -> Path:
        """Returns the folder of its fetched files in the hub's cache."""
        return _repository_folder(self.kind, self.name) / "snapshots" / self.commit


def resolve(kind: Kind, name: str, revision: str | None) -> Repository:
    """Asks the hub for the commit of a revision; where it does not answer, reads its cache.

    Raises:
        SourceNotFound: if the hub answers that there is no such thing, or that it is not for us.
        SourceUnreachable: if neither the hub nor its cache knows.
    """
    if revision is not None and (cached_files := _FILES_BY_COMMIT.get((kind, name, revision))) is not None:
        return Repository(kind, name, revision, revision, cached_files)
    info, trouble = _ask_hub(kind, name, revision)
    if info is not None:
        files = tuple(file.rfilename for file in info.siblings or ())
        _FILES_BY_COMMIT[kind, name, str(info.sha)] = files
        return Repository(kind, name, revision, str(info.sha), files)
    commit = _find_cached_commit(kind, name, revision)
    if commit is None:
        raise _unreachable(kind, name, revision, trouble)
    folder = _repository_folder(kind, name) / "snapshots" / commit
    files = tuple(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return Repository(kind, name, revision, commit, files, trouble)


def fetch(repository: Repository, names: Collection[str]) -> Path:
    """Fetches these files unless the cache has them, and checks all against the checksums that the hub gave.

    An interrupted download is continued. Returns their folder.

    Raises:
        SourceError: if one cannot be had.
        ChecksumMismatch: if one is no longer what the hub gave.
    """
    folder = repository.folder
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and repository.trouble:
        raise _unreachable(repository.kind, repository.name, repository.revision, repository.trouble, missing)
    if missing:
        import huggingface_hub

        try:
            huggingface_hub.HfApi().snapshot_download(
                repository.name,
                repo_type=repository.kind,
                revision=repository.commit,
                allow_patterns=[glob.escape(name) for name in missing],
            )
        except Exception as error:
            raise explain(error, repository) from error
    for name in names:
        _check_checksum(folder / name, f"{repository.name}: {name}")
    return folder


def keep_reference(repository: Repository) -> None:
    """Writes the commit of the revision to the hub's cache, as the hub's client does for a branch."""
    if repository.trouble or repository.revision == repository.commit:
        return
    path = _reference_path(repository.kind, repository.name, repository.revision)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        if _read_commit(path) == repository.commit:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(repository.commit, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        # A cache that others fill and we only read; a pinned commit is found in it all the same.
        _LOG.warning("the hub's cache cannot keep that %s is now %s: %s", path, repository.commit, error)


def explain(error: BaseException, repository: Repository) -> SourceError:
    """Converts an error of the hub's libraries to one that says what it means and what to do."""
    return _refusal(error, repository.kind, repository.name, repository.revision) or _broken(error, repository)


def is_network(error: BaseException) -> bool:
    """Tells whether an error of the HTTP library in use (httpx or requests) means that no server answered."""
    return any(kind.__name__ in _NETWORK for kind in type(error).__mro__)


def _ask_hub(kind: Kind, name: str, revision: str | None) -> tuple[Any, str]:
    """Asks the hub about a repository; returns its answer, or None and the reason.

    Sends one request with a short time limit, because the libraries themselves would retry for a minute. After too
    many requests the hub says when the next one is allowed.
    """
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    ask: Any = api.dataset_info if kind == "dataset" else api.model_info
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask(name, revision=revision, timeout=PROBE_SECONDS), ""
        except errors.HfHubHTTPError as error:
            if refusal := _refusal(error, kind, name, revision):
                raise refusal from None
            status = _status(error)
            wait = _find_wait_seconds(error, attempt) if status == 429 else PATIENCE_SECONDS + 1
            if attempt == ATTEMPTS or wait > PATIENCE_SECONDS:
                return None, "it was asked too often, HTTP 429" if status == 429 else f"HTTP {status}"
            _LOG.warning("the hub was asked too often (HTTP 429); asking again in %.0f s", wait)
            sleep(wait)
        except errors.HFValidationError as error:
            raise SourceNotFound(f"{name!r} is no id of the hub: {first_line(error, 300)}", hint=HINTS[kind]) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return None, f"what answers is not the hub: {first_line(error, 300)}"
        except Exception as error:
            if not is_network(error):
                raise
            return None, first_line(error, 300)
    raise AssertionError("the last attempt returns")


def _find_wait_seconds(error: BaseException, attempt: int) -> float:
    """Returns the seconds until the next request to the hub: as it says, else longer each time."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    match = re.search(r"\bt=(\d+)", headers.get("RateLimit", "")) or re.fullmatch(
        r"(\d+)", headers.get("Retry-After", "")
    )
    return float(match[1]) if match else 2.0 ** (attempt - 1)


def _repository_folder(kind: Kind, name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"


def _reference_path(kind: Kind, name: str, revision: str | None) -> Path:
    return _repository_folder(kind, name) / "refs" / (revision or "main")


def _find_cached_commit(kind: Kind, name: str, revision: str | None) -> str | None:
    """Returns the commit of a revision in the cache, if the cache holds files of it."""
    if revision is not None and _COMMIT.fullmatch(revision):
        commit: str | None = revision
    elif revision is not None and ".." in revision.split("/"):
        return None
    else:
        commit = _read_commit(_reference_path(kind, name, revision))
    is_cached = (
        commit is not None
        and _COMMIT.fullmatch(commit)
        and (_repository_folder(kind, name) / "snapshots" / commit).is_dir()
    )
    return commit if is_cached else None


def _read_commit(place: Path) -> str | None:
    try:
        return place.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _check_checksum(path: Path, what: str) -> None:
    """Compares a file of the cache with the checksum that the hub gave for it, which is the name of its blob."""
    try:
        checksum = Path(os.readlink(path)).name
    except OSError:
        return  # A cache without links does not keep the checksum.
    if re.fullmatch(r"[0-9a-f]{64}", checksum):
        matches = sha256(path) == checksum
    elif re.fullmatch(r"[0-9a-f]{40}", checksum):
        data = path.read_bytes()
        # Git's own checksum of small files; some mirrors give the plain one.
        sums = (hashlib.sha1(start + data, usedforsecurity=False) for start in (b"blob %d\0" % len(data), b""))
        matches = checksum in {digest.hexdigest() for digest in sums}
    else:
        return  # Some mirrors name files by other means.
    if not matches:
        raise ChecksumMismatch(
            f"{what} in the hub's cache is not what the hub gave (its checksum was {checksum})",
            hint=f"Delete {path.resolve()} and run again.",
        )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int | None:
    status: int | None = getattr(getattr(error, "response", None), "status_code", None)
    return status


def _refusal(error: BaseException, kind: Kind, name: str, revision: str | None) -> SourceError | None:
    """Returns the error for a request that the hub refused; None where it did not refuse."""
    from huggingface_hub import constants, errors

    for link in _chain(error):
        status = _status(link)
        if isinstance(link, errors.GatedRepoError):
            page = f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"
            return SourceNotFound(
                f"{kind} {name!r} is gated: the hub gives its files only to those who were let in (HTTP {status})",
                hint=f"Ask for access on its page ({page}), then log in (`hf auth login`). {HINTS[kind]}",
            )
        if isinstance(link, errors.RevisionNotFoundError):
            return SourceNotFound(f"{kind} {name!r} has no revision {revision!r} at the hub")
        if isinstance(link, errors.RepositoryNotFoundError):
            return SourceNotFound(
                f"there is no {kind} {name!r} at the hub that can be read from here",
                hint=f"If it is private, log in first (`hf auth login`). {HINTS[kind]}",
            )
        if status in {401, 403}:
            return SourceNotFound(
                f"the hub refuses {kind} {name!r} (HTTP {status})", hint=f"Log in (`hf auth login`). {HINTS[kind]}"
            )
    return None


def _broken(error: BaseException, repository: Repository) -> SourceError:
    """Returns the error for an incomplete transfer."""
    what = f"{repository.kind} {repository.name!r}"
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno == errno.ENOSPC:
            return SourceError(f"the disk is full: {what} does not fit", hint="HF_HOME names another cache folder.")
        if isinstance(link, PermissionError):
            return SourceError(f"the hub's cache cannot be written: {link}", hint="HF_HOME names another cache folder.")
    last = list(_chain(error))[-1]
    limited = (
        " (HTTP 429: it was asked too often; those who are logged in may ask more)" if _status(last) == 429 else ""
    )
    return SourceUnreachable(
        f"{what} could not be fetched whole: {first_line(last, 300)}{limited}",
        hint="Run it again: what has come is kept. " + HINTS[repository.kind],
    )


def _unreachable(
    kind: Kind, name: str, revision: str | None, trouble: str, missing: Collection[str] = ()
) -> SourceUnreachable:
    revision_text = f" at revision {revision}" if revision else ""
    missing_text = f" ({next(iter(missing))} is missing)" if missing else ""
    commits = sorted(entry.name for entry in (_repository_folder(kind, name) / "snapshots").glob("*") if entry.is_dir())
    commits_hint = (
        f"Its cache holds {name} at {', '.join(commits[:3])}: one of these may be the `revision`. " if commits else ""
    )
    return SourceUnreachable(
        f"{kind} {name!r}{revision_text} cannot be had: the hub does not answer ({trouble}) and its cache here does "
        f"not hold it{missing_text}",
        hint="Run it once where there is a network, with the same HF_HOME. "
        f"{'' if missing else commits_hint}{HINTS[kind]}",
    )
