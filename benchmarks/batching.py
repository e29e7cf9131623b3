"""What batches of like length, bfloat16 and bounded evaluations save.

Three parts, of MiniLM's architecture (random weights: the arithmetic is the same) on the lengths of real texts, with
dropout as pretrained:

- padding: the share of it in what training batches compute, random and of like length;
- training: real tokens per second of optimizer steps, as the loop does them, for each combination of batches and
  precision policy and each method;
- evaluation: examples per second with 64 rows a batch, and with a bounded number of tokens.

Variants take turns within a round, the first to come changing from round to round, so that a drift of the machine's
speed meets them all. Told are the medians, over rounds, of ratios to the first variant of the same round, and their
spread. It wants the machine to itself.

    python benchmarks/batching.py [--texts ag_news_train.csv] [--rounds 5] [--out benchmarks/results/batching.json]
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import torch

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.config.protocol import Batching, Protocol
from tuneoff.interfaces import Example, Features, Method
from tuneoff.measure import environment
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.tasks.classification import Classification
from tuneoff.trial.data.batching import (
    EVALUATION_TOKENS,
    evaluation_batches,
    padded_tokens,
    row_lengths,
    training_batches,
)
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import PolicyName, apply_policy, choose_attention
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.optim import adamw
from tuneoff.trial.training.trainer import accumulate, clip

TEXTS = Path(__file__).parents[2] / "shared" / "data" / "ag_news_train.csv"
CPU = torch.device("cpu")
LABELS = ("a", "b", "c", "d")
MAX_LENGTH = 128
METHODS = ("head", "last_block", "lora", "full")
BATCHINGS: tuple[Batching, ...] = ("random", "length")
POLICIES: tuple[PolicyName, ...] = ("fp32", "fp32-medium", "bf16")
EPOCHS = 5
"""Epochs over which padding is averaged."""
EVALUATED = 512


def read(path: Path) -> list[Features]:
    """Returns the texts as MiniLM reads them."""
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    task = Classification({"labels": LABELS})
    tokenizer = trial_model.load_tokenizer(ModelSpec(source="minilm"), task)
    examples = [Example(text, LABELS[i % len(LABELS)], i, f"row {i}") for i, text in enumerate(texts)]
    return task.encode(examples, tokenizer, MAX_LENGTH)


def study(method: str) -> dict[str, Any]:
    return {
        "model": {"source": "minilm", "random_weights": True},
        "task": {"name": "classification", "data": "rows.csv", "text": "text", "label": "label", "labels": LABELS},
        "protocol": {"seeds": 1, "max_length": MAX_LENGTH},
        "methods": [method],
    }


def runner_of(name: str, policy: PolicyName) -> tuple[ModelRunner, Method[Any]]:
    """Returns a method attached to the model, as a trial under that policy has it."""
    (spec,) = plan(parse(study(name)))
    task = Classification({"labels": LABELS})
    attention = choose_attention("auto", CPU, MAX_LENGTH, policy)
    loaded = trial_model.load(spec.model, task, seed=0, dropout=None, attention=attention.training)
    method = registry.methods()[name].create(spec.options)
    assert isinstance(method, Method)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    if policy == "bf16":
        keep_frozen_in_bf16(attached)
    context = apply_policy(policy, CPU).autocast
    return ModelRunner(task, attached, CPU, context, loaded.pad_token_id, 64, attention=attention.evaluation), method


def padding(features: Sequence[Features]) -> list[dict[str, Any]]:
    """Returns the share of padding by number of rows, batch size and kind of batches."""
    found = []
    for rows, size in product(sorted({n for n in (384, 1000, len(features)) if n <= len(features)}), (8, 16, 32)):
        lengths = row_lengths(features[:rows], apart=False)
        real = EPOCHS * sum(length for (length,) in lengths)
        shares = {}
        for batching in BATCHINGS:
            protocol = Protocol(epochs=EPOCHS, batch_size=size, batching=batching)
            batches = training_batches(lengths, protocol, seed=0)
            shares[batching] = 1 - real / sum(padded_tokens([lengths[row] for row in batch]) for batch in batches)
        print(
            f"{rows:5} rows, batches of {size:2}: padding {shares['random']:.1%} -> {shares['length']:.1%}", flush=True
        )
        found.append({"rows": rows, "batch_size": size, "padding_share": shares})
    return found


Variant = tuple[str, Callable[[], float]]
"""A name, and work that returns how much was done in a second."""


def turns(variants: Sequence[Variant], rounds: int) -> dict[str, Any]:
    """Lets the variants work in turn, one round more than is counted; returns speeds and their ratios to the first."""
    speeds: dict[str, list[float]] = {name: [] for name, _ in variants}
    for number in range(rounds + 1):
        for name, work in islice(cycle(variants), number, number + len(variants)):
            speed = work()
            if number:
                speeds[name].append(speed)
    first = speeds[variants[0][0]]
    ratios = {name: sorted(own / base for own, base in zip(each, first, strict=True)) for name, each in speeds.items()}
    for name, each in ratios.items():
        print(f"  {name:20} {statistics.median(each):5.2f} times ({each[0]:.2f} to {each[-1]:.2f})", flush=True)
    return {"speeds": speeds, "ratios": {name: statistics.median(each) for name, each in ratios.items()}}


class Steps:
    """Optimizer steps of a method under one precision policy, on batches of one kind.

    Args:
        features: training examples.
        name: the method.
        policy: the precision policy.
        batching: the kind of batches.
        count: steps of a call.
    """

    def __init__(
        self, features: Sequence[Features], name: str, policy: PolicyName, batching: Batching, count: int
    ) -> None:
        self.features, self.policy, self.count = features, policy, count
        self.protocol = Protocol(epochs=1000, batching=batching)
        self.runner, method = runner_of(name, policy)
        groups = method.parameter_groups(self.runner.attached, self.protocol.weight_decay)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        # At a rate of 0 an optimizer does the same work and changes nothing.
        self.optimizer = adamw(groups, self.protocol, 0.0)
        self.batches = training_batches(row_lengths(features, apart=False), self.protocol, seed=0)

    def __call__(self) -> float:
        """Takes steps; returns real tokens per second."""
        apply_policy(self.policy, CPU)
        self.runner.attached.module.train()
        started, tokens = time.perf_counter(), 0
        for rows in islice(self.batches, self.count):
            batch = [self.features[row] for row in rows]
            tokens += sum(len(f.input_ids) for f in batch)
            accumulate(self.runner, [self.runner.batch(batch)], len(batch))
            clip(self.runner, self.trained, self.protocol.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return tokens / (time.perf_counter() - started)


def training(features: Sequence[Features], name: str, rounds: int, steps: int) -> dict[str, Any]:
    """Returns real tokens per second of training under every precision policy with each kind of batches."""
    print(f"{name}: real tokens per second of training")
    variants = [
        (f"{batching} {policy}", Steps(features, name, policy, batching, steps))
        for policy, batching in product(POLICIES, BATCHINGS)
    ]
    return {"method": name, **turns(variants, rounds)}


def evaluate(runner: ModelRunner, policy: PolicyName, features: Sequence[Features], most_tokens: int | None) -> float:
    """Evaluates examples; returns how many per second."""
    apply_policy(policy, CPU)
    started = time.perf_counter()
    batches = evaluation_batches(row_lengths(features, apart=False), runner.batch_size, most_tokens)
    with runner.evaluating():
        for rows in batches:
            runner.logits([features[row] for row in rows])
    return len(features) / (time.perf_counter() - started)


def evaluation(features: Sequence[Features], policy: PolicyName, rounds: int) -> dict[str, Any]:
    """Returns examples per second of an evaluation, by the bound on a batch."""
    print(f"{policy}: examples per second of an evaluation, {len(features)} examples")
    runner, _ = runner_of("lora", policy)
    variants = [
        (
            f"{runner.batch_size} rows" if most_tokens is None else f"{most_tokens} tokens",
            partial(evaluate, runner, policy, features, most_tokens),
        )
        for most_tokens in (None, 512, 1024, EVALUATION_TOKENS["cpu"], 4096)
    ]
    return {"precision": policy, **turns(variants, rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, default=TEXTS, help="CSV file with a column `text`")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps of a variant in a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    features = read(options.texts)
    result = {
        "texts": options.texts.name,
        "rounds": options.rounds,
        "steps": options.steps,
        "padding": padding(features),
        "training": [training(features, name, options.rounds, options.steps) for name in options.methods.split(",")],
        "evaluation": [evaluation(features[:EVALUATED], policy, options.rounds) for policy in POLICIES[1:]],
        "environment": environment.describe("cpu", torch.get_num_threads()).model_dump(mode="json"),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
