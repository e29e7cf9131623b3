"""What every source promises: rows and models are found by reference, the same every time, and errors say why."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from tuneoff import registry
from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import SourceError
from tuneoff.interfaces import Source
from tuneoff.sources import find
from tuneoff.testing.imports import find_imported

BUILT_IN = {"./rows.csv": "file", "/data/rows.parquet": "file", "organisation/name": "hub"}
"""References whose form belongs to a source of tuneoff."""


class SourceContract:
    """All that a source promises. References are given without the source's prefix.

    Attributes:
        source: the source's name, which is its entry point's.
    """

    source: ClassVar[str]

    @pytest.fixture
    def plugin(self) -> Source:
        """The source."""
        return registry.sources()[self.source]()

    @pytest.fixture
    def reference(self) -> str:
        """A data set that has rows for training. Override it."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `reference`: rows that {self.source} has")

    @pytest.fixture
    def unknown(self) -> str:
        """A reference of the right form that leads nowhere."""
        return "no-such-thing"

    @pytest.fixture
    def model_reference(self) -> str | None:
        """A base model; None for a source that has none. Override it where there are some."""
        return None

    def test_it_says_what_it_is(self, plugin: Source) -> None:
        assert plugin.title
        assert plugin.summary
        assert isinstance(plugin.priority, int)

    def test_it_is_asked_without_importing_torch(self) -> None:
        code = (
            f"from tuneoff import registry; s = registry.sources()[{self.source!r}](); "
            "s.claims('x'), s.dataset_aliases(), s.model_aliases()"
        )
        assert not find_imported(code)

    def test_a_prefix_leads_to_it(self, reference: str) -> None:
        source, rest = find(registry.sources(), f"{self.source}:{reference}")
        assert type(source) is registry.sources()[self.source]
        assert rest == reference

    def test_its_aliases_lead_to_it_and_are_described(self, plugin: Source) -> None:
        for alias, line in {**plugin.dataset_aliases(), **plugin.model_aliases()}.items():
            assert line.strip()
            assert plugin.claims(alias), alias
            source, _ = find(registry.sources(), f"{self.source}:{alias}")
            assert type(source) is type(plugin)

    @pytest.mark.parametrize("taken", BUILT_IN)
    def test_it_takes_no_reference_that_is_another_sources(self, taken: str) -> None:
        source, _ = find(registry.sources(), taken)
        assert type(source) is registry.sources()[BUILT_IN[taken]]

    def test_rows_are_a_table_and_the_same_every_time(self, plugin: Source, reference: str) -> None:
        spec = SourceSpec(source=reference)
        rows = plugin.rows(spec, "train")
        assert len(rows) > 0
        assert rows.origin
        assert rows.columns
        for name, values in rows.columns.items():
            assert isinstance(name, str)
            assert len(values) == len(rows), name
        assert not rows.lines or len(rows.lines) == len(rows)
        assert not rows.numbers or len(rows.numbers) == len(rows)
        assert rows.origin in rows.place(0)
        for column, names in rows.class_names.items():
            cells = rows.columns[column]
            codes = {code for cell in cells for code in (cell if isinstance(cell, list) else [cell])} - {None}
            assert all(isinstance(code, int) and -1 <= code < len(names) for code in codes)
        again = plugin.rows(spec, "train")
        assert (again.columns, again.class_names) == (rows.columns, rows.class_names)

    def test_what_is_not_there_is_refused_by_name(self, plugin: Source, unknown: str) -> None:
        with pytest.raises(SourceError) as caught:
            plugin.rows(SourceSpec(source=unknown), "train")
        assert unknown in caught.value.message
        with pytest.raises(SourceError):
            plugin.model(ModelSpec(source=unknown))

    def test_rows_are_no_model(self, plugin: Source, reference: str) -> None:
        with pytest.raises(SourceError) as caught:
            plugin.model(ModelSpec(source=reference))
        assert reference in str(caught.value)

    def test_the_fingerprint_of_unchanged_content_stays(self, plugin: Source, reference: str) -> None:
        first = plugin.fingerprint(reference)
        assert isinstance(first, str)
        assert plugin.fingerprint(reference) == first
        size = plugin.local_bytes(reference)
        assert size is None or size > 0

    def test_a_model_is_a_folder_that_transformers_reads(self, plugin: Source, model_reference: str | None) -> None:
        if model_reference is None:
            assert not plugin.model_aliases()
            return
        spec = ModelSpec(source=model_reference)
        files = plugin.model(spec)
        if not files.whole:
            plugin.fetch_weights(spec, files)
        folder = Path(files.path)
        assert files.gguf_file or (folder / "config.json").is_file()
        assert (folder / files.gguf_file).is_file() if files.gguf_file else list(folder.glob("*.safetensors"))
        assert plugin.model(spec).path == files.path
