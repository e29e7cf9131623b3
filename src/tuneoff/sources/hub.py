"""Rows and base models of the Hugging Face hub. No remote code is run, and no pickles are loaded."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.errors import DataError, SourceError, SourceNotFound, SourceUnreachable, did_you_mean
from tuneoff.sources.base import ModelFiles, Rows, Source
from tuneoff.spec import ModelSpec, SourceSpec

PROBE_SECONDS = 5.0
"""How long the hub may take to answer before the local cache is tried."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NETWORK = {"TransportError", "ConnectionError", "Timeout", "TimeoutException", "TimeoutError", "OfflineModeIsEnabled"}
_HINTS = {
    "dataset": "An alias of `tuneoff list datasets` or a local file needs no hub: "
    "`--set task.data.train=FILE.csv --set task.data.test=FILE.csv`.",
    "model": "An alias of `tuneoff list models` (such as minilm) or a local model folder needs no hub: "
    "`--set model.source=minilm`. `--random-weights` builds an architecture alone, to time and size it.",
}


class Hub(Source):
    """A hub id (org/name): a dataset, or a model in safetensors or one GGUF file."""

    title = "Hugging Face hub"
    summary = "data sets and models by id (org/name); safetensors or GGUF, no remote code"
    priority = 90

    def claims(self, reference: str) -> bool:
        """Anything of the form org/name."""
        return _HUB_ID.fullmatch(reference) is not None

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """One split, from the hub or, where that does not answer, from what an earlier use left in its cache."""
        wanted = spec.split or split
        answer = _ask("dataset", spec.source, spec.revision)
        if answer.trouble and spec.revision:
            # Its cache does not tell revisions apart, and another revision's rows would be the wrong rows.
            raise _unreachable("dataset", f"{spec.source} at revision {spec.revision}", answer.trouble)
        import datasets

        # Older releases would stop and ask whether to run a dataset's own code.
        old = {"trust_remote_code": False} if int(datasets.__version__.split(".")[0]) < 4 else {}
        with _offline(bool(answer.trouble)):
            try:
                table = datasets.load_dataset(
                    spec.source, name=spec.config, split=wanted, revision=spec.revision, **old
                )
            except Exception as error:  # every kind of builtin error stands for some mistake of the user's
                raise _rows_error(error, spec, wanted, answer.trouble) from error
        if not len(table):
            raise DataError(f"{spec.source} {wanted} has no rows")
        columns: dict[str, list[Any]] = table.to_dict()
        names = {
            column: tuple(feature.names)
            for column, feature in table.features.items()
            if isinstance(feature, datasets.ClassLabel)
        }
        for column in names:
            # -1 is the hub's sign for a label that is kept secret.
            columns[column] = [None if value == -1 else value for value in columns[column]]
        return Rows(columns, f"{spec.source} {wanted}", class_names=names)

    def model(self, spec: ModelSpec) -> ModelFiles:
        """The model's id and commit, once its weights are known to be there; transformers downloads them.

        Where the hub does not answer, a snapshot in its cache is used as a folder.
        """
        answer = _ask("model", spec.source, spec.revision)
        if answer.trouble:
            return _from_cache(spec, answer.trouble)
        gguf_file = _gguf_or_safetensors(spec, answer.files)
        return ModelFiles(spec.source, answer.commit, gguf_file, hub_id=spec.source, hub_commit=answer.commit)


@dataclass(frozen=True)
class _Answer:
    """What the hub says about a repository; `trouble` says why it does not."""

    files: tuple[str, ...] = ()
    commit: str | None = None
    trouble: str = ""


def _ask(kind: str, name: str, revision: str | None) -> _Answer:
    """One question with a short time limit, because the libraries themselves would retry for a minute.

    Raises:
        SourceNotFound: if the hub answers that there is no such thing.
    """
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    ask: Any = api.dataset_info if kind == "dataset" else api.model_info
    try:
        info = ask(name, revision=revision, timeout=PROBE_SECONDS)
    except errors.RevisionNotFoundError:
        raise SourceNotFound(f"{kind} {name!r} has no revision {revision!r} at the hub") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise SourceNotFound(
            f"there is no {kind} {name!r} at the hub that can be read from here",
            hint=f"If it is private or gated, log in first (`hf auth login`). {_HINTS[kind]}",
        ) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in {401, 403}:
            raise SourceNotFound(
                f"the hub refuses {kind} {name!r} (HTTP {status})", hint=f"Log in (`hf auth login`). {_HINTS[kind]}"
            ) from None
        return _Answer(trouble=f"HTTP {status}")
    except Exception as error:
        if not _is_network(error):
            raise
        return _Answer(trouble=_first_line(error))
    return _Answer(tuple(file.rfilename for file in info.siblings or ()), info.sha)


def _is_network(error: BaseException) -> bool:
    """Whether an error of the HTTP library in use (httpx or requests) means that nobody answered."""
    return any(kind.__name__ in _NETWORK for kind in type(error).__mro__)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _unreachable(kind: str, what: str, trouble: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"{kind} {what} cannot be had: the hub does not answer ({trouble}) and its cache here does not hold it",
        hint=_HINTS[kind],
    )


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """While it lasts, the hub's libraries look into their caches only."""
    import datasets
    import huggingface_hub.constants

    switches = (datasets.config, huggingface_hub.constants)
    before = [switch.HF_HUB_OFFLINE for switch in switches]
    try:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = wanted or value
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.HF_HUB_OFFLINE = value


def _rows_error(error: Exception, spec: SourceSpec, split: str, trouble: str) -> SourceError:
    """What a failed `load_dataset` means."""
    text = str(error)
    offered = re.findall(r"'([^']+)'", text.partition("[")[2])
    if "Unknown split" in text:
        hint = f"It has {', '.join(offered)}." if offered else "Its page at the hub lists its splits."
        near = did_you_mean(split, offered)
        hint += " Set `split:` of this source to one that has no other role"
        hint += f", or leave task.data.{split} out to cut rows off train." if split in ("validation", "test") else "."
        return SourceNotFound(f"{spec.source} has no split {split!r}{near}", hint=hint)
    if "Config name is missing" in text or "BuilderConfig" in text:
        what = "several configurations, and none is named"
        if spec.config:
            what = f"no configuration {spec.config!r}{did_you_mean(spec.config, offered)}"
        return SourceNotFound(f"{spec.source} has {what}", hint=f"Set `config:` to one of: {', '.join(offered)}.")
    if "scripts are no longer supported" in text or "trust_remote_code" in text:
        return SourceNotFound(
            f"{spec.source} needs its own code to be read, and tuneoff runs no remote code",
            hint="The hub's own conversion may be read with `revision: refs/convert/parquet`.",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return SourceError(f"the disk is full: {spec.source} does not fit", hint="HF_HOME names another cache folder.")
    if trouble or _is_network(error):
        return _unreachable("dataset", repr(spec.source), trouble or _first_line(error))
    if type(error).__name__ == "DatasetNotFoundError":
        return SourceNotFound(f"{spec.source}: {_first_line(error)}", hint=_HINTS["dataset"])
    return SourceError(f"dataset {spec.source} cannot be read: {type(error).__name__}: {_first_line(error)}")


def _from_cache(spec: ModelSpec, trouble: str) -> ModelFiles:
    """The folder in the hub's cache that holds the model's files."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(spec.source, "config.json", revision=spec.revision)
    if not isinstance(config, str):
        raise _unreachable("model", repr(spec.source), trouble)
    folder = Path(config).parent
    try:
        gguf_file = _gguf_or_safetensors(spec, [entry.name for entry in folder.iterdir()])
    except SourceNotFound:
        raise _unreachable("model", repr(spec.source), trouble) from None
    # A snapshot is called by its commit.
    return ModelFiles(str(folder), gguf_file=gguf_file, hub_id=spec.source, hub_commit=folder.name)


def _gguf_or_safetensors(spec: ModelSpec, names: Sequence[str]) -> str | None:
    """None where there are safetensors, else the name of the only GGUF file.

    Raises:
        SourceNotFound: if there are neither, or several GGUF files to choose from.
    """
    if spec.random_weights or "model.safetensors" in names or "model.safetensors.index.json" in names:
        return None
    gguf = [name for name in names if name.endswith(".gguf")]
    if len(gguf) == 1:
        return gguf[0]
    if gguf:
        raise SourceNotFound(
            f"model {spec.source!r} holds {len(gguf)} GGUF files, and a study cannot say which",
            hint="Download one of them and give its path.",
        )
    pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack"))]
    holds = f"holds its weights only as {pickles[0]}" if pickles else "holds no weights"
    raise SourceNotFound(
        f"model {spec.source!r} {holds}; tuneoff loads safetensors or GGUF, never pickles",
        hint="Look for a conversion: many models have one under another revision, such as `revision: refs/pr/1`. "
        + _HINTS["model"],
    )


plugin = Hub
