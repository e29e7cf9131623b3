"""Exports, read by a process that has transformers and PEFT and not tuneoff."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trial_tools import news, save_writer, write_csv

from tuneoff import registry
from tuneoff.store import TrialStore
from tuneoff.trial.export import export
from tuneoff.trial.use import predict
from tuneoff.trial.worker import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

MakePlace = Callable[..., TrialStore]
LEARNING = {"learning_rate": 0.02, "epochs": 1, "max_steps": 4}


def elsewhere(asked: dict[Path, list[dict[str, str]]]) -> dict[Path, list[tuple[str, dict[str, float]]]]:
    """What the code of each export's card gives for rows of texts, in a fresh process: outputs and scores."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).with_name("card_code.py"))],
        input=json.dumps({str(folder): rows for folder, rows in asked.items()}),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {Path(folder): [tuple(one) for one in outputs] for folder, outputs in json.loads(done.stdout).items()}


def trainable(*without: str) -> list[str]:
    """Every method that trains."""
    return [name for name in registry.methods() if registry.methods()[name].trains and name not in without]


@pytest.mark.parametrize(
    ("architecture", "scoring", "methods"),
    [
        ("bert", "head", trainable("prefix_tuning")),
        pytest.param("gpt2", "head", trainable(), marks=pytest.mark.slow),
        pytest.param("gpt2", "likelihood", trainable("head"), marks=pytest.mark.slow),
    ],
)
def test_every_method_of_a_classifier_is_loaded_without_tuneoff(
    architecture: str,
    scoring: str,
    methods: list[str],
    make_place: MakePlace,
    bert_folder: Path,
    gpt_folder: Path,
    tmp_path: Path,
) -> None:
    folder = bert_folder if architecture == "bert" else gpt_folder
    # The last one is cut.
    texts = [text for text, _ in news(9, 500)] + ["goal oil " * 20]
    rows = write_csv(tmp_path / "rows.csv", [(text, "") for text in texts])
    expected, asked = {}, {}
    for method in methods:
        place = make_place(method, folder=folder, protocol=LEARNING, task={"scoring": scoring})
        run(place, "cpu", time.perf_counter())
        out = tmp_path / method
        export(place, out, merged=False, device="cpu")
        expected[out] = predict(place, str(rows), "cpu")["predictions"]
        asked[out] = [{"text": text} for text in texts]
    for out, found in elsewhere(asked).items():
        for (output, scores), ours in zip(found, expected[out], strict=True):
            assert scores == pytest.approx(ours["scores"], abs=1e-4), out.name
            assert output == ours["output"], out.name


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_writer(
        tmp_path_factory.mktemp("models") / "t5", "t5", num_decoder_layers=3, decoder_start_token_id=0, pad_token_id=0
    )


@pytest.mark.parametrize(
    ("architecture", "options", "methods"),
    [
        ("gpt2", {"num_beams": 2, "no_repeat_ngram_size": 2}, ["lora", "last_block", "prompt_tuning", "prefix_tuning"]),
        pytest.param("gpt2", {"min_target_length": 3}, trainable("head"), marks=pytest.mark.slow),
        pytest.param("t5", {"num_beams": 2}, trainable("head", "bitfit"), marks=pytest.mark.slow),
    ],
)
def test_every_method_of_a_writer_is_loaded_without_tuneoff(
    architecture: str,
    options: dict[str, Any],
    methods: list[str],
    make_place: MakePlace,
    gpt_folder: Path,
    t5_folder: Path,
    tmp_path: Path,
) -> None:
    folder = gpt_folder if architecture == "gpt2" else t5_folder
    texts = [(text, " ".join(text.split()[:2])) for text, _ in news(24)]
    pairs = tmp_path / "pairs.csv"
    with pairs.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [("kind", "article", "summary"), *(("news", article, summary) for article, summary in texts)]
        )
    task = {"name": "generation", "template": "{kind}: {source} => ", "max_target_length": 6, **options}
    expected, asked = {}, {}
    for method in methods:
        place = make_place(method, folder=folder, data=pairs, task=task, protocol=LEARNING)
        run(place, "cpu", time.perf_counter())
        out = tmp_path / method
        export(place, out, merged=False, device="cpu")
        expected[out] = [one["output"] for one in predict(place, str(pairs), "cpu")["predictions"]][:9]
        asked[out] = [{"source": text, "kind": "news"} for text, _ in texts[:9]]
    assert {out: [output for output, _ in found] for out, found in elsewhere(asked).items()} == expected
    assert len({output for outputs in expected.values() for output in outputs}) > 9
