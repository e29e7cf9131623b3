"""Rows of a data set of the hub, read by the `datasets` library out of the files that the hub gave.

The library's own cache of converted rows is not used: it tells neither commits nor damage. Which files make up a
configuration is found out from the names alone, so that no others are fetched and none are looked for elsewhere.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tuneoff.errors import DataError, SourceError, SourceNotFound, did_you_mean
from tuneoff.sources._hub_files import Repository, fetch, first_line
from tuneoff.sources.base import Rows

CARD = "README.md"
INFOS = "dataset_infos.json"
_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".txt")
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zst|lz4)$")
_READ_TOGETHER = 10_000
"""Rows of one Arrow table while a file is read."""


def read(repository: Repository, config: str | None, wanted: str) -> Rows:
    """Reads one split, fetching the files of its configuration if need be.

    Args:
        repository: the data set at one commit.
        config: the configuration; the data set's default where None.
        wanted: the split, as `datasets` takes it: `train`, `train[:1000]`, `train+validation`.

    Raises:
        SourceNotFound: if there is no such split or configuration, or the data set needs code of its own.
        SourceError: if its files cannot be had or read.
        DataError: if there are no rows.
    """
    script = f"{repository.name.partition('/')[2]}.py"
    if script in repository.files:
        raise SourceNotFound(
            f"{repository.name} needs its own code to be read ({script}), and tuneoff runs no remote code",
            hint="The hub's own conversion may be read with `revision: refs/convert/parquet`.",
        )
    at_once = [name for name in (CARD, INFOS) if name in repository.files]
    if not any(_is_table(name) for name in repository.files if name not in at_once):
        # What an archive holds is known only from itself.
        at_once += [name for name in repository.files if name.endswith(".zip")]
    folder = fetch(repository, at_once)
    card = _read_card(folder / CARD)
    chosen = _choose(card, config, repository.name)
    _refuse_elsewhere(_declared(card).get(chosen or "", {}), repository.name)
    with _names_alone(repository.files, _only(card, chosen)) as view:
        _put(folder, view, [name for name in at_once if name != CARD])
        builder = _builder(view, chosen or config, repository.name)
        files = _files(builder, view, repository.name)
        _check_splits(wanted, files, repository.name)
        names = sorted({name for split in files.values() for name in split})
        fetch(repository, names)
        _put(folder, view, names)
        table = _read_split(builder, wanted, files, repository.name)
    if not table.num_rows:
        raise DataError(f"{repository.name} {wanted} has no rows")
    return _rows(table, builder.info.features, f"{repository.name} {wanted}")


def _is_table(name: str) -> bool:
    return _COMPRESSED.sub("", name.lower()).endswith(_FORMATS)


def _read_card(path: Path) -> dict[str, Any]:
    """What the data set's page declares in its head: its configurations and the types of its columns."""
    from huggingface_hub import metadata_load

    try:
        card = metadata_load(path) if path.is_file() else None
    except (ValueError, yaml.YAMLError):
        card = None
    return card if isinstance(card, dict) else {}


def _declared(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    entries = card.get("configs")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {str(entry["config_name"]): entry for entry in entries if "config_name" in entry}


def _choose(card: Mapping[str, Any], config: str | None, name: str) -> str | None:
    """The configuration to read; None where the data set declares none and none is asked for.

    Raises:
        SourceNotFound: if it is not there, or several are and none is named.
    """
    declared = _declared(card)
    offered = ", ".join(declared)
    if config is not None and config not in (declared or ["default"]):
        raise SourceNotFound(
            f"{name} has no configuration {config!r}{did_you_mean(config, declared)}",
            hint=f"Set `config:` to one of: {offered}." if offered else "It has but one: leave out `config`.",
        )
    if config is not None or not declared:
        return config
    by_default = [label for label, entry in declared.items() if entry.get("default")]
    if by_default or "default" in declared or len(declared) == 1:
        return (by_default or [label for label in declared if label == "default"] or list(declared))[0]
    raise SourceNotFound(
        f"{name} has several configurations, and none is named", hint=f"Set `config:` to one of: {offered}."
    )


def _refuse_elsewhere(declared: Mapping[str, Any], name: str) -> None:
    """Refuses a configuration whose files are not all the data set's own, before anybody looks for them."""
    for pattern in _texts([declared.get("data_files"), declared.get("data_dir")]):
        if "://" in pattern or pattern.startswith(("/", "~")) or ".." in pattern.replace("\\", "/").split("/"):
            raise SourceNotFound(
                f"{name} keeps rows elsewhere ({pattern}), and only a data set's own files are read",
                hint="Download them and give a file.",
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _only(card: Mapping[str, Any], config: str | None) -> dict[str, Any]:
    """What the page says of one configuration: `datasets` would look for the files of others, too."""
    about = card.get("dataset_info") or []
    about = [info for info in (about if isinstance(about, list) else [about]) if isinstance(info, dict)]
    kept = [info for info in about if config is None or info.get("config_name", config) == config]
    configs = [entry for label, entry in _declared(card).items() if label == config]
    return {**({"configs": configs} if configs else {}), **({"dataset_info": kept} if kept else {})}


@contextmanager
def _names_alone(names: Sequence[str], head: Mapping[str, Any]) -> Iterator[Path]:
    """A folder with empty files of these names and a page that says no more than `head`."""
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as scratch:
        view = Path(scratch).resolve() / "rows"
        view.mkdir()
        for name in names:
            path = PurePosixPath(name)
            if not path.is_absolute() and ".." not in path.parts:
                (view / path).parent.mkdir(parents=True, exist_ok=True)
                (view / path).touch()
        (view / CARD).write_text(f"---\n{yaml.safe_dump(dict(head))}---\n", encoding="utf-8")
        yield view


def _put(folder: Path, view: Path, names: Sequence[str]) -> None:
    """Puts the files themselves in the place of the empty ones."""
    for name in names:
        (view / name).unlink(missing_ok=True)
        try:
            (view / name).symlink_to((folder / name).resolve())
        except OSError:
            shutil.copyfile(folder / name, view / name)


def _builder(view: Path, config: str | None, name: str) -> Any:
    """What `datasets` makes of a folder.

    Raises:
        SourceError: says what it could not make out.
    """
    import datasets

    # Older releases would stop and ask whether to run a dataset's own code.
    old = {"trust_remote_code": False} if int(datasets.__version__.split(".")[0]) < 4 else {}
    try:
        return datasets.load_dataset_builder(str(view), name=config, cache_dir=str(view.with_name("cache")), **old)
    except Exception as error:  # every kind of builtin error stands for some mistake of the user's
        if type(error).__name__ in {"EmptyDatasetError", "DataFilesNotFoundError", "FileNotFoundError"}:
            named = re.findall(r"Unable to find '([^']+)'", str(error))
            raise SourceNotFound(
                f"{name} holds no files of rows that can be read"
                + (f": it has no {named[-1].removeprefix(f'{view}/')}" if named else ""),
                hint=f"Read are {', '.join(_FORMATS)}.",
            ) from error
        raise _unreadable(error, name) from error


def _unreadable(error: Exception, name: str) -> SourceError:
    return SourceError(f"dataset {name} cannot be read: {type(error).__name__}: {first_line(error)}")


def _files(builder: Any, view: Path, name: str) -> dict[str, list[str]]:
    """Split -> names of its files.

    Raises:
        SourceNotFound: if there are such as are not opened.
    """
    files: dict[str, list[str]] = {}
    for split, paths in (builder.config.data_files or {}).items():
        for path in map(str, paths):
            own = Path(path).relative_to(view).as_posix()
            if not _is_table(own) and not own.endswith(".zip"):
                raise SourceNotFound(
                    f"{name} keeps its rows as {own}, which tuneoff does not open",
                    hint=f"Read are {', '.join(_FORMATS)}; never pickles, pictures or archives of them.",
                )
            files.setdefault(str(split), []).append(own)
    return files


def _check_splits(wanted: str, offered: Collection[str], name: str) -> list[str]:
    """The splits that a wish such as `train[:100]+validation` names.

    Raises:
        SourceNotFound: if one is not there.
    """
    named = [part.partition("[")[0].strip() for part in wanted.split("+")]
    for split in named:
        if split not in offered:
            hint = f"It has {', '.join(offered)}. Set `split:` of this source to one that has no other role"
            if split in ("validation", "test"):
                hint += f", or leave task.data.{split} out to cut rows off train"
            raise SourceNotFound(f"{name} has no split {split!r}{did_you_mean(split, offered)}", hint=f"{hint}.")
    return named


def _read_split(builder: Any, wanted: str, offered: Collection[str], name: str) -> Any:
    """The rows as one Arrow table."""
    import datasets
    import pyarrow

    tables = {}
    try:
        for split in _check_splits(wanted, offered, name):
            stream = builder.as_streaming_dataset(split=split).with_format("arrow")
            parts = list(stream.iter(batch_size=_READ_TOGETHER))
            tables[split] = pyarrow.concat_tables(parts, promote_options="permissive") if parts else pyarrow.table({})
        lengths = {split: table.num_rows for split, table in tables.items()}
        asked = datasets.ReadInstruction.from_spec(wanted).to_absolute(lengths)
        return pyarrow.concat_tables([tables[part.splitname].slice(part.from_, part.to - part.from_) for part in asked])
    except Exception as error:  # as above
        raise _unreadable(error, name) from error


def _rows(table: Any, features: Mapping[str, Any] | None, origin: str) -> Rows:
    import datasets

    columns: dict[str, list[Any]] = table.to_pydict()
    names = {
        column: tuple(feature.names)
        for column, feature in (features or {}).items()
        if isinstance(feature, datasets.ClassLabel) and column in columns
    }
    for column in names:
        # -1 is the hub's sign for a label that is kept secret.
        columns[column] = [None if value == -1 else value for value in columns[column]]
    return Rows(columns, origin, class_names=names)
