from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from rouge_score.rouge_scorer import RougeScorer

from tuneoff.tasks._rouge import answer_scores, rouge, words

NAMES = {"rouge1": "rouge_1", "rouge2": "rouge_2", "rougeL": "rouge_l", "rougeLsum": "rouge_lsum"}
REAL = Path(__file__).parents[3] / "shared" / "data" / "cnn_dailymail_test.jsonl"

TRICKY = [
    "",
    " \n\n ",
    "...",
    "a",
    "The cat sat on the mat.",
    "the CAT, sitting\non a mat\n\nwas sat upon",
    "running runner runs ran ruin",
    "10,000 people paid $3.50 in 2015-16",
    "well-known state-of-the-art",
    "İstanbul'da ünïcode 日本 😀 naïve cafés",
    "x\n" * 5,
    "a b c a b c a b c",
    "c b a c b a",
    "generalizations of generalized generality\ngenerally generate",
    "tab\tseparated\r\nwindows lines\r\n",
    "Ss\u2028line separator\u0085next",
]


@pytest.fixture(scope="module")
def scorer() -> RougeScorer:
    return RougeScorer(list(NAMES), use_stemmer=True)


def check(scorer: RougeScorer, target: str, written: str) -> None:
    theirs = scorer.score(target, written)
    ours = rouge(target, written)
    expected = {ours_name: theirs[name].fmeasure for name, ours_name in NAMES.items()}
    assert ours == pytest.approx(expected, abs=1e-9), (target, written)


def test_tricky_texts_score_as_in_the_reference(scorer: RougeScorer) -> None:
    for target in TRICKY:
        for written in TRICKY:
            check(scorer, target, written)


def test_random_texts_score_as_in_the_reference(scorer: RougeScorer) -> None:
    """Few words and many repeats, so that there are many longest subsequences to choose from."""
    generator = random.Random(0)
    vocabulary = ["a", "an", "ran", "running", "runs", "nation", "national", "nationality", "2", "x2", "\n", "\n", "é"]
    for _ in range(400):
        size = generator.choice([2, 5, 30])
        target, written = (
            " ".join(generator.choices(vocabulary[: generator.randint(2, 13)], k=generator.randint(0, size)))
            for _ in range(2)
        )
        check(scorer, target, written)


@pytest.mark.skipif(not REAL.is_file(), reason="the shared samples are not here")
def test_real_pairs_score_as_in_the_reference(scorer: RougeScorer) -> None:
    rows = [json.loads(line) for line in REAL.read_text(encoding="utf-8").splitlines()[:40]]
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        lead = "\n".join(row["article"].split(". ")[:3])
        check(scorer, row["highlights"], lead)
        check(scorer, row["highlights"], other["highlights"])
    # A whole article on one line is far longer than what a model writes.
    check(scorer, rows[0]["highlights"], rows[0]["article"])


def test_words_are_stemmed_where_they_are_long_enough() -> None:
    assert words("Running, the DOGS was 10-fold!") == ["run", "the", "dog", "was", "10", "fold"]


@pytest.mark.parametrize(
    ("target", "written", "exact", "f1"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1.0, 1.0),
        ("Paris", "in Paris, France", 0.0, 0.5),
        ("x b", "b b c", 0.0, 0.4),
        ("the", "", 1.0, 1.0),
        ("Paris", "", 0.0, 0.0),
        ("theatre", "atre", 0.0, 0.0),
        ("x x y", "x y y", 0.0, 2 / 3),
    ],
)
def test_answers_are_compared_as_in_squad(target: str, written: str, exact: float, f1: float) -> None:
    assert answer_scores(target, written) == pytest.approx({"exact_match": exact, "token_f1": f1})
