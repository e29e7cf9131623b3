"""The first blocks of a model that training leaves as they are: what they give for an example is always the same.

It is computed once and read again in later epochs, validations, trials and seeds of a run (Liu, Agarwal &
Venkataraman 2021, AutoFreeze, https://arxiv.org/abs/2102.01386). That is exact because these blocks draw no dropout:
see `protocol.frozen_dropout`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from tuneoff.errors import StoreError, UnsupportedModel
from tuneoff.interfaces import Attached
from tuneoff.methods._modules import blocks
from tuneoff.trial.modeling.hidden_states import HiddenStates

CHUNK_BYTES = 4 << 20
"""Hidden states that are held in memory before they are written."""


class PrefixReached(Exception):
    """Ends a forward pass behind the prefix: what comes after is not needed."""


class FrozenPrefix:
    """The blocks below the first one that an arm trains, where nothing before them is trained either.

    Args:
        model: the base model; its first `len(frozen)` blocks are wrapped in place.
        frozen: these blocks.
        tuples: of each, how many entries the tuple has that it returns, hidden states first; 0: it returns just these.
        dropouts: modules before them that draw dropout.
    """

    def __init__(
        self, model: nn.Module, frozen: Sequence[nn.Module], tuples: Sequence[int], dropouts: Sequence[nn.Module]
    ) -> None:
        self.blocks, self._dropouts = tuple(frozen), tuple(dropouts)
        self.states: HiddenStates | None = None
        self._lookup: Callable[[bytes], torch.Tensor | None] | None = None
        self._capturing = self._recalling = False
        self._captured: dict[bytes, torch.Tensor] = {}
        self._passed: list[bytes] = []
        self._keys: list[bytes] = []
        self._mask: torch.Tensor | None = None
        self._hidden: torch.Tensor | None = None
        model.register_forward_pre_hook(self._see_inputs, with_kwargs=True)
        for number, (block, entries) in enumerate(zip(frozen, tuples, strict=True), 1):
            block.forward = partial(self._forward, block.forward, entries, number == len(frozen))

    def quiet(self) -> None:
        """Turns dropout in the prefix off; to be called after the model was put in training mode."""
        for module in (*self.blocks, *self._dropouts):
            module.eval()

    def identity(self) -> str:
        """Describes the modules of the prefix: kinds, and types of weights."""
        modules = [type(module).__name__ for block in self.blocks for module in block.modules()]
        types = [str(parameter.dtype) for block in self.blocks for parameter in block.parameters()]
        return hashlib.sha256(repr((modules, types)).encode()).hexdigest()

    @contextmanager
    def reading(self, lookup: Callable[[bytes], torch.Tensor | None] | None = None) -> Iterator[None]:
        """Takes hidden states from `lookup` (the stored ones) instead of computing them while open, where it has all
        of a batch."""
        self._lookup = lookup or (self.states.get if self.states is not None else None)
        try:
            yield
        finally:
            self._lookup = self._hidden = None

    @contextmanager
    def given(self, hidden: torch.Tensor) -> Iterator[None]:
        """Takes these hidden states, of shape (examples, tokens, width), for every batch while open."""
        self._hidden = hidden
        try:
            yield
        finally:
            self._hidden = None

    def recall(self, forward: Callable[[], object]) -> torch.Tensor | None:
        """Returns the stored hidden states of a batch, of shape (examples, tokens, width); None where some are not
        stored. `forward` runs the model on it, which ends where it has seen its inputs."""
        self._recalling = True
        try:
            with self.reading():
                try:
                    forward()
                except PrefixReached:
                    return self._hidden
        finally:
            self._recalling = False
        return None

    def capture(self, forward: Callable[[], object]) -> dict[bytes, torch.Tensor]:
        """Runs a forward pass as far as the prefix goes; returns what it gave for each example, by key. Nothing is
        computed where all of the batch is stored."""
        self._capturing, self._captured = True, {}
        try:
            with suppress(PrefixReached):
                forward()
            return self._captured
        finally:
            self._capturing = False

    def fill(self, forwards: Iterable[Callable[[], object]], tokens: int) -> float:
        """Computes and stores the hidden states of examples that nothing is stored of.

        Where there is no room for them, or they cannot be written, nothing is read from the store any more: that costs
        time and changes nothing.

        Args:
            forwards: each runs the model on one batch.
            tokens: of all examples together, at most.

        Returns:
            The seconds that those took that were stored already.
        """
        if self.states is None:
            return 0.0
        self.states.refresh()
        self._passed = []
        new: set[bytes] = set()
        captured: dict[bytes, torch.Tensor] = {}
        started = time.perf_counter()
        try:
            for forward in forwards:
                found = self.capture(forward)
                if found and not new:
                    first = next(iter(found.values()))
                    if not self.states.has_room(tokens, first.shape[1], first.dtype):
                        self.states = None
                        return 0.0
                captured |= found
                new |= found.keys()
                if sum(states.nbytes for states in captured.values()) >= CHUNK_BYTES:
                    self.states.write(captured, time.perf_counter() - started)
                    captured, started = {}, time.perf_counter()
            self.states.write(captured, time.perf_counter() - started)
        except (OSError, StoreError):
            self.states = None
            return 0.0
        return self.states.seconds(key for key in self._passed if key not in new)

    def _see_inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Notes the tokens of a forward pass, and finds their hidden states."""
        if self._lookup is None and not self._capturing:
            return
        ids, mask = kwargs.get("input_ids", args[0] if args else None), kwargs.get("attention_mask")
        self._keys, self._hidden = [], None
        if ids is None or mask is None or mask.shape != ids.shape:
            return
        self._mask = mask.bool()
        self._keys = keys_of(ids, self._mask, kwargs.get("token_type_ids"))
        if self._capturing:
            self._passed += self._keys
            if self.states is not None and not self.states.missing(self._keys):
                raise PrefixReached
        if self._lookup is not None:
            self._hidden = _padded([self._lookup(key) for key in self._keys], self._mask)
        if self._recalling:
            raise PrefixReached

    def _forward(self, forward: Any, entries: int, last: bool, /, *args: Any, **kwargs: Any) -> Any:
        if self._hidden is not None:
            hidden = self._hidden if last else (args[0] if args else kwargs["hidden_states"])
            return (hidden, *[None] * (entries - 1)) if entries else hidden
        result = forward(*args, **kwargs)
        if last and self._capturing:
            hidden = (result[0] if entries else result).detach()
            if self._keys:
                assert self._mask is not None
                for key, states, real in zip(self._keys, hidden, self._mask, strict=True):
                    self._captured[key] = states[real].cpu()
            raise PrefixReached
        return result


def _padded(parts: Sequence[torch.Tensor | None], mask: torch.Tensor) -> torch.Tensor | None:
    """Puts hidden states where the mask has tokens, and zero at padding; returns None where some are missing."""
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        return None
    hidden = torch.zeros((*mask.shape, found[0].shape[1]), dtype=found[0].dtype, device=mask.device)
    hidden[mask] = torch.cat(found).to(mask.device)
    return hidden


def keys_of(ids: torch.Tensor, mask: torch.Tensor, segments: torch.Tensor | None) -> list[bytes]:
    """Returns a key for each row of a batch: a hash of its real tokens, and of their segments where they have any."""
    ids, mask = ids.cpu(), mask.cpu()
    keys = []
    for number in range(len(ids)):
        digest = hashlib.sha256(ids[number][mask[number]].numpy().tobytes())
        if segments is not None:
            digest.update(b"|" + segments[number].cpu()[mask[number]].numpy().tobytes())
        keys.append(digest.digest())
    return keys


def find(attached: Attached, forward: Callable[[], object]) -> FrozenPrefix | None:
    """Finds the frozen prefix of a model; None where there is none, or it cannot be told for sure.

    Args:
        attached: the model with its method. Where there is a prefix, its blocks are changed in place.
        forward: runs the model once on a few examples.
    """
    model: Any = attached.model
    if getattr(model.config, "is_encoder_decoder", False):
        return None
    try:
        all_blocks = blocks(model)
    except UnsupportedModel:
        return None
    depth = next(
        (number for number, block in enumerate(all_blocks) if any(p.requires_grad for p in block.parameters())),
        len(all_blocks),
    )
    if depth == 0 or len(set(all_blocks)) < len(all_blocks):
        return None
    passed, outputs, dropouts = _observe(attached, all_blocks, forward)
    if passed != list(range(len(all_blocks))):
        return None
    tuples = []
    for output in outputs[:depth]:
        hidden, *others = output if isinstance(output, tuple) else (output,)
        if not isinstance(hidden, torch.Tensor) or hidden.requires_grad or any(o is not None for o in others):
            return None
        tuples.append(len(others) + 1 if isinstance(output, tuple) else 0)
    return FrozenPrefix(model, all_blocks[:depth], tuples, dropouts)


def _observe(
    attached: Attached, all_blocks: Sequence[nn.Module], forward: Callable[[], object]
) -> tuple[list[int], list[Any], list[nn.Module]]:
    """Runs the model once; returns the blocks in the order in which they ran, what each returned, and the modules with
    dropout that ran before the first block."""
    passed: list[int] = []
    outputs: list[Any] = []
    dropouts: list[nn.Module] = []

    def note_block(number: int, output: Any) -> None:
        passed.append(number)
        outputs.append(output)

    def note_dropout(module: nn.Module) -> None:
        if not passed:
            dropouts.append(module)

    handles = [
        block.register_forward_hook(lambda module, inputs, output, number=number: note_block(number, output))
        for number, block in enumerate(all_blocks)
    ]
    inside = {id(module) for block in all_blocks for module in block.modules()}
    handles += [
        module.register_forward_hook(lambda module, inputs, output: note_dropout(module))
        for module in attached.module.modules()
        if isinstance(module, nn.Dropout) and id(module) not in inside
    ]
    was_training = attached.module.training
    attached.module.eval()
    try:
        with torch.enable_grad():
            forward()
    finally:
        attached.module.train(was_training)
        for handle in handles:
            handle.remove()
    return passed, outputs, dropouts
