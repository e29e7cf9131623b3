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

from tuneoff.config.spec import ModelSpec, SourceSpec
from tuneoff.errors import DataError, SourceNotFound, did_you_mean
from tuneoff.sources import _docstrings
from tuneoff.sources._cache import cache_errors, cache_folder, lock
from tuneoff.sources.base import ModelFiles, Rows, Source

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
"""All are dependencies of tuneoff or of one of those. What is not installed is left out."""

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}

FEWEST_ROWS = 20
"""Of a split, below which nothing can be said with it."""


class Docstrings(Source):
    """Pairs of a docstring's body and its one-line summary, out of the source files of installed packages.

    Columns: `body`, `summary`, `package`, `module` and `name`. The body alone is the input by default: a qualified
    name such as `masked_all_like` would give much of the answer away (a template may still use it). Only pairs whose
    summary can be told from the body are kept (half of its content words stand there); code, examples and references
    are cut out of bodies; what repeats an earlier summary or body is left out. Modules (files) are dealt to the splits
    by a hash of their names, 80:10:10, so that no file is in two of them.

    The rows depend on the packages' versions. The first use parses their files (some 20 s) and keeps the pairs in
    the cache.
    """

    title = "Docstrings"
    summary = "documentation bodies and their one-line summaries, from the installed scientific packages"
    priority = 15

    def __init__(self, packages: tuple[str, ...] = PACKAGES) -> None:
        self._packages = packages

    def claims(self, reference: str) -> bool:
        """Exactly its one name."""
        return reference == NAME

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """One split; parses the packages on first use."""
        if spec.source != NAME:
            raise SourceNotFound(f"no docstrings by the name {spec.source!r}", hint=f"There is only `{NAME}`.")
        for key in ("config", "revision"):
            if getattr(spec, key) is not None:
                raise SourceNotFound(
                    f"{NAME} come from what is installed and have no {key}", hint=f"Leave out `{key}`."
                )
        wanted = spec.split or split
        if wanted not in SHARES:
            raise SourceNotFound(
                f"{NAME} has no split {wanted!r}{did_you_mean(wanted, SHARES)}", hint=f"It has {', '.join(SHARES)}."
            )
        found = [row for row in self._all_rows() if split_of(row["module"]) == wanted]
        if len(found) < FEWEST_ROWS:
            raise DataError(
                f"{NAME} {wanted}: only {len(found)} pairs are found in the source files of the installed packages",
                hint=f"It reads {', '.join(self._packages)}; install more of them, with their .py files.",
            )
        return Rows({column: [row[column] for row in found] for column in _docstrings.COLUMNS}, f"{NAME} {wanted}")

    def model(self, spec: ModelSpec) -> ModelFiles:
        """There are none."""
        raise SourceNotFound(
            f"{NAME} holds rows, not models", hint="`tuneoff list models` shows base models that need no hub."
        )

    def fingerprint(self, reference: str) -> str:
        """SHA-256 of the packages' versions, Python's (which decides what can be parsed) and the rules'."""
        versions = [[name, version] for name, version, _ in self._installed()]
        content = [_docstrings.VERSION, platform.python_version_tuple()[:2], versions]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def dataset_aliases(self) -> dict[str, str]:
        """Its one name."""
        return {
            NAME: "documentation of numpy, torch, pandas and other installed packages with its one-line summaries "
            "(about 4,900 pairs; columns body, summary). Licence: each package's own"
        }

    def _installed(self) -> list[tuple[str, str, Path]]:
        """Name, version and folder of each package that is installed, without importing it."""
        found = []
        for name in sorted(self._packages):
            try:
                spec, version = find_spec(name), metadata.version(name)
            except (ImportError, ValueError, metadata.PackageNotFoundError):
                continue
            if spec is not None and spec.submodule_search_locations:
                found.append((name, version, Path(next(iter(spec.submodule_search_locations)))))
        return found

    def _extract(self) -> list[dict[str, str]]:
        collects = gc.isenabled()
        gc.disable()  # a syntax tree has no cycles, and looking for some takes a quarter of the time
        try:
            pairs = (row for name, _, folder in self._installed() for row in _docstrings.extract(name, folder))
            return list(_docstrings.distinct(pairs))
        finally:
            if collects:
                gc.enable()

    def _all_rows(self) -> list[dict[str, str]]:
        """All pairs, from the cache or from the files; one process parses, others wait for it."""
        place = cache_folder() / NAME / f"{self.fingerprint(NAME)[:16]}.json"
        if (kept := _read(place)) is not None:
            return kept
        with cache_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            with lock(place):
                if (kept := _read(place)) is not None:
                    return kept
                rows = self._extract()
                temporary = place.with_name(f"{place.name}.{os.getpid()}")
                text = json.dumps(rows)
                kept_as = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "rows": text}
                temporary.write_text(json.dumps(kept_as), encoding="utf-8")
                temporary.replace(place)
        return rows


def split_of(module: str) -> str:
    """The split that a module's pairs are in: by its name's hash alone."""
    left = int.from_bytes(hashlib.sha256(module.encode()).digest()[:8], "big") / 2**64
    *others, last = SHARES
    for split in others:
        left -= SHARES[split]
        if left < 0:
            return split
    return last


def _read(place: Path) -> list[dict[str, str]] | None:
    """The kept pairs, or None where there are none, or not those that were written."""
    try:
        kept: Any = json.loads(place.read_text(encoding="utf-8"))
        if hashlib.sha256(kept["rows"].encode()).hexdigest() != kept["sha256"]:
            return None
        rows: list[dict[str, str]] = json.loads(kept["rows"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return rows


plugin = Docstrings
