"""What a paper takes: the table, the paragraph on methods, its references, and a page that LaTeX compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.cli.main import main
from tuneoff.encoding import latex as escaped
from tuneoff.report import latex, paper_methods
from tuneoff.report.schema import Report
from tuneoff.store import StudyStore

LEVELS = {
    "majority": Level(0.5, head=0, stored=0),
    "head": Level(0.7, 4.0, 400 << 20, stored=12_000),
    "lora": Level(0.9, 25.0, 660 << 20, adapter=147_456),
    "dora": Level(0.9, 35.0, 700 << 20, adapter=148_000),
}
ARMS: dict[str, Any] = {"majority": {}, "head": {}, "lora": {}, "dora": {"method": "lora", "dora": True}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyStore:
    world = World(levels=LEVELS, test_rows=200, contended=frozenset({"head"}))
    return build_store(tmp_path_factory.mktemp("latex") / "s", small_study(arms=ARMS, seeds=6), world)


def ours(built: Report) -> Report:
    """The report with the version of tuneoff, as its own trials record it."""
    versions = {**built.environments.versions, "tuneoff": "0.1.0"}
    return built.model_copy(update={"environments": built.environments.model_copy(update={"versions": versions})})


@pytest.fixture(scope="module")
def built(study: StudyStore) -> Report:
    return ours(report.build(study))


def check_parses(text: str) -> None:
    """Looks at what LaTeX would trip over: braces, environments, and tables whose rows are unequal."""
    bare = re.sub(r"\\[\\{}%]", "", text)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    for body in re.findall(r"\\toprule(.*?)\\bottomrule", text, flags=re.DOTALL):
        rows = [line for line in body.splitlines() if line.rstrip().endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert text.isascii()


def test_the_table_has_numbers_to_align_ties_as_letters_and_notes(built: Report) -> None:
    text = latex.table(built)
    check_parses(text)
    head, units, *rows = [line.strip() for line in text.splitlines() if line.endswith(r"\\")]
    assert head == (
        r"Arm & {Accuracy} & {95\% interval} & {Ties} & {Macro-F1} & {Train time} & {Peak memory} & {Trainable} & "
        r"{Stored} \\"
    )
    assert units == r"& {} &  &  & {} & {(s)} & {(MiB)} & {} & {(MiB)} \\"
    cells = {row.partition(" & ")[0]: row.removesuffix(r" \\").split(" & ") for row in rows}
    assert list(cells) == [rf"\texttt{{{label}}}" for label in ARMS]
    lora = built.arm("lora").metrics["accuracy"]
    assert lora.interval_low is not None
    assert cells[r"\texttt{lora}"][1].removeprefix(r"\bfseries ") == f"{lora.mean:.3f}"
    assert cells[r"\texttt{lora}"][2] == f"[{lora.interval_low:.3f}, {lora.interval_high:.3f}]"
    assert [line[3] for line in cells.values()] == [arm.ties for arm in built.methods]
    assert cells[r"\texttt{majority}"][5:] == ["{--}", "{--}", "0", "0"]
    assert cells[r"\texttt{head}"][-1] == r"\bfseries 0.011"
    assert r"Timed while something else used the machine: head." in text
    assert "Arms that share a letter cannot be told apart by accuracy." in text


def test_more_arms_than_a_page_holds_take_several_floats(built: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latex, "ARMS_ON_A_PAGE", 3)
    text = latex.table(built)
    check_parses(text)
    assert text.count(r"\begin{table}") == 2
    assert (text.count(r"\label{tab:"), text.count("(Continued.)"), text.count("minipage}{")) == (1, 1, 1)
    assert all(text.count(rf"\texttt{{{label}}}") == 1 for label in ARMS)


def test_the_paragraph_says_what_was_done_and_cites_each_arm(built: Report) -> None:
    lines = paper_methods.paragraph(built, latex.references_of(built)).splitlines()
    check_parses("\n".join(lines))
    assert lines[:2] == [
        "The base model is minilm (BertModel); the task is classification on reuters-r8, with 1,000 rows of train, 200 "
        "rows of validation and 200 rows of test.",
        r"We compare \texttt{head}~\cite{alain2016understanding}, \texttt{lora}~\cite{hu2022lora} and "
        r"\texttt{dora}~\cite{hu2022lora,liu2024dora}, beside \texttt{majority} without training.",
    ]
    assert "Each arm has 6 seeds (0, 1, 2, 3, 4, 5); all 24 trials completed." in lines
    text = "\n".join(lines)
    assert "3 epochs with AdamW" in text
    assert "No learning rate was searched. Learning rates are the method's default in tuneoff: head 0." in text
    assert "corrected by Shaffer's method, and under 6 seeds in common nothing is called significant" in text
    assert "pairs inform one another of how much seeds differ (a moderated variance)." in text
    assert "Trials ran on Xeon (2 cores, 2 threads, 8.0 GiB of memory, computing on cpu)" in text
    assert "torch 2.13.0, transformers 5.23.0 and tuneoff 0.1.0" in text
    assert text.endswith("Something else used the machine while head was timed.")


def test_of_a_study_that_was_imported_no_fairness_is_claimed(built: Report, study: StudyStore) -> None:
    text = paper_methods.paragraph(report.build(study), {})
    assert "imported" in text
    assert not re.search("same rows|searched|checkpoint|epoch|default", text)
    text = paper_methods.paragraph(built.model_copy(update={"comparable": True}), {})
    assert "At a seed all arms get the same rows, splits, order and batches" in text
    assert r"\cite" not in text


def test_a_search_is_told_as_it_was(tmp_path: Path) -> None:
    store = build_store(tmp_path / "s", small_study("lora", "full", seeds=1, search={"trials": 3}))
    text = paper_methods.paragraph(ours(report.build(store)), {})
    assert "every arm got the same search (3 trials per arm, seed" in text
    assert "best trial by validation accuracy was chosen. Learning rates are found by the search" in text


def test_references_stand_once_by_key(built: Report) -> None:
    text = latex.bibliography(latex.references_of(built))
    assert re.findall(r"^@misc\{(\w+),$", text, re.MULTILINE) == [
        "alain2016understanding",
        "hu2022lora",
        "liu2024dora",
    ]
    assert "  title = {{LoRA: Low-Rank Adaptation of Large Language Models}}," in text
    assert "  note = {arXiv:2106.09685}," in text


def test_methods_that_are_not_here_or_changed_are_not_cited(built: Report) -> None:
    gone = built.arm("lora").model_copy(update={"method_name": "nowhere_to_be_found"})
    changed = built.arm("dora").model_copy(update={"options": {"no_such": 1}})
    report_ = built.model_copy(update={"methods": (gone, changed)})
    assert latex.references_of(report_) == {"lora": (), "dora": ()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5 % {x}", r"a\_b \& 5 \% \{x\}"),
        ("\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
        ("Rücklé", r"R{\"{u}}ckl{\'{e}}"),
        ("中 ± …", r"U+4E2D $\pm$ \dots{}"),
        ("a\nb\u202e", r"a b\textbackslash{}u202e"),
    ],
)
def test_text_is_never_a_command(text: str, expected: str) -> None:
    assert escaped(text) == expected


HOSTILE = {
    r"\input{/etc/passwd}": {"method": "lora", "r": 1},
    r"50 % & $x^2$ #1 ~ {": {"method": "lora", "r": 2},
    "模型 é ø ß ł": {"method": "lora", "r": 3},
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (texlive-latex-recommended, -science)")
def test_the_page_compiles_whatever_arms_are_called(study: StudyStore, tmp_path: Path) -> None:
    world = World(levels=dict.fromkeys(HOSTILE, LEVELS["lora"]), test_rows=50)
    hostile = build_store(tmp_path / "s", small_study(arms=HOSTILE), world)
    for store in (study, hostile):
        page = report.write_latex(store)
        folder = page.parent
        names = {path.name for path in folder.iterdir()}
        assert {"report.tex", "table.tex", "methods.tex", "references.bib", "quality_train_time.pdf"} <= names
        assert (folder / "quality_train_time.svg").read_text(encoding="utf-8").startswith("<?xml")
        for command in (["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "report"], ["bibtex", "report"]) * 2:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
            assert done.returncode == 0, done.stdout[-2000:]
        assert (folder / "report.pdf").stat().st_size > 10_000
        assert "Overfull \\hbox" not in (folder / "report.log").read_text(errors="replace")


def test_the_page_shows_every_part(study: StudyStore) -> None:
    page = report.write_latex(study)
    text = page.read_text(encoding="utf-8")
    check_parses(text)
    assert all(
        f"\\input{{{part}}}" in text and (page.parent / f"{part}.tex").is_file() for part in ("table", "methods")
    )
    pictures = re.findall(r"\\includegraphics\[[^]]*\]\{([^}]*)\}", text)
    assert pictures
    assert all((page.parent / name).read_bytes().startswith(b"%PDF") for name in pictures)
    first = (page.parent / pictures[0]).read_bytes()
    report.write_latex(study)
    assert (page.parent / pictures[0]).read_bytes() == first


def test_the_command_names_the_page_and_refuses_what_writes_nothing(
    study: StudyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(study.root), "--latex"]) == 0
    assert f"For a paper: {study.root / 'report' / 'latex' / 'report.tex'}" in capsys.readouterr().out
    assert main(["report", str(study.root), "--latex", "--json"]) == 2
    assert "goes without --latex" in capsys.readouterr().err
