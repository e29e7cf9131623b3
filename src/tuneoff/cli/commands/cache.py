"""`tuneoff cache`: what was downloaded to this machine, and what trainings continue from; how to delete it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tuneoff.cli import common_options, printing, wording
from tuneoff.errors import StoreError, StudyError, did_you_mean

OWN, CHECKPOINTS, RUNS = "tuneoff", "checkpoints", "runs"
CONTENTS = {
    OWN: "models and rows out of packages, rows that were prepared, GGUF weights turned to full precision",
    "hub": "models and data sets of the Hugging Face hub; other programs use them too",
    "datasets": "data sets of the hub as tables; other programs use them too",
    CHECKPOINTS: "what trainings of the studies there continue from; removed by themselves when a trial is finished",
}


@dataclass(frozen=True)
class Entry:
    """One thing in a cache: its name there, where it lies, and how many files and bytes that is; of a trial's
    checkpoints also their last step, and whether the trial would continue from them."""

    name: str
    folder: str
    files: int
    bytes: int
    step: int | None = None
    needed: bool = False


@dataclass(frozen=True)
class Cache:
    """One cache: its name, its folder, whether that is there, and what is in it, sizes included."""

    name: str
    folder: str
    exists: bool
    files: int
    bytes: int
    entries: tuple[Entry, ...] = ()


@click.command("cache")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--clear", is_flag=True, help="Delete what is shown; without a NAME tuneoff's own cache alone.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@common_options.json_option("Print what there is, or what was deleted, as JSON.")
@common_options.traceback_option
def cache_command(names: tuple[str, ...], clear: bool, yes: bool, as_json: bool) -> None:
    """Show what was fetched and lies on this machine, and clear it.

    NAME is a cache (tuneoff, hub, datasets, checkpoints), one thing in it, as this command names them, or the folder
    of a study, for its checkpoints; without, those of the studies in runs/ are shown. Whatever is deleted is fetched or
    made again when a study needs it, and checkpoints go only where their trial has ended; studies and their results are
    never in a cache. As JSON: a list of caches with `name`, `folder`, `exists`, `files`, `bytes` and `entries`, each
    with `name`, `folder`, `files`, `bytes`, and of checkpoints `step` and `needed`; with --clear the `deleted` entries,
    their `bytes`, and those `kept` because a trial continues from them.

    \b
    Examples:
      tuneoff cache
      tuneoff cache --clear
      tuneoff cache hub/models--openai-community--gpt2 --clear --yes
      tuneoff cache runs/quickstart-1a2b3c --clear
    """
    caches = [measure_cache(name, folder) for name, folder in cache_folders().items()]
    caches.append(measure_checkpoints(names))
    entries = _chosen(caches, names or ((OWN,) if clear else tuple(cache.name for cache in caches)))
    if not clear:
        selection = [
            cache for cache in caches if not names or any(chosen_entry in cache.entries for chosen_entry in entries)
        ]
        _print_caches(selection, as_json)
        return
    kept, unneeded = ([entry for entry in entries if entry.needed == needed] for needed in (True, False))
    if not yes and (unneeded or not kept):
        _ask(unneeded)
    deleted = [entry for entry in unneeded if _delete(entry)]
    if as_json:
        lists = {name: [asdict(entry) for entry in group] for name, group in (("deleted", deleted), ("kept", kept))}
        printing.print_json({**lists, "bytes": _bytes(deleted)})
        return
    printing.echo(f"deleted {_amount(deleted)}")
    if kept:
        printing.echo(f"kept {_amount(kept)}: from there the same `tuneoff run` continues")


def cache_folders() -> dict[str, Path]:
    """Returns where tuneoff and the libraries under it keep what they downloaded; reads the same environment variables
    as they do."""
    from tuneoff.sources import cache_folder

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = Path(os.environ.get("HF_HOME") or home / "huggingface")
    return {
        OWN: cache_folder(),
        "hub": Path(os.environ.get("HF_HUB_CACHE") or hub / "hub"),
        "datasets": Path(os.environ.get("HF_DATASETS_CACHE") or hub / "datasets"),
    }


def measure_cache(name: str, folder: Path) -> Cache:
    """Returns a cache, its size and what is in it. If a variable names a folder that holds other things too, these are
    no part of the cache: they are neither counted nor cleared."""
    entries = tuple(_entry(f"{name}/{path.relative_to(folder).as_posix()}", path) for path in _places(name, folder))
    entries = tuple(entry for entry in entries if entry.files)
    return Cache(name, str(folder), folder.is_dir(), sum(e.files for e in entries), _bytes(entries), entries)


def measure_checkpoints(names: Sequence[str] = ()) -> Cache:
    """Returns the checkpoints of the studies in `runs/`, and of those whose folders are named."""
    from tuneoff.store import StudyStore

    folders = [*(sorted(Path(RUNS).iterdir()) if Path(RUNS).is_dir() else ()), *map(Path, names)]
    stores = {folder.resolve(): StudyStore(folder) for folder in reversed(folders) if StudyStore(folder).is_there}
    entries = [
        Entry(
            f"{store.root.as_posix()}/{trial}",
            str(store.trial(trial).checkpoints.folder),
            kept.files,
            kept.bytes,
            kept.step,
            needed,
        )
        for store in reversed(stores.values())
        for trial, (kept, needed) in store.checkpoints().items()
    ]
    files = sum(entry.files for entry in entries)
    return Cache(CHECKPOINTS, RUNS, bool(stores), files, _bytes(entries), tuple(entries))


def _places(name: str, folder: Path) -> Iterator[Path]:
    """Yields the files and folders that make up a cache."""
    from tuneoff import registry

    if not folder.is_dir():
        return
    if name == OWN:
        for kind in sorted({"packages", "dequantised", *registry.sources()}):
            if (folder / kind).is_dir():
                # Lock files are not entries, and may be in use.
                yield from sorted(path for path in folder.joinpath(kind).iterdir() if path.suffix != ".lock")
        return
    repositories = ("models--*", "datasets--*", "spaces--*")
    yield from sorted(path for kind in (repositories if name == "hub" else ("*",)) for path in folder.glob(kind))


def _entry(name: str, path: Path) -> Entry:
    """Measures a file or folder; does not follow links, so nothing counts twice."""
    files = [path] if not path.is_dir() else [Path(top) / file for top, _, names in os.walk(path) for file in names]
    sizes = []
    for file in files:
        try:
            sizes.append(file.lstat().st_size)
        except OSError:  # it was deleted meanwhile
            continue
    return Entry(name, str(path), len(sizes), sum(sizes))


def _chosen(caches: Sequence[Cache], names: Sequence[str]) -> list[Entry]:
    """Returns the entries that these names mean.

    Raises:
        StudyError: for a name that matches no entry.
    """
    from tuneoff.store import StudyStore

    entries_by_name = {cache.name: list(cache.entries) for cache in caches}
    entries_by_name |= {entry.name: [entry] for cache in caches for entry in cache.entries}
    for name in names:
        if name not in entries_by_name and StudyStore(Path(name)).is_there:
            study = Path(name).resolve()
            entries_by_name[name] = [
                e for e in entries_by_name[CHECKPOINTS] if study in Path(e.folder).resolve().parents
            ]
    for name in names:
        if name not in entries_by_name:
            raise StudyError(
                f"no cache and nothing in one is called {name!r}{did_you_mean(name, entries_by_name)}",
                hint=f"Caches: {', '.join(cache.name for cache in caches)}. `tuneoff cache` names what is in them.",
            )
    return list({entry.name: entry for name in names for entry in entries_by_name[name]}.values())


def _ask(entries: Sequence[Entry]) -> None:
    """Asks on a terminal whether to delete; elsewhere nobody can answer.

    Raises:
        StudyError: where there is no terminal.
        click.Abort: where the answer is no.
    """
    if not sys.stdin.isatty():
        raise StudyError(f"nothing was deleted: {_amount(entries)} would be", hint="Add --yes to delete them.")
    click.confirm(f"Delete {_amount(entries)}?", abort=True, err=True)


def _delete(entry: Entry) -> bool:
    """Deletes an entry; returns False where it is already gone.

    Raises:
        StoreError: if the system refuses.
    """
    path = Path(entry.folder)
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot delete {path}: {error.strerror or error}") from None
    return True


def _bytes(entries: Sequence[Entry]) -> int:
    return sum(entry.bytes for entry in entries)


def _amount(entries: Sequence[Entry]) -> str:
    """Describes entries in one line: `2 entries, 93 MiB: tuneoff/packages/a, tuneoff/packages/b`."""
    from tuneoff.report.units import size

    count = f"{len(entries)} entr{'y' if len(entries) == 1 else 'ies'}"
    return f"{count}, {size(_bytes(entries))}" + (f": {', '.join(e.name for e in entries)}" if entries else "")


def _print_caches(caches: Sequence[Cache], as_json: bool) -> None:
    if as_json:
        printing.print_json([asdict(cache) for cache in caches])
        return
    from rich.table import Table
    from rich.text import Text

    from tuneoff.report.units import size

    console = printing.console()
    for cache in caches:
        amount = f"{size(cache.bytes)} in {wording.count(cache.files, 'file')}" if cache.files else "empty"
        console.print(Text(f"{cache.name}: {amount}", style="bold"))
        console.print(f"  {cache.folder}: {CONTENTS[cache.name]}", soft_wrap=True)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        for entry in cache.entries:
            table.add_row(f"  {size(entry.bytes)}", Text(entry.name), _standing(cache, entry))
        if cache.entries:
            console.print(table)


def _standing(cache: Cache, entry: Entry) -> str:
    """Describes what a trial's checkpoints are for; empty for anything else."""
    if cache.name != CHECKPOINTS:
        return ""
    step = "damaged" if entry.step is None else f"step {entry.step}"
    return f"{step}, {'the trial continues from it' if entry.needed else 'the trial has ended'}"
