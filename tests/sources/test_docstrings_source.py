"""The source `docstrings`: what makes a pair, that splits share no module, and that the cache follows the versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneoff import registry
from tuneoff.config.data import ModelSpec, SourceSpec
from tuneoff.errors import DataError, SourceNotFound
from tuneoff.interfaces import Rows
from tuneoff.sources import _docstrings, find, find_model, read_rows
from tuneoff.sources._docstring_forms import FORMS
from tuneoff.sources._docstrings import CODE_END, CODE_START
from tuneoff.sources.docstrings import FEWEST_ROWS, SHARES, Docstrings, split_of
from tuneoff.testing import SourceContract

GOOD = """Return the masked copy of a matrix.

    The copy has the shape of the matrix, and everything that the mask covers is hidden in it.
    Rows that the mask covers wholly are kept, see :func:`numpy.ma.compress_rows` and ``axis``.

    Parameters
    ----------
    matrix : array
        What to copy, of any shape and type, as long as the mask fits it.
    mask : array
        Covers what is True.

    Examples
    --------
    >>> masked(matrix, mask)
    array([1, --])

    Returns
    -------
    copy : array
        The **masked** copy [1]_.

    References
    ----------
    .. [1] Somebody, "Masks".
    """


def test_a_pair_is_plain_text_without_examples_and_references() -> None:
    made = _docstrings.pair(GOOD.replace("\n    ", "\n"))
    assert made is not None
    body, summary = made
    assert summary == "Return the masked copy of a matrix."
    assert body.splitlines() == [
        "The copy has the shape of the matrix, and everything that the mask covers is hidden in it. "
        "Rows that the mask covers wholly are kept, see compress_rows and axis.",
        "Parameters: matrix : array What to copy, of any shape and type, as long as the mask fits it. "
        "mask : array Covers what is True.",
        "Returns: copy : array The masked copy.",
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Return the masked copy of a matrix.", "Return the copy."),
        ("Return the masked copy of a matrix.", "Return the masked copy of a matrix"),
        ("Return the masked copy of a matrix.", "Return the masked copy. It is a matrix of one row."),
        ("Return the masked copy of a matrix.", "Return the masked copy of a matrix (deprecated)."),
        ("Return the masked copy of a matrix.", "Telephone the neighbours about breakfast in the garden."),
        ("Returns\n", "%(returns)s\n"),
    ],
    ids=["short", "no sentence", "two sentences", "deprecated", "not told from the body", "template"],
)
def test_what_makes_no_good_pair(old: str, new: str) -> None:
    docstring = GOOD.replace("\n    ", "\n")
    assert old in docstring
    assert _docstrings.pair(docstring.replace(old, new)) is None


def test_a_short_body_makes_no_pair() -> None:
    assert _docstrings.pair("Return the masked copy of a matrix.\n\nThe masked copy of a matrix is short.") is None


def test_what_repeats_is_left_out() -> None:
    words = [f"word{i}" for i in range(60)]
    first = {"summary": "Return a thing.", "body": " ".join(words)}
    same_summary = {"summary": "return a  Thing", "body": " ".join(reversed(words))}
    same_body = {"summary": "Make a thing.", "body": " ".join([*words[:50], "and", "other", "ends"])}
    other = {"summary": "Drop a thing.", "body": " ".join([*words[:10], *reversed(words)])}
    assert list(_docstrings.distinct([first, same_summary, same_body, other])) == [first, other]


# -- a package of its own --------------------------------------------------------------------------------------------

MODULES, EACH = 60, 8
NUMBERS = [chr(97 + i) * 5 for i in range(16)]


def _function(module: int, number: int) -> str:
    own = [f"{word}{module}x{number}" for word in NUMBERS]
    prose = " ".join(f"the masked {word} of matrix {own[at]}" for at, word in enumerate(NUMBERS[:12]))
    return (
        f"def f{number}():\n"
        f'    """Return the masked matrix {own[0]} of number {module}.{number} here.\n\n    {prose} {" ".join(own)}.\n'
        '    """\n'
    )


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`paired` 1.0, installed under tmp_path; importing it fails."""
    folder = tmp_path / "site" / "paired"
    (folder / "tests").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    for module in range(MODULES):
        text = "".join(_function(module, number) for number in range(EACH))
        (folder / f"m{module:02d}.py").write_text(text, encoding="utf-8")
    (folder / "tests" / "more.py").write_text(_function(99, 0), encoding="utf-8")
    (folder / "broken.py").write_text(_function(98, 0) + "def (:\n", encoding="utf-8")
    _version(folder, "1.0")
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    return folder


def _version(folder: Path, version: str) -> None:
    info = folder.parent / "paired-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: paired\nVersion: {version}\n", encoding="utf-8")


def _read(split: str, *packages: str) -> Rows:
    return Docstrings(packages or ("paired",)).rows(SourceSpec(source="docstrings"), split)


def test_every_pair_is_in_one_split_and_every_module_too(package: Path) -> None:
    splits = {split: _read(split) for split in SHARES}
    assert sum(len(rows) for rows in splits.values()) == MODULES * EACH
    modules = [set(rows.columns["module"]) for rows in splits.values()]
    assert sum(map(len, modules)) == len(set().union(*modules)) == MODULES
    assert len(splits["train"]) > 4 * max(len(splits["validation"]), len(splits["test"]))
    train = splits["train"].columns
    assert set(train) == {"body", "summary", "package", "module", "name"}
    assert train["module"] == sorted(train["module"])
    assert train["name"][:3] == ["f0", "f1", "f2"]
    assert set(train["package"]) == {"paired"}


def test_a_module_stays_in_its_split() -> None:
    assert [split_of(f"paired.m{i}") for i in range(12)] == [split_of(f"paired.m{i}") for i in range(12)]
    shares = [split_of(f"m{i}") for i in range(4000)]
    assert {split: round(shares.count(split) / 4000, 1) for split in SHARES} == SHARES


def test_the_cache_follows_the_version(package: Path) -> None:
    source = Docstrings(("paired",))
    before, rows = source.fingerprint("docstrings"), _read("train")
    for path in package.glob("m*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("masked", "hidden"), encoding="utf-8")
    assert _read("train") == rows, "parsed once"
    _version(package, "1.1")
    assert source.fingerprint("docstrings") != before
    assert "hidden" in _read("train").columns["summary"][0]


@pytest.mark.parametrize("damage", [("masked", "Masked"), ('"rows"', '"lost"'), ("{", "[")])
def test_a_cache_that_is_not_as_it_was_written_is_made_anew(
    package: Path, tmp_path: Path, damage: tuple[str, str]
) -> None:
    rows = _read("test")
    (kept,) = (tmp_path / "cache" / "docstrings").glob("*.json")
    written = kept.read_text(encoding="utf-8")
    kept.write_text(written.replace(*damage, 1), encoding="utf-8")
    assert _read("test") == rows
    assert kept.read_text(encoding="utf-8") == written


def test_packages_that_are_not_installed_are_left_out(package: Path) -> None:
    assert _read("train", "paired", "nosuchpackage") == _read("train")
    with pytest.raises(DataError, match="only 0 pairs") as error:
        _read("train", "nosuchpackage")
    assert "nosuchpackage" in error.value.hint


def test_too_few_pairs_are_refused(package: Path) -> None:
    for path in sorted(package.glob("m*.py"))[2:]:
        path.unlink()
    assert 2 * EACH < FEWEST_ROWS
    with pytest.raises(DataError, match="only"):
        _read("train")


def test_it_is_found_by_its_name_alone() -> None:
    source, reference = find(registry.sources(), "docstrings")
    assert (type(source), reference) == (Docstrings, "docstrings")
    assert "docstrings" in source.dataset_aliases()
    with pytest.raises(SourceNotFound, match="did you mean 'docstrings'"):
        find(registry.sources(), "docstring")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"split": "trian"}, "did you mean 'train'"),
        ({"revision": "main"}, "no revision"),
        ({"config": "all"}, "no config"),
    ],
)
def test_keys_that_mean_nothing_here_are_refused(keys: dict[str, str], said: str) -> None:
    with pytest.raises(SourceNotFound, match=said):
        Docstrings().rows(SourceSpec.model_validate({"source": "docstrings", **keys}), "train")


def test_it_holds_no_models_and_no_other_name() -> None:
    with pytest.raises(SourceNotFound, match="rows, not models"):
        find_model(registry.sources(), ModelSpec(source="docstrings"))
    with pytest.raises(SourceNotFound, match="'summaries'"):
        read_rows(registry.sources(), SourceSpec(source="docstrings:summaries"), "train")


@pytest.mark.usefixtures("package")
class TestDocstrings(SourceContract):
    source = "docstrings"

    @pytest.fixture
    def plugin(self) -> Docstrings:
        return Docstrings(("paired",))

    @pytest.fixture
    def reference(self) -> str:
        return "docstrings"


# --- rows for other tasks


def pairs(*modules: str) -> list[dict[str, str]]:
    return [
        {
            "body": f"body {i} of {module}",
            "marked": f"plain {i}\nSee {CODE_START}a b{CODE_END}, and {CODE_START}c{CODE_END}.\nmore",
            "summary": f"summary {i}",
            "package": module.partition(".")[0],
            "module": module,
            "name": f"name{i}",
        }
        for i, module in enumerate(modules)
    ]


def test_one_of_four_options_is_the_bodys_summary_and_all_are_of_its_package() -> None:
    rows = pairs(*["one.a.b"] * 6, *["two.c"] * 5, "three.d")
    columns = FORMS["options"](rows, rows)
    assert len(columns["body"]) == 11, "a package of one pair has no wrong options"
    for row, options, answer in zip(rows, columns["options"], columns["answer"], strict=False):
        assert options["ABCD".index(answer)] == row["summary"]
        assert len(set(options)) == 4
        package = {other["summary"] for other in rows if other["package"] == row["package"]}
        assert set(options) <= package
    assert len(set(columns["answer"])) > 1
    assert FORMS["options"](rows, rows) == columns


def test_topics_are_frequent_parts_of_module_names_but_the_file() -> None:
    many = [f"one.linalg.file{i}" for i in range(14)] + [f"one._stats.file{i}" for i in range(14)]
    rare = ["one.rare.file", *["two.file"] * 10]
    rows = pairs(*many, *rare)
    columns = FORMS["topics"](rows[:1] + rows[14:15] + rows[28:], rows)
    assert columns["topics"] == [["linalg"], ["stats"], *[[]] * 11]


def test_relatedness_is_the_share_of_equal_leading_parts() -> None:
    rows = pairs(*["one.a.b"] * 4, *["one.a.c"] * 4, *["two.d"] * 4)
    columns = FORMS["relatedness"](rows, rows)
    module = {row["summary"]: row["module"] for row in rows}
    expected = {("one.a.b", "one.a.c"): 0.667, ("one.a.b", "two.d"): 0.0, ("one.a.c", "two.d"): 0.0}
    for first, second, value in zip(*columns.values(), strict=True):
        one, two = sorted((module[first], module[second]))
        assert value == expected.get((one, two), 1.0)
        assert first != second
    assert len(set(columns["relatedness"])) == 3


def test_words_that_the_author_marked_as_code_are_tagged() -> None:
    rows = pairs("one.a")
    columns = FORMS["code"](rows, rows)
    assert columns["words"] == [["See", "a", "b", ",", "and", "c", "."]]
    assert columns["tags"] == [["O", "B-code", "I-code", "O", "O", "B-code", "O"]]


def test_an_unknown_configuration_is_refused_with_those_there_are() -> None:
    with pytest.raises(SourceNotFound, match="did you mean 'options'") as caught:
        Docstrings().rows(SourceSpec(source="docstrings", config="option"), "train")
    assert "relatedness" in caught.value.hint
