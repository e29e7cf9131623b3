"""CoNLL files: sentences of words and tags."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff.errors import DataError
from tuneoff.interfaces import Rows
from tuneoff.sources._tables import read_table


def read(text: str, tmp_path: Path) -> Rows:
    (tmp_path / "ner.conll").write_text(text, encoding="utf-8")
    return read_table(tmp_path / "ner.conll", "ner.conll")


@pytest.mark.parametrize("mark", ["\t", " "])
def test_sentences_are_rows_of_words_and_tags(mark: str, tmp_path: Path) -> None:
    hash_sign = "#" if mark == "\t" else "x"
    lines = ["Ann|B-per", "met|O", "", "", f"{hash_sign}|O", "Bob|B-per", ""]
    rows = read("\r\n".join(lines).replace("|", mark), tmp_path)
    assert rows.columns["tokens"] == [["Ann", "met"], [hash_sign, "Bob"]]
    assert rows.columns["tags"] == [["B-per", "O"], ["O", "B-per"]]
    assert rows.place(1) == "ner.conll line 5"


def test_columns_between_documents_and_comments_are_known(tmp_path: Path) -> None:
    rows = read("-DOCSTART- -X- O O\n\n# id 7 = x\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n", tmp_path)
    assert list(rows.columns) == ["tokens", "column_2", "column_3", "tags"]
    assert rows.columns["column_2"] == [["NNP", "VBZ"]]


def test_a_sentence_that_begins_with_a_hash_sign_keeps_it(tmp_path: Path) -> None:
    rows = read("# id 7\n# about\nAnn B-per\nmet O\n\n# O\nBob B-per\n", tmp_path)
    assert rows.columns["tokens"] == [["Ann", "met"], ["#", "Bob"]]
    assert rows.place(0) == "ner.conll line 3"


@pytest.mark.parametrize(("text", "said"), [("a O\nb\n", "line 2 has 1 columns"), ("\n", "no rows"), ("a\n", "a tag")])
def test_what_is_no_such_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(text, tmp_path)
