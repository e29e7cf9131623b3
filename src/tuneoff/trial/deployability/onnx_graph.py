"""A trained model as an ONNX graph, and such a graph as a model of its task. Needs `tuneoff[onnx]`."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tuneoff.errors import ExecutorError, StoreError, UnsupportedModel, first_line
from tuneoff.interfaces import Attached, Features, Task
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.deployability.loading import as_in_training, load_folder, test_examples
from tuneoff.trial.training.evaluate import evenly

OPSET = 18
TOLERANCE = 1e-3
"""Largest difference of a logit between graph and model, relative to the largest logit, with which a graph counts as
the same model."""
SAMPLE = 8
"""Test rows that the model is traced with, and on which graph and model are compared."""
GRAPH = "model.onnx"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def write_graph(place: TrialStore, merged: Path, folder: Path) -> tuple[str, ...]:
    """Converts the merged model by torch's exporter, for batches of any size and length.

    Returns:
        What to know of it: the opset, and how far its logits are from the model's.

    Raises:
        ExecutorError: if a package is missing.
        UnsupportedModel: if the model cannot be converted, or its graph gives other logits.
        StoreError: if the task reads more of the model than its logits.
    """
    refuse_missing()
    spec, record = early.finished(place)
    task = early.task_of(spec, record)
    if task.produces == "text":
        raise StoreError(
            "a graph that writes text needs a cache of keys and values, which torch's exporter does not add"
        )
    cpu = torch.device("cpu")
    model, tokenizer = load_folder(task, merged, cpu)
    model.config._attn_implementation = "eager"
    model.eval()
    examples = evenly(test_examples(place, task), SAMPLE)
    # A batch of one is traced as one that is always so.
    examples = examples * 2 if len(examples) == 1 else examples
    features = task.encode(examples, tokenizer, spec.protocol.max_length)
    inputs, constants = _inputs_of(task, model, features)
    folder.mkdir()
    wrapped = _LogitsAlone(model, constants).eval()
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Of what it gives up in later versions.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                wrapped,
                (),
                str(folder / GRAPH),
                kwargs={"inputs": inputs},
                input_names=list(inputs),
                output_names=["logits"],
                dynamic_shapes={"inputs": {name: {0: batch, 1: length} for name in inputs}},
                opset_version=OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever the exporter meets
        raise UnsupportedModel(f"torch's exporter does not convert it: {first_line(error)}") from None
    for path in [merged / "config.json", *merged.glob("*token*")]:
        shutil.copyfile(path, folder / path.name)
    bound = bound_of(_difference(wrapped, folder, inputs))
    return (
        f"opset {OPSET}, onnxruntime {metadata.version('onnxruntime')}, float32 on the CPU; its logits differ from the "
        f"merged model's in float32 by at most {bound} of the largest (up to {TOLERANCE:g} is taken)",
    )


def bound_of(difference: float) -> str:
    """Returns the power of ten that a graph's difference to the model is not over, which the seeds of an arm share.

    Raises:
        UnsupportedModel: if it counts as another model, as one does whose logits are no numbers.
    """
    if not difference <= TOLERANCE:
        raise UnsupportedModel(f"its graph gives other logits: {difference:.2g} of the largest one, over {TOLERANCE:g}")
    return f"{10.0 ** math.ceil(math.log10(max(difference, 1e-12))):.0e}"


def load_graph(folder: Path) -> tuple[nn.Module, Any]:
    """Loads a graph as a model of its task; returns it and its tokenizer.

    Raises:
        ExecutorError: if a package is missing.
    """
    from transformers import AutoConfig, AutoTokenizer

    refuse_missing()
    tokenizer = as_in_training(AutoTokenizer.from_pretrained(str(folder)))
    return OnnxModel(AutoConfig.from_pretrained(str(folder)), folder / GRAPH), tokenizer


def refuse_missing() -> None:
    """Checks that what converts and runs a graph is installed.

    Raises:
        ExecutorError: naming what is not.
    """
    for name in NEEDED:
        try:
            import_module(name)
        except ImportError as error:
            raise ExecutorError(
                f"ONNX needs the package {name}, which cannot be imported here ({first_line(error)})",
                hint="pip install 'tuneoff[onnx]'.",
            ) from None


class OnnxModel(nn.Module):
    """A graph that onnxruntime computes, called as the model of transformers that it was made of.

    Args:
        config: of that model.
        path: the graph.
    """

    _supports_sdpa = False

    def __init__(self, config: Any, path: Path) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self.config = config
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._names = [one.name for one in self._session.get_inputs()]
        # What evaluates a model asks its parameters where they are.
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        **constants: Any,
    ) -> Any:
        """Returns an object whose `logits` have the shape that the model's had."""
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        feeds = {name: tensor.numpy() for name, tensor in given.items() if name in self._names and tensor is not None}
        (logits,) = self._session.run(["logits"], feeds)
        return SimpleNamespace(logits=torch.from_numpy(logits))

    def can_generate(self) -> bool:
        """Tells that it writes no text."""
        return False


class _LogitsAlone(nn.Module):
    """A model that returns its logits and nothing else, which is what a graph has."""

    def __init__(self, model: nn.Module, constants: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.constants = dict(constants)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = self.model(**inputs, **self.constants).logits
        return logits


def _inputs_of(
    task: Task, model: nn.Module, features: Sequence[Features]
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Returns what the task puts into the model for a batch: its tensors, and its constants.

    Raises:
        StoreError: if it does not use the model as inputs and logits alone.
    """
    seen: list[dict[str, Any]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs)

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    config: Any = model.config
    try:
        with torch.no_grad():
            task.forward(Attached(model, model), task.collate(features, config.pad_token_id))
    finally:
        hook.remove()
    tensors = {name: value for name, value in (seen[0] if seen else {}).items() if isinstance(value, torch.Tensor)}
    if len(seen) != 1 or not {"input_ids", "attention_mask"} <= set(tensors) <= set(INPUTS):
        raise StoreError("this task reads hidden states of such a model, and a graph of logits has none")
    return tensors, {name: value for name, value in seen[0].items() if name not in tensors}


def _difference(model: nn.Module, folder: Path, inputs: dict[str, torch.Tensor]) -> float:
    """Returns the largest difference of a logit between graph and model, relative to the largest logit."""
    graph, _ = load_graph(folder)
    with torch.no_grad():
        expected, found = model(inputs), graph(**inputs).logits
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
