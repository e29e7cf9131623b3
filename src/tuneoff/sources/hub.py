"""Rows and base models of the Hugging Face hub. No remote code is run, and no pickles are opened."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tuneoff.errors import SourceNotFound
from tuneoff.interfaces import ADAPTER_FILES, ModelFiles, ModelSpec, Rows, Source, SourceSpec
from tuneoff.sources._hub_files import Repository, fetch, keep_reference, resolve
from tuneoff.sources._hub_rows import read
from tuneoff.sources._weights import DESCRIBING, WEIGHTS, check_weights, find_weights, weight_names

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONVERTED = "Many models have a conversion under another revision, such as `revision: refs/pr/1`."


class Hub(Source):
    """A hub id (org/name): a dataset, or a model in safetensors or one GGUF file."""

    title = "Hugging Face hub"
    summary = "data sets and models by id (org/name); safetensors or GGUF, no remote code"
    priority = 90

    def claims(self, reference: str) -> bool:
        """Tells whether a reference has the form org/name."""
        return _HUB_ID.fullmatch(reference) is not None

    def rows(self, spec: SourceSpec, split: str) -> Rows:
        """Reads one split from the hub or, where that does not answer, from its cache of earlier fetches."""
        repository = resolve("dataset", spec.source, spec.revision)
        rows = read(repository, spec.config, spec.split or split)
        keep_reference(repository)
        return replace(rows, commit=repository.commit)

    def model(self, spec: ModelSpec) -> ModelFiles:
        """Fetches the configuration and tokenizer at the commit of the revision; weights come later.

        Where the hub does not answer, its cache is asked. That there are weights that can be loaded is known from the
        names of the files, before any is fetched.
        """
        repository = resolve("model", spec.source, spec.revision)
        gguf_file = None
        if not spec.random_weights:
            gguf_file = _find_weights(repository, spec.source)
        folder = fetch(repository, [name for name in repository.files if "/" not in name and name.endswith(DESCRIBING)])
        if spec.random_weights:
            keep_reference(repository)
        elif repository.trouble:
            # All that is wanted later must be here already.
            fetch(repository, weight_names(folder, gguf_file, _describe(spec.source)))
        return ModelFiles(
            str(folder), gguf_file, commit=repository.commit, hub_id=spec.source, hub_commit=repository.commit
        )

    def adapter(self, reference: str) -> str:
        repository = resolve("model", reference, None)
        missing = [name for name in ADAPTER_FILES if name not in repository.files]
        if missing and not repository.trouble:
            raise SourceNotFound(
                f"{reference!r} at the hub holds no PEFT adapter in safetensors: it lacks {missing[0]}"
            )
        folder = fetch(repository, ADAPTER_FILES)
        keep_reference(repository)
        return str(folder)

    def fetch_weights(self, spec: ModelSpec, files: ModelFiles) -> None:
        """Fetches the weights at the configuration's commit, and then records the revision in the cache."""
        assert files.commit is not None
        repository = Repository("model", spec.source, spec.revision, files.commit, ())
        folder = fetch(repository, weight_names(Path(files.path), files.gguf_file, _describe(spec.source)))
        check_weights(folder, files.gguf_file, _describe(spec.source))
        keep_reference(repository)


def _describe(name: str) -> str:
    return f"model {name!r}"


def _find_weights(repository: Repository, name: str) -> str | None:
    """Calls `find_weights`; where the cache lacks the files, raises the error that says so."""
    try:
        return find_weights(repository.files, _describe(name), _CONVERTED)
    except SourceNotFound:
        if repository.trouble:
            fetch(repository, ["config.json", WEIGHTS])
        raise


plugin = Hub
