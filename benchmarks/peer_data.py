"""The base models and rows that `peers.py` and `verdict.py` give to both sides."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A base model of the benchmark.

    Attributes:
        task: what it is trained for.
        blocks: the list of its blocks, for the peer's methods that choose among them.
        head: modules that make the prediction, trained by every method that freezes the rest.
        lora: the projections that LoRA adapts, the same on both sides.
        rows: training rows of a run; a quarter each to validate and test.
        real: whether its weights are pretrained, so that quality means something.
    """

    task: str
    blocks: str
    head: tuple[str, ...]
    lora: tuple[str, ...]
    rows: int
    real: bool = False

    @property
    def batch_size(self) -> int:
        return 16 if self.task == "classification" else 4

    @property
    def evaluation_batch(self) -> int:
        return 32 if self.task == "classification" else 4


SHAPES = {
    "minilm": Shape(
        "classification", "bert.encoder.layer", ("classifier", "bert.pooler"), ("query", "value"), 640, real=True
    ),
    "roberta-base": Shape("classification", "roberta.encoder.layer", ("classifier",), ("query", "value"), 256),
    "gpt2": Shape("generation", "transformer.h", ("transformer.ln_f",), ("c_attn",), 32),
    "smollm2-135m": Shape("generation", "model.layers", ("model.norm",), ("q_proj", "v_proj"), 32, real=True),
}


@dataclass(frozen=True)
class WholeStudy:
    """A study that both sides do whole.

    Attributes:
        rows: split -> how many.
        max_length: tokens of an example.
        model: the peer's base model.
        ours: its keys in our study file.
        methods: arms that train.
        trials: how many of each.
        batch_size, epochs: of every trial.
    """

    rows: dict[str, int]
    max_length: int
    model: str
    ours: dict[str, Any]
    methods: tuple[str, ...]
    trials: int
    batch_size: int
    epochs: int


STUDIES = {
    # Eight search trials and three seeds of methods that leave all blocks, or all but one, as they are.
    "study-frozen": WholeStudy(
        {"train": 384, "validation": 96, "test": 96},
        128,
        "minilm",
        {"seeds": 3, "search": {"trials": 8}},
        ("head", "last_block"),
        11,
        16,
        3,
    ),
    # The quickstart's protocol, without the bottleneck adapter, which PEFT does not have, and with half of its seeds.
    "study-quickstart": WholeStudy(
        {"train": 384, "validation": 96, "test": 400},
        48,
        "minilm-still",
        {"seeds": 3, "dropout": 0},
        ("head", "full", "last_block", "bitfit", "lora", "ia3", "prompt_tuning"),
        3,
        8,
        2,
    ),
}
FORMS = ("default", "tuned")
"""The peer's."""
SPLITS = ("train", "validation", "test")
EMBEDDINGS = ("embed", "wte", "wpe", "lm_head", "pooler")
"""Parts of the names of matrices that are not multiplied with every token."""

Pairs = dict[str, list[tuple[str, str]]]


def write_models(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Writes the base models as folders that both sides load: real weights of MiniLM and SmolLM2, random ones of the
    others. `minilm-still` is MiniLM without dropout.

    Returns:
        Model -> the number of weights in its blocks' matrices.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

    from tuneoff import registry
    from tuneoff.config.data import ModelSpec
    from tuneoff.sources import find_model

    torch.manual_seed(0)
    weights: dict[str, int] = {}
    for name in names:
        model: Any
        if name.startswith("minilm"):
            files = find_model(registry.sources(), ModelSpec(source="minilm"))
            model, tokenizer = AutoModel.from_pretrained(files.path), AutoTokenizer.from_pretrained(files.path)
            if name == "minilm-still":
                model.config.update({"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
        else:
            # The tokenizer of SmolLM2, a byte-level one like theirs, has fewer words than their vocabularies.
            files = find_model(registry.sources(), ModelSpec(source="smollm2-135m"))
            gguf: dict[str, Any] = {"gguf_file": files.gguf_file}
            tokenizer = AutoTokenizer.from_pretrained(files.path, **gguf)
            tokenizer.pad_token = tokenizer.eos_token
            if name == "smollm2-135m":
                # What is loaded from GGUF cannot be saved as it is.
                model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(files.path, **gguf))
                loaded = AutoModelForCausalLM.from_pretrained(files.path, dtype=torch.float32, **gguf)
                model.load_state_dict(loaded.state_dict())
            else:
                special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
                config = AutoConfig.for_model("gpt2" if name == "gpt2" else "roberta", **special)
                if name == "roberta-base":
                    config.update({"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1})
                maker: Any = AutoModelForCausalLM if SHAPES[name].task == "generation" else AutoModel
                model = maker.from_config(config)
            model.config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
        weights[name] = sum(
            parameter.numel()
            for key, parameter in model.named_parameters()
            if parameter.ndim == 2 and not any(part in key for part in EMBEDDINGS)
        )
    return weights


def write_rows(folder: Path, data: Path | None, counts: dict[str, int]) -> Path:
    """Writes train, validation and test files of both tasks into the folder and returns it: so many rows of each split
    for classification and for generation alike."""
    folder.mkdir(exist_ok=True)
    classified, written = read_folder(data, counts) if data is not None else read_package(counts)
    for split, chosen in classified.items():
        with (folder / f"classification-{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *chosen])
    for split, pairs in written.items():
        with (folder / f"generation-{split}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"source": s, "target": t}) + "\n" for s, t in pairs)
    return folder


def files_of(rows: Path, task: str) -> dict[str, str]:
    """Returns split -> its file."""
    ending = "csv" if task == "classification" else "jsonl"
    return {split: str(rows / f"{task}-{split}.{ending}") for split in SPLITS}


def read_folder(data: Path, counts: dict[str, int]) -> tuple[Pairs, Pairs]:
    """Reads AG News and CNN/DailyMail from files."""

    def news(name: str) -> list[tuple[str, str]]:
        with (data / name).open(encoding="utf-8", newline="") as file:
            return [(row["text"], row["label"]) for row in csv.DictReader(file)]

    train, validation = news("ag_news_train.csv"), counts["validation"]
    classified = {
        "train": train[: counts["train"]],
        "validation": train[-validation:],
        "test": news("ag_news_test.csv")[: counts["test"]],
    }
    written: Pairs = {}
    for split, count in counts.items():
        lines = (data / f"cnn_dailymail_{split}.jsonl").read_text(encoding="utf-8").splitlines()[:count]
        written[split] = [(row["article"] + "\n\nTL;DR: ", row["highlights"]) for row in map(json.loads, lines)]
    return classified, written


def read_package(counts: dict[str, int]) -> tuple[Pairs, Pairs]:
    """Reads Reuters stories out of their package; a summary is a story's first twelve words."""
    from tuneoff import registry
    from tuneoff.config.data import SourceSpec
    from tuneoff.sources import read_rows

    def stories(split: str) -> list[tuple[str, str]]:
        rows = read_rows(registry.sources(), SourceSpec(source="reuters-r8"), split)
        return list(zip(map(str, rows.columns["Text"]), map(str, rows.columns["Category"]), strict=True))

    train = stories("train")
    classified = {
        "train": train[: counts["train"]],
        "validation": train[-counts["validation"] :],
        "test": stories("test")[: counts["test"]],
    }
    written = {
        split: [(text, " ".join(text.split()[:12])) for text, _ in classified[split][:count]]
        for split, count in counts.items()
    }
    return classified, written
