"""Real pairs for summarisation that any machine with our dependencies has: docstrings of scientific packages."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneoff.errors import DataError, SourceNotFound, did_you_mean
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec
from tuneoff.sources import _docstrings
from tuneoff.sources._cache import cache_errors, cache_folder, lock
from tuneoff.sources._docstring_forms import FORMS

NAME = "docstrings"

PACKAGES = (
    "accelerate",
    "datasets",
    "huggingface_hub",
    "matplotlib",
    "networkx",
    "nltk",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "pydantic",
    "scipy",
    "torch",
    "transformers",
)
"""All are dependencies of tuneoff or of one of these. Packages that are not installed are skipped."""

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}

FEWEST_ROWS = 20
"""Smallest number of rows with which a split can be used."""


class Docstrings(Source):
    """Pairs of a docstring's body and its one-line summary, out of the source files of installed packages.

    Columns: `body`, `summary`, `package`, `module` and `name`. The body alone is the input by default: a qualified
    name such as `masked_all_like` would give much of the answer away (a template may still use it). Only pairs whose
    summary can be told from the body are kept (half of its content words stand there); code, examples and references
    are cut out of bodies; what repeats an earlier summary or body is left out. Modules (files) are dealt to the splits
    by a hash of their names, 80:10:10, so that no file is in two of them.

    A configuration makes rows for other tasks of the same pairs: `options` (which of four summaries is this body's),
    `topics` (the parts of the module's name), `relatedness` (of two summaries) and `code` (which words are code).

    The rows depend on the packages' versions. The first use parses their files (some 20 s) and keeps the pairs in
    the cache.
    """

    title = "Docstrings"
    summary = "documentation bodies and their one-line summaries, from the installed scientific packages"
    priority = 15

    def __init__(self, packages: tuple[str, ...] = PACKAGES) -> None:
        self._packages = packages

    def claims(self, reference: str) -> bool:
        """Tells whether a reference is exactly its one name."""
        return reference == NAME

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """Returns one split; parses the packages on first use."""
        if spec.source != NAME:
            raise SourceNotFound(f"no docstrings by the name {spec.source!r}", hint=f"There is only `{NAME}`.")
        if spec.revision is not None:
            raise SourceNotFound(
                f"{NAME} come from what is installed and have no revision", hint="Leave out `revision`."
            )
        if spec.config is not None and spec.config not in FORMS:
            raise SourceNotFound(
                f"{NAME} has no configuration {spec.config!r}{did_you_mean(spec.config, FORMS)}",
                hint=f"It has {', '.join(FORMS)}; without one, pairs of body and summary.",
            )
        split_name = spec.split or split
        if split_name not in SHARES:
            raise SourceNotFound(
                f"{NAME} has no split {split_name!r}{did_you_mean(split_name, SHARES)}",
                hint=f"It has {', '.join(SHARES)}.",
            )
        every_row = self._all_rows()
        rows = [row for row in every_row if split_of(row["module"]) == split_name]
        if len(rows) < FEWEST_ROWS:
            raise DataError(
                f"{NAME} {split_name}: only {len(rows)} pairs are found in the source files of the installed packages",
                hint=f"It reads {', '.join(self._packages)}; install more of them, with their .py files.",
            )
        if spec.config is not None:
            return Rows(FORMS[spec.config](rows, every_row), f"{NAME} {spec.config} {split_name}")
        return Rows({column: [row[column] for row in rows] for column in _docstrings.COLUMNS}, f"{NAME} {split_name}")

    def model(self, spec: ModelSpec) -> ModelFiles:
        """Refuses every model: there are none."""
        raise SourceNotFound(
            f"{NAME} holds rows, not models", hint="`tuneoff list models` shows base models that need no hub."
        )

    def fingerprint(self, reference: str) -> str:
        """Computes the SHA-256 of the versions of the packages, of Python (which parses them) and of the rules."""
        versions = [[name, version] for name, version, _ in self._installed()]
        content = [_docstrings.VERSION, platform.python_version_tuple()[:2], versions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def dataset_aliases(self) -> dict[str, str]:
        """Returns its one name."""
        return {
            NAME: "documentation of numpy, torch, pandas and other installed packages with its one-line summaries "
            "(about 4,900 pairs; columns body, summary). Licence: each package's own"
        }

    def _installed(self) -> list[tuple[str, str, Path]]:
        """Lists name, version and folder of each installed package, without importing it."""
        packages = []
        for name in sorted(self._packages):
            try:
                spec, version = find_spec(name), metadata.version(name)
            except (ImportError, ValueError, metadata.PackageNotFoundError):
                continue
            if spec is not None and spec.submodule_search_locations:
                packages.append((name, version, Path(next(iter(spec.submodule_search_locations)))))
        return packages

    def _extract(self) -> list[dict[str, str]]:
        was_enabled = gc.isenabled()
        gc.disable()  # a syntax tree has no cycles, and looking for some takes a quarter of the time
        try:
            pairs = (row for name, _, folder in self._installed() for row in _docstrings.extract(name, folder))
            return list(_docstrings.distinct(pairs))
        finally:
            if was_enabled:
                gc.enable()

    def _all_rows(self) -> list[dict[str, str]]:
        """Returns all pairs, from the cache or from the files; one process parses, others wait for it."""
        path = cache_folder() / NAME / f"{self.fingerprint(NAME)[:16]}.json"
        if (cached := _read(path)) is not None:
            return cached
        with cache_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with lock(path):
                if (cached := _read(path)) is not None:
                    return cached
                rows = self._extract()
                temporary = path.with_name(f"{path.name}.{os.getpid()}")
                text = json.dumps(rows)
                content = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "rows": text}
                temporary.write_text(json.dumps(content), encoding="utf-8")
                temporary.replace(path)
        return rows


def split_of(module: str) -> str:
    """Returns the split of a module's pairs, by the hash of its name alone."""
    position = int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") / 2**64
    *others, last = SHARES
    for split in others:
        position -= SHARES[split]
        if position < 0:
            return split
    return last


def _read(path: Path) -> list[dict[str, str]] | None:
    """Reads the cached pairs; None where there are none, or where the file was changed."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if hashlib.sha256(content["rows"].encode()).hexdigest() != content["sha256"]:
            return None
        rows: list[dict[str, str]] = json.loads(content["rows"])
        if not all("marked" in row for row in rows):
            return None  # of an earlier version
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return rows


plugin = Docstrings
