"""Rows and base models of the Hugging Face hub. No remote code is run, and no pickles are opened."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tuneoff.config.spec import ModelSpec, SourceSpec
from tuneoff.errors import SourceNotFound
from tuneoff.sources._hub_files import Repository, fetch, keep_reference, resolve
from tuneoff.sources._hub_rows import read
from tuneoff.sources._weights import DESCRIBING, WEIGHTS, check_weights, find_weights, weight_names
from tuneoff.sources.base import ModelFiles, Rows, Source

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONVERTED = "Many models have a conversion under another revision, such as `revision: refs/pr/1`."


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
        found = resolve("dataset", spec.source, spec.revision)
        rows = read(found, spec.config, spec.split or split)
        keep_reference(found)
        return replace(rows, commit=found.commit)

    def model(self, spec: ModelSpec) -> ModelFiles:
        """The configuration and tokenizer at the commit that the revision stands for; weights come later.

        Where the hub does not answer, its cache is asked. That there are weights that can be loaded is known from the
        names of the files, before any is fetched.
        """
        found = resolve("model", spec.source, spec.revision)
        gguf_file = None
        if not spec.random_weights:
            gguf_file = _find_weights(found, spec.source)
        folder = fetch(found, [name for name in found.files if "/" not in name and name.endswith(DESCRIBING)])
        if spec.random_weights:
            keep_reference(found)
        elif found.trouble:
            # All that is wanted later must be here already.
            fetch(found, weight_names(folder, gguf_file, _called(spec.source)))
        return ModelFiles(str(folder), gguf_file, commit=found.commit, hub_id=spec.source, hub_commit=found.commit)

    def fetch_weights(self, spec: ModelSpec, files: ModelFiles) -> None:
        """Fetches the weights of the commit that the configuration is of; from then on the cache knows the revision."""
        assert files.commit is not None
        found = Repository("model", spec.source, spec.revision, files.commit, ())
        folder = fetch(found, weight_names(Path(files.path), files.gguf_file, _called(spec.source)))
        check_weights(folder, files.gguf_file, _called(spec.source))
        keep_reference(found)


def _called(name: str) -> str:
    return f"model {name!r}"


def _find_weights(found: Repository, name: str) -> str | None:
    """As `find_weights`; where the cache lacks them, that is what is said."""
    try:
        return find_weights(found.files, _called(name), _CONVERTED)
    except SourceNotFound:
        if found.trouble:
            fetch(found, ["config.json", WEIGHTS])
        raise


plugin = Hub
