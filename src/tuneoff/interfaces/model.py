"""What methods and tasks share of a model: what a method may know of the task, and the model with a method attached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class TaskView:
    """What a method may know of the task.

    Attributes:
        head: names of the model's newly initialised modules: those that the task adds (`pooler`, `classifier`), and
            those that the base model's files lack. Every method trains them; none of them is inside another.
        peft_task_type: PEFT's name for the task: `SEQ_CLS`, `TOKEN_CLS`, `CAUSAL_LM` or `SEQ_2_SEQ_LM`.
        output: name of the pretrained module that turns hidden states into logits over the vocabulary; None for
            a task without.
        tokenize: text -> token ids without special tokens; None where only shapes are known (meta device).
    """

    head: tuple[str, ...]
    peft_task_type: str
    output: str | None = None
    tokenize: Callable[[str], Sequence[int]] | None = None


@dataclass(frozen=True)
class StartRows:
    """A few training rows, for a method whose start is computed from them: at a seed the same rows in the same batches
    for every arm. Whatever reads them counts as training time.

    Attributes:
        batches: on the model's device; each is read once.
        module: owner of every parameter.
        forward: computes a batch's logits, without dropout.
        loss: computes a batch's mean loss, to be differentiated.
    """

    batches: Sequence[dict[str, torch.Tensor]]
    module: nn.Module
    forward: Callable[[dict[str, torch.Tensor]], torch.Tensor]
    loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]


@dataclass
class Attached:
    """A model with a method attached to it.

    Attributes:
        model: the transformer that the task runs; modules may have been changed in place.
        module: owner of every parameter, `model` itself or a wrapper around it.
        soft_prompt: batch size -> trained embeddings to put before the input,
            shape (batch, virtual_tokens, hidden); None where the method has none.
        prefix: batch size -> a transformers cache that holds trained keys and values of `virtual_tokens`
            positions before the input (before the decoder's, in an encoder-decoder); None where the method has none.
        virtual_tokens: length of the soft prompt or the prefix; counts against the model's positions.
        reads: linear layers whose frozen weights the method also uses itself, outside their forward pass; they stay in
            float32, while others may be stored in the type in which they are multiplied.
        extra: whatever the method itself needs later. Under `findings`, pairs (name, message) that the record
            and the report must show.
    """

    model: nn.Module
    module: nn.Module
    soft_prompt: Callable[[int], torch.Tensor] | None = None
    prefix: Callable[[int], Any] | None = None
    virtual_tokens: int = 0
    reads: tuple[nn.Module, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
