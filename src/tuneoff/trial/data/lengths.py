"""Checks that what a trial reads fits the model's positions, and finds the settings that would make it fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Method, Task

Settings = list[tuple[str, int]]
"""Names of settings, and the most that each may be; 0 or less where the setting alone cannot help."""


def max_positions(model: nn.Module) -> int | None:
    """Returns the number of tokens that the model can take, or None where it has no limit."""
    any_model: Any = model
    limit = getattr(any_model.config, "max_position_embeddings", None)
    # XLNet says -1 for none.
    if limit is None or limit < 0:
        return None
    word_embeddings = any_model.get_input_embeddings()
    for table in model.modules():
        if isinstance(table, nn.Embedding) and table is not word_embeddings and table.num_embeddings == limit:
            # The RoBERTa family and MPNet count from the position after the one that stands for padding.
            return int(limit) - (0 if table.padding_idx is None else table.padding_idx + 1)
    return int(limit)


def check_length(model: nn.Module, task: Task, max_length: int, method: Method[Any], label: str) -> None:
    """Checks that the model has positions for all inputs; the error says which settings would fit.

    In an encoder-decoder that writes, each side is checked against its own positions.

    Raises:
        DataError: if there is no room for what the study sets for all methods.
        UnsupportedModel: if there is room for that, but not for this method's examples or virtual tokens too.
    """
    limit = max_positions(model)
    if limit is None:
        return
    config: Any = model.config
    target, virtual = task.target_room or 0, method.virtual_tokens
    separate_sides = config.is_encoder_decoder and target > 0
    if separate_sides:
        prefix, virtual = (virtual, 0) if method.prefix else (0, virtual)
        decoder = _Side("decoder", limit, f"task.max_target_length {target}", target, label, virtual=prefix)
        decoder.check(lambda _, virtual: [("task.max_target_length", limit - virtual)])

    def needed(length: int, demonstrations: int, virtual: int) -> int:
        return (
            (length if separate_sides else task.positions(length)) + demonstrations * task.positions(length) + virtual
        )

    def fitting(demonstrations: int, virtual: int) -> Settings:
        longest = max((n for n in range(1, max_length) if needed(n, demonstrations, virtual) <= limit), default=0)
        room = 0 if separate_sides else (limit - virtual) // (1 + demonstrations) - max_length
        return [("protocol.max_length", longest), ("task.max_target_length", room)]

    input_tokens, length_settings = needed(max_length, 0, 0), f"protocol.max_length {max_length}"
    if input_tokens > max_length:
        length_settings += f" + {input_tokens - max_length} tokens of target"
    side = "encoder" if separate_sides else "model"
    _Side(
        side, limit, length_settings, input_tokens, label, method.demonstrations, task.positions(max_length), virtual
    ).check(fitting)


@dataclass(frozen=True)
class _Side:
    """What a model reads at once, or one side (encoder or decoder) of an encoder-decoder, in tokens.

    Attributes:
        name: the model, the encoder or the decoder.
        limit: its number of positions.
        words: the settings that the study makes for all methods, in words.
        own: tokens that these settings need.
        label: the row.
        shown: solved examples that the row's method shows.
        example: tokens that each of them may take.
        virtual: virtual tokens of the row's method.
    """

    name: str
    limit: int
    words: str
    own: int
    label: str
    shown: int = 0
    example: int = 0
    virtual: int = 0

    def check(self, fitting: Callable[[int, int], Settings]) -> None:
        """Raises the errors of `check_length`.

        Args:
            fitting: examples shown and virtual tokens -> settings of the study that leave room for them.
        """
        positions = f"is more than the {self.name}'s {self.limit} positions"
        if self.own > self.limit:
            hint = _join_changes(fitting(0, 0)) or f"set both so that together they are {self.limit} or less"
            raise DataError(f"{self.words} {positions}", hint=f"For all methods, {hint}.")
        demonstration_tokens = self.shown * self.example
        if self.own + demonstration_tokens + self.virtual <= self.limit:
            return
        parts, options = [self.words], []
        if self.shown:
            parts.append(f"{self.shown} × {self.example} tokens of {self.label}'s examples")
            options.append((f"{self.label}'s examples", (self.limit - self.own - self.virtual) // self.example))
        if self.virtual:
            parts.append(f"{self.virtual} virtual tokens of {self.label}")
            options.append((f"{self.label}'s virtual tokens", self.limit - self.own - demonstration_tokens))
        hint, others = (
            _join_changes(options) or f"leave {self.label} out",
            _join_changes(fitting(self.shown, self.virtual)),
        )
        hint = hint[0].upper() + hint[1:] + (f"; or, for all methods, {others}" if others else "")
        raise UnsupportedModel(f"{' + '.join(parts)} {positions}", hint=f"{hint}.")


def _join_changes(settings: Settings) -> str:
    """Joins the changes of settings of which any one is enough; empty where none helps."""
    changes = " or ".join(f"{name} to {maximum} or less" for name, maximum in settings if maximum > 0)
    return changes and f"set {changes}"
