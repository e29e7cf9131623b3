"""One fine-tuning run as a user scripts it: Hugging Face `Trainer`, PEFT, and nothing of tuneoff.

`peers.py` starts this file in a process of its own, with a run described as JSON, and reads the one line of JSON that
it prints. Two forms: `default` (float32, batches padded to their longest, the library's own optimizer choice) and
`tuned` (bfloat16 autocast, batches of like length, fused AdamW), which a careful user runs.

    python benchmarks/peer_trainer.py '{"model": …, "method": "lora", "form": "tuned", …}'
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import csv  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import peft  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

IMPORTED = time.perf_counter()
BASE_BYTES = psutil.Process().memory_info().rss


class Peak:
    """The most memory within a `with` block: resident, looked at every 20 ms; on CUDA what its allocator gave out."""

    def __enter__(self) -> Peak:
        self.bytes, self._stop = 0, threading.Event()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._stop.wait(0.02):
                return

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated() + BASE_BYTES


class Clocked(Trainer):  # type: ignore[misc]
    """A trainer that counts the real tokens of its training steps and how long training took."""

    real_tokens = 0
    computed_tokens = 0

    def training_step(self, model: Any, inputs: Any, *arguments: Any, **more: Any) -> Any:
        self.real_tokens += int(inputs["attention_mask"].sum())
        self.computed_tokens += inputs["attention_mask"].numel()
        return super().training_step(model, inputs, *arguments, **more)


def rows_of(path: str) -> list[dict[str, Any]]:
    """Reads a CSV or JSON-lines file."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if path.endswith(".csv") else [json.loads(line) for line in file]


def attach(model: Any, run: dict[str, Any]) -> Any:
    """Makes the method's parameters the trained ones, as its library's documentation shows."""
    method, generation = run["method"], run["task"] == "generation"
    task_type = peft.TaskType.CAUSAL_LM if generation else peft.TaskType.SEQ_CLS
    if method == "full":
        return model
    if method == "lora":
        return peft.get_peft_model(
            model, peft.LoraConfig(task_type=task_type, r=8, lora_alpha=16, target_modules=run["lora_targets"])
        )
    if method == "ia3":
        return peft.get_peft_model(model, peft.IA3Config(task_type=task_type))
    if method == "prompt_tuning":
        return peft.get_peft_model(model, peft.PromptTuningConfig(task_type=task_type, num_virtual_tokens=10))
    blocks = model.get_submodule(run["blocks"])
    for parameter in model.parameters():
        parameter.requires_grad = False
    # BitFit trains the new classifier beside the biases; the pretrained pooler's matrix stays as it is.
    heads = ["classifier"] if method == "bitfit" else run["head_modules"]
    trained = [module for name, module in model.named_modules() if name in heads]
    if method == "last_block":
        trained.append(blocks[-1])
    for module in trained:
        module.requires_grad_(True)
    if method == "bitfit":
        for name, parameter in model.named_parameters():
            parameter.requires_grad |= name.endswith(".bias")
    return model


def encode(rows: list[dict[str, Any]], tokenizer: Any, run: dict[str, Any], labels: dict[str, int]) -> list[Any]:
    """Tokenizes the rows; of a text to be written, the loss is on its tokens alone."""
    if run["task"] == "classification":
        ids = tokenizer([row[run["text"]] for row in rows], truncation=True, max_length=run["max_length"])["input_ids"]
        return [
            {"input_ids": i, "attention_mask": [1] * len(i), "labels": labels[row[run["label"]]]}
            for i, row in zip(ids, rows, strict=True)
        ]
    examples = []
    end = tokenizer.eos_token_id
    for row in rows:
        source = tokenizer(row[run["source"]], truncation=True, max_length=run["max_length"])["input_ids"]
        target = [*tokenizer(row[run["target"]], truncation=True, max_length=run["max_target"])["input_ids"], end]
        examples.append(
            {
                "input_ids": [*source, *target],
                "attention_mask": [1] * (len(source) + len(target)),
                "labels": [-100] * len(source) + target,
            }
        )
    return examples


def write(model: Any, tokenizer: Any, rows: list[dict[str, Any]], run: dict[str, Any]) -> int:
    """Writes the test texts greedily in batches; returns the number of written tokens."""
    tokenizer.padding_side = "left"
    written = 0
    for start in range(0, len(rows), run["evaluation_batch"]):
        texts = [row[run["source"]] for row in rows[start : start + run["evaluation_batch"]]]
        inputs = tokenizer(texts, truncation=True, max_length=run["max_length"], padding=True, return_tensors="pt")
        inputs = inputs.to(model.device)
        output = model.generate(
            **inputs, max_new_tokens=run["max_target"], do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        written += output[:, inputs["input_ids"].shape[1] :].numel()
    return written


@torch.no_grad()
def mean_loss(trainer: Trainer, data: list[Any]) -> float:
    """Computes the mean loss over all tokens to be written."""
    total, tokens = 0.0, 0
    trainer.model.eval()
    for batch in trainer.get_eval_dataloader(data):
        inputs = trainer._prepare_inputs(batch)
        count = int((inputs["labels"][:, 1:] != -100).sum())
        with trainer.compute_loss_context_manager():
            total += float(trainer.model(**inputs).loss) * count
        tokens += count
    return total / tokens


def main(run: dict[str, Any]) -> dict[str, Any]:
    """Runs the whole script; returns phases in seconds, tokens, memory and the score."""
    torch.manual_seed(run["seed"])
    tuned, generation = run["form"] == "tuned", run["task"] == "generation"
    seconds: dict[str, float] = {"import": IMPORTED - STARTED}

    def lap(name: str, since: float) -> None:
        seconds[name] = time.perf_counter() - since

    before = time.perf_counter()
    splits = {name: rows_of(run[name]) for name in ("train", "validation", "test")}
    tokenizer = AutoTokenizer.from_pretrained(run["model"])
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    labels: dict[str, int] = {}
    arguments: dict[str, Any] = {"attn_implementation": run["attention"]} if run["attention"] else {}
    if generation:
        model = AutoModelForCausalLM.from_pretrained(run["model"], **arguments)
    else:
        labels = {name: number for number, name in enumerate(sorted({r[run["label"]] for r in splits["train"]}))}
        model = AutoModelForSequenceClassification.from_pretrained(run["model"], num_labels=len(labels), **arguments)
    model.config.pad_token_id = tokenizer.pad_token_id
    model = attach(model, run)
    lap("load", before)

    before = time.perf_counter()
    data = {name: encode(rows, tokenizer, run, labels) for name, rows in splits.items()}
    lap("tokenize", before)

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            num_train_epochs=run["epochs"],
            max_steps=run["max_steps"] or -1,
            per_device_train_batch_size=run["batch_size"],
            per_device_eval_batch_size=run["evaluation_batch"],
            learning_rate=run["learning_rate"],
            weight_decay=0.01,
            warmup_steps=run["warmup_steps"],
            seed=run["seed"],
            report_to=[],
            save_strategy="no",
            eval_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            **(
                {"bf16": True, "train_sampling_strategy": "group_by_length", "optim": "adamw_torch_fused"}
                if tuned
                else {}
            ),
        )
        collator: Any = (
            DataCollatorForSeq2Seq(tokenizer, model=None) if generation else DataCollatorWithPadding(tokenizer)
        )
        trainer = Clocked(model=model, args=settings, train_dataset=data["train"], data_collator=collator)
        with Peak() as peak:
            before = time.perf_counter()
            trainer.train()
            lap("train", before)
        before = time.perf_counter()
        trainer.evaluate(data["validation"])
        lap("validation", before)
        before = time.perf_counter()
        score = None
        if generation:
            score = mean_loss(trainer, data["test"])
            write(model, tokenizer, splits["test"], run)
        else:
            output = trainer.predict(data["test"])
            score = float((np.argmax(output.predictions, axis=-1) == output.label_ids).mean())
        lap("test", before)
        before = time.perf_counter()
        model.eval()
        example = collator([data["test"][0]]).to(model.device)
        example.pop("labels", None)
        with torch.no_grad():
            for _ in range(run["latency_examples"]):
                model(**example)["logits"].cpu()
        lap("latency", before)
        before = time.perf_counter()
        trainer.save_model(folder)
        lap("save", before)
    seconds["total"] = time.perf_counter() - STARTED
    return {
        "seconds": seconds,
        "steps": trainer.state.global_step,
        "real_tokens": trainer.real_tokens,
        "computed_tokens": trainer.computed_tokens,
        "peak_over_base_bytes": peak.bytes - BASE_BYTES,
        "score": score,
    }


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    result = main(json.loads(sys.argv[1]))
    print("PEER " + json.dumps(result))
