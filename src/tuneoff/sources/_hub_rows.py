"""Rows of a data set of the hub, read by the `datasets` library out of the files that the hub gave.

The library's own cache of converted rows is not used: it records no commits and detects no damage. The files of a
configuration are determined from the names alone, so that no others are fetched and none are looked for elsewhere.
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

from tuneoff.errors import DataError, SourceError, SourceNotFound, did_you_mean, first_line
from tuneoff.interfaces import Rows
from tuneoff.sources import _packed as packed
from tuneoff.sources._hub_files import Repository, fetch

CARD = "README.md"
INFOS = "dataset_infos.json"
_FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".txt")
_COMPRESSED = re.compile(r"\.(gz|bz2|xz|zst|lz4)$")
_BATCH_ROWS = 10_000
"""Rows of one Arrow table while a file is read."""


def read(repository: Repository, config: str | None, split_spec: str) -> Rows:
    """Reads one split, fetching the files of its configuration if need be.

    Args:
        repository: the data set at one commit.
        config: the configuration; the data set's default where None.
        split_spec: the split, as `datasets` takes it: `train`, `train[:1000]`, `train+validation`.

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
    first_files = [name for name in (CARD, INFOS) if name in repository.files]
    if not any(_is_table(name) for name in repository.files if name not in first_files):
        # What an archive holds is known only from itself.
        first_files += [name for name in repository.files if name.endswith(".zip")]
    folder = fetch(repository, first_files)
    card = _read_card(folder / CARD)
    config_name = _choose(card, config, repository.name)
    _refuse_elsewhere(_list_configs(card).get(config_name or "", {}), repository.name)
    with _create_empty_files(repository.files, _select_config(card, config_name)) as view:
        _link_files(folder, view, [name for name in first_files if name != CARD])
        builder = _create_builder(view, config_name or config, repository.name)
        files = _list_files(builder, view, repository.name)
        _check_splits(split_spec, files, repository.name)
        names = sorted({name for split in files.values() for name in split})
        fetch(repository, names)
        _link_files(folder, view, names)
        for name in names:
            packed.check(folder / name, f"{repository.name}: {name}")
        packed_bytes = sum((folder / name).stat().st_size for name in names)
        size = packed.UnpackedSize(packed_bytes, repository.name, packed.ALWAYS_TABLE_BYTES)
        table = _read_split(builder, split_spec, files, repository.name, size)
    if not table.num_rows:
        raise DataError(f"{repository.name} {split_spec} has no rows")
    return convert_table(table, builder.info.features, f"{repository.name} {split_spec}")


def _is_table(name: str) -> bool:
    return _COMPRESSED.sub("", name.lower()).endswith(_FORMATS)


def _read_card(path: Path) -> dict[str, Any]:
    """Reads the header of the data set's card: its configurations and the types of its columns."""
    from huggingface_hub import metadata_load

    try:
        card = metadata_load(path) if path.is_file() else None
    except (ValueError, yaml.YAMLError):
        card = None
    return card if isinstance(card, dict) else {}


def _list_configs(card: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    entries = card.get("configs")
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return {str(entry["config_name"]): entry for entry in entries if "config_name" in entry}


def _choose(card: Mapping[str, Any], config: str | None, name: str) -> str | None:
    """Returns the configuration to read; None where the data set declares none and none is asked for.

    Raises:
        SourceNotFound: if it is not there, or several are and none is named.
    """
    configs = _list_configs(card)
    choices = ", ".join(configs)
    if config is not None and config not in (configs or ["default"]):
        raise SourceNotFound(
            f"{name} has no configuration {config!r}{did_you_mean(config, configs)}",
            hint=f"Set `config:` to one of: {choices}." if choices else "It has but one: leave out `config`.",
        )
    if config is not None or not configs:
        return config
    default_labels = [label for label, entry in configs.items() if entry.get("default")]
    if default_labels or "default" in configs or len(configs) == 1:
        return (default_labels or [label for label in configs if label == "default"] or list(configs))[0]
    raise SourceNotFound(
        f"{name} has several configurations, and none is named", hint=f"Set `config:` to one of: {choices}."
    )


def _refuse_elsewhere(entry: Mapping[str, Any], name: str) -> None:
    """Refuses a configuration with files outside the data set, before any file is looked for."""
    for pattern in _iterate_texts([entry.get("data_files"), entry.get("data_dir")]):
        if "://" in pattern or pattern.startswith(("/", "~")) or ".." in pattern.replace("\\", "/").split("/"):
            raise SourceNotFound(
                f"{name} keeps rows elsewhere ({pattern}), and only a data set's own files are read",
                hint="Download them and give a file.",
            )


def _iterate_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _iterate_texts(item)


def _select_config(card: Mapping[str, Any], config: str | None) -> dict[str, Any]:
    """Returns the card's entries of one configuration: `datasets` would look for the files of others, too."""
    infos = card.get("dataset_info") or []
    infos = [info for info in (infos if isinstance(infos, list) else [infos]) if isinstance(info, dict)]
    selected = [info for info in infos if config is None or info.get("config_name", config) == config]
    configs = [entry for label, entry in _list_configs(card).items() if label == config]
    return {**({"configs": configs} if configs else {}), **({"dataset_info": selected} if selected else {})}


@contextmanager
def _create_empty_files(names: Sequence[str], head: Mapping[str, Any]) -> Iterator[Path]:
    """Creates a folder with empty files of these names and a card that holds `head` alone."""
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


def _link_files(folder: Path, view: Path, names: Sequence[str]) -> None:
    """Replaces the empty files by links to the real ones."""
    for name in names:
        (view / name).unlink(missing_ok=True)
        try:
            (view / name).symlink_to((folder / name).resolve())
        except OSError:
            shutil.copyfile(folder / name, view / name)


def _create_builder(view: Path, config: str | None, name: str) -> Any:
    """Creates the `datasets` builder of a folder.

    Raises:
        SourceError: says what could not be read.
    """
    import datasets

    # Older releases would stop and ask whether to run a dataset's own code.
    options = {"trust_remote_code": False} if int(datasets.__version__.split(".")[0]) < 4 else {}
    try:
        return datasets.load_dataset_builder(str(view), name=config, cache_dir=str(view.with_name("cache")), **options)
    except Exception as error:  # every kind of builtin error stands for some mistake of the user's
        if type(error).__name__ in {"EmptyDatasetError", "DataFilesNotFoundError", "FileNotFoundError"}:
            paths = re.findall(r"Unable to find '([^']+)'", str(error))
            raise SourceNotFound(
                f"{name} holds no files of rows that can be read"
                + (f": it has no {paths[-1].removeprefix(f'{view}/')}" if paths else ""),
                hint=f"Read are {', '.join(_FORMATS)}.",
            ) from error
        raise _unreadable(error, name) from error


def _unreadable(error: Exception, name: str) -> SourceError:
    return SourceError(f"dataset {name} cannot be read: {type(error).__name__}: {first_line(error, 300)}")


def _list_files(builder: Any, view: Path, name: str) -> dict[str, list[str]]:
    """Returns split -> names of its files.

    Raises:
        SourceNotFound: if there are such as are not opened.
    """
    files: dict[str, list[str]] = {}
    for split, paths in (builder.config.data_files or {}).items():
        for path in map(str, paths):
            file_name = Path(path).relative_to(view).as_posix()
            if not _is_table(file_name) and not file_name.endswith(".zip"):
                raise SourceNotFound(
                    f"{name} keeps its rows as {file_name}, which tuneoff does not open",
                    hint=f"Read are {', '.join(_FORMATS)}; never pickles, pictures or archives of them.",
                )
            files.setdefault(str(split), []).append(file_name)
    return files


def _check_splits(split_spec: str, available: Collection[str], name: str) -> list[str]:
    """Returns the splits that an expression such as `train[:100]+validation` names.

    Raises:
        SourceNotFound: if one is not there.
    """
    splits = [part.partition("[")[0].strip() for part in split_spec.split("+")]
    for split in splits:
        if split not in available:
            hint = f"It has {', '.join(available)}. Set `split:` of this source to one that has no other role"
            if split in ("validation", "test"):
                hint += f", or leave task.data.{split} out to cut rows off train"
            raise SourceNotFound(f"{name} has no split {split!r}{did_you_mean(split, available)}", hint=f"{hint}.")
    return splits


def _read_split(builder: Any, split_spec: str, available: Collection[str], name: str, size: packed.UnpackedSize) -> Any:
    """Reads the rows as one Arrow table, and adds them to `size`."""
    import datasets
    import pyarrow

    tables = {}
    try:
        for split in _check_splits(split_spec, available, name):
            stream = builder.as_streaming_dataset(split=split).with_format("arrow")
            parts = []
            for part in stream.iter(batch_size=_BATCH_ROWS):
                size.add_table(part)
                parts.append(part)
            tables[split] = pyarrow.concat_tables(parts, promote_options="permissive") if parts else pyarrow.table({})
        lengths = {split: table.num_rows for split, table in tables.items()}
        instructions = datasets.ReadInstruction.from_spec(split_spec).to_absolute(lengths)
        return pyarrow.concat_tables(
            [tables[part.splitname].slice(part.from_, part.to - part.from_) for part in instructions]
        )
    except DataError:
        raise
    except Exception as error:  # as above
        raise _unreadable(error, name) from error


def convert_table(table: Any, features: Mapping[str, Any] | None, origin: str) -> Rows:
    """Converts an Arrow table of the `datasets` library to rows, with the names of its classes."""
    import datasets

    columns: dict[str, list[Any]] = table.to_pydict()
    items = {column: _item_feature(feature) for column, feature in (features or {}).items() if column in columns}
    names = {column: tuple(item.names) for column, item in items.items() if isinstance(item, datasets.ClassLabel)}
    for column in names:
        # -1 is the hub's sign for a label that is kept secret.
        columns[column] = [None if value == -1 else value for value in columns[column]]
    return Rows(columns, origin, class_names=names)


def _item_feature(feature: Any) -> Any:
    """Returns the type of the items of a list, or of a list of lists; of what is none, its own."""
    while isinstance(feature, list) or hasattr(feature, "feature"):
        feature = feature[0] if isinstance(feature, list) else feature.feature
    return feature
