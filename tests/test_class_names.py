"""A class is known by its name: no two have the same."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

import tuneoff


def names_used_twice(files: Iterable[Path]) -> dict[str, list[str]]:
    """Name -> where it is defined, for every name that two classes share; private and nested ones count too."""
    places: dict[str, list[str]] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(f"{file}:{node.lineno}")
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_two_classes_share_a_name() -> None:
    assert names_used_twice(sorted(Path(tuneoff.__file__).parent.rglob("*.py"))) == {}


def test_a_name_is_found_where_it_is_used_twice(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class _A: ...\nclass B: ...\n")
    (tmp_path / "two.py").write_text("def f():\n    class _A: ...\n")
    assert list(names_used_twice(tmp_path.glob("*.py"))) == ["_A"]
