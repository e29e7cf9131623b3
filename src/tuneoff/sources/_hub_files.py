"""Files of the Hugging Face hub: asked for by commit, kept in the hub's own cache, found there again without the hub.

The cache is that of `huggingface_hub`: `snapshots/<commit>/` holds what was fetched of a commit, and `refs/<revision>`
names the commit that a branch or tag stood for when it was last asked. Both are kept here, so that a machine without a
network finds what a machine with one has fetched.
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
from tuneoff.errors import ChecksumMismatch, SourceError, SourceNotFound, SourceUnreachable

PROBE_SECONDS = 5.0
"""How long the hub may take to answer before its cache is tried."""

PATIENCE_SECONDS = 30.0
"""Longest time to wait, at most `ATTEMPTS` times, where the hub says that it was asked too often."""

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

_LISTED: dict[tuple[str, str, str], tuple[str, ...]] = {}
"""Kind, name and commit -> paths of the files: what a commit holds never changes, so a process asks once."""


@dataclass(frozen=True)
class Repository:
    """A model or data set at one commit.

    Attributes:
        kind: what it is.
        name: its id, org/name.
        revision: the branch, tag or commit that was asked for; None for the hub's main branch.
        commit: what that stands for.
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
        """Where its files lie in the hub's cache, those that were fetched."""
        return _place(self.kind, self.name) / "snapshots" / self.commit


def resolve(kind: Kind, name: str, revision: str | None) -> Repository:
    """Asks the hub what a revision stands for; where it does not answer, its cache.

    Raises:
        SourceNotFound: if the hub answers that there is no such thing, or that it is not for us.
        SourceUnreachable: if neither the hub nor its cache knows.
    """
    if revision is not None and (known := _LISTED.get((kind, name, revision))) is not None:
        return Repository(kind, name, revision, revision, known)
    info, trouble = _ask(kind, name, revision)
    if info is not None:
        files = tuple(file.rfilename for file in info.siblings or ())
        _LISTED[kind, name, str(info.sha)] = files
        return Repository(kind, name, revision, str(info.sha), files)
    commit = _kept_commit(kind, name, revision)
    if commit is None:
        raise _unreachable(kind, name, revision, trouble)
    folder = _place(kind, name) / "snapshots" / commit
    files = tuple(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())
    return Repository(kind, name, revision, commit, files, trouble)


def fetch(repository: Repository, names: Collection[str]) -> Path:
    """Fetches these files unless the cache has them, and checks all against the checksums that the hub gave.

    What broke off is gone on with. Returns the folder they lie in.

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
        _check(folder / name, f"{repository.name}: {name}")
    return folder


def keep_reference(repository: Repository) -> None:
    """Notes in the hub's cache which commit the revision stands for, as the hub's client does for a branch."""
    if repository.trouble or repository.revision == repository.commit:
        return
    place = _reference(repository.kind, repository.name, repository.revision)
    temporary = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        if _read(place) == repository.commit:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(repository.commit, encoding="utf-8")
        temporary.replace(place)
    except OSError as error:
        # A cache that others fill and we only read; a pinned commit is found in it all the same.
        _LOG.warning("the hub's cache cannot keep that %s is now %s: %s", place, repository.commit, error)


def explain(error: BaseException, repository: Repository) -> SourceError:
    """What the failure of one of the hub's libraries means, and what to do."""
    return _refusal(error, repository.kind, repository.name, repository.revision) or _broken(error, repository)


def is_network(error: BaseException) -> bool:
    """Whether an error of the HTTP library in use (httpx or requests) means that nobody answered."""
    return any(kind.__name__ in _NETWORK for kind in type(error).__mro__)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, else its kind."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _ask(kind: Kind, name: str, revision: str | None) -> tuple[Any, str]:
    """The hub's word on a repository, or None and why there is none.

    One question with a short time limit, because the libraries themselves would retry for a minute. A hub that was
    asked too often says when it may be asked again.
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
            wait = _asked_to_wait(error, attempt) if status == 429 else PATIENCE_SECONDS + 1
            if attempt == ATTEMPTS or wait > PATIENCE_SECONDS:
                return None, "it was asked too often, HTTP 429" if status == 429 else f"HTTP {status}"
            _LOG.warning("the hub was asked too often (HTTP 429); asking again in %.0f s", wait)
            sleep(wait)
        except errors.HFValidationError as error:
            raise SourceNotFound(f"{name!r} is no id of the hub: {first_line(error)}", hint=HINTS[kind]) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return None, f"what answers is not the hub: {first_line(error)}"
        except Exception as error:
            if not is_network(error):
                raise
            return None, first_line(error)
    raise AssertionError("the last attempt returns")


def _asked_to_wait(error: BaseException, attempt: int) -> float:
    """Seconds until the hub may be asked again: as it says, else longer each time."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = re.search(r"\bt=(\d+)", headers.get("RateLimit", "")) or re.fullmatch(
        r"(\d+)", headers.get("Retry-After", "")
    )
    return float(said[1]) if said else 2.0 ** (attempt - 1)


def _place(kind: Kind, name: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}"


def _reference(kind: Kind, name: str, revision: str | None) -> Path:
    return _place(kind, name) / "refs" / (revision or "main")


def _kept_commit(kind: Kind, name: str, revision: str | None) -> str | None:
    """The commit that the cache knows a revision as and of which it holds something."""
    if revision is not None and _COMMIT.fullmatch(revision):
        commit: str | None = revision
    elif revision is not None and ".." in revision.split("/"):
        return None
    else:
        commit = _read(_reference(kind, name, revision))
    held = commit is not None and _COMMIT.fullmatch(commit) and (_place(kind, name) / "snapshots" / commit).is_dir()
    return commit if held else None


def _read(place: Path) -> str | None:
    try:
        return place.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _check(path: Path, what: str) -> None:
    """Compares a file of the cache with the checksum that the hub gave for it, which is the name of its blob."""
    try:
        given = Path(os.readlink(path)).name
    except OSError:
        return  # A cache without links does not keep the checksum.
    if re.fullmatch(r"[0-9a-f]{64}", given):
        right = sha256(path) == given
    elif re.fullmatch(r"[0-9a-f]{40}", given):
        data = path.read_bytes()
        # Git's own checksum of small files; some mirrors give the plain one.
        sums = (hashlib.sha1(start + data, usedforsecurity=False) for start in (b"blob %d\0" % len(data), b""))
        right = given in {digest.hexdigest() for digest in sums}
    else:
        return  # Some mirrors name files by other means.
    if not right:
        raise ChecksumMismatch(
            f"{what} in the hub's cache is not what the hub gave (its checksum was {given})",
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
    """An error for what the hub itself says no to; None where it did not."""
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
    """An error for a transfer that did not come to its end."""
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
        f"{what} could not be fetched whole: {first_line(last)}{limited}",
        hint="Run it again: what has come is kept. " + HINTS[repository.kind],
    )


def _unreachable(
    kind: Kind, name: str, revision: str | None, trouble: str, missing: Collection[str] = ()
) -> SourceUnreachable:
    at = f" at revision {revision}" if revision else ""
    lacks = f" ({next(iter(missing))} is missing)" if missing else ""
    held = sorted(entry.name for entry in (_place(kind, name) / "snapshots").glob("*") if entry.is_dir())
    others = f"Its cache holds {name} at {', '.join(held[:3])}: one of these may be the `revision`. " if held else ""
    return SourceUnreachable(
        f"{kind} {name!r}{at} cannot be had: the hub does not answer ({trouble}) and its cache here does not hold it"
        f"{lacks}",
        hint=f"Run it once where there is a network, with the same HF_HOME. {'' if missing else others}{HINTS[kind]}",
    )
