"""Who imports whom, beyond the contracts in pyproject.toml: no circles, and what a plug-in may know."""

from __future__ import annotations

from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any

import grimp
import pytest

import tuneoff
from tuneoff import registry
from tuneoff.registry import Registry

BASICS = {
    f"tuneoff.{name}" for name in ("interfaces", "records", "errors", "checksums", "encoding", "files", "suffixes")
}
"""What a plug-in may import besides its own folder; of the root only what needs no other part of tuneoff."""
KINDS: dict[str, Callable[[], Registry[Any]]] = {
    "methods": registry.methods,
    "tasks": registry.tasks,
    "sources": registry.sources,
    "trackers": registry.trackers,
}


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Module -> the modules of tuneoff that it imports, inside functions and for types alone too."""
    graph = grimp.build_graph(tuneoff.__name__, cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def folder_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def circle(imports: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        modules: list[str] = error.args[1]
        return modules
    return []


def test_no_modules_import_one_another(imports: dict[str, set[str]]) -> None:
    assert circle(imports) == []


def test_no_folders_import_one_another(imports: dict[str, set[str]]) -> None:
    folders: dict[str, set[str]] = {}
    for module, others in imports.items():
        folder = folder_of(module)
        folders.setdefault(folder, set()).update({folder_of(other) for other in others} - {folder})
    assert circle(folders) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_plug_in_knows_interfaces_records_and_basics_alone(kind: str, imports: dict[str, set[str]]) -> None:
    folder = f"tuneoff.{kind}"
    names = [f"{folder}.{name}" for name in [*KINDS[kind](), *KINDS[kind]().families()]]
    pending = [name for name in names if name in imports]  # without third parties'
    known: set[tuple[str, str]] = set()
    for module in pending:
        known |= {(module, other) for other in imports[module]}
        # A file that several plug-ins share is part of each.
        pending += [o for o in imports[module] if o.startswith(f"{folder}.") and o not in pending]
    assert known
    strangers = {(m, o) for m, o in known if folder_of(o) not in BASICS | {folder}}
    assert strangers == set()
