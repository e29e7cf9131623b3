"""What the tasks of conversations share: options, tokens, packing, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from tuneoff.errors import CannotTrainTogether, UnsupportedModel
from tuneoff.interfaces import Attached, Batch, Example, Features
from tuneoff.tasks._packing import packed, refuse_crossing, unpacked
from tuneoff.tasks._text_writer import TextWriter, WritingOptions, require_end
from tuneoff.tasks._turns import TurnEncoder, turn_ends
from tuneoff.tasks._turns_code import turns_code
from tuneoff.tasks._writing import plain_writing

if TYPE_CHECKING:
    import torch
    from torch import nn


class ConversationOptions(WritingOptions):
    """Keys of `task` for conversations."""

    chat_template: str = Field(
        "auto",
        min_length=1,
        description="how turns become text: `auto` (the tokenizer's own, else plain), `model` (its own), `plain` "
        "(`User: …`, `Assistant: …`), or a template in Jinja",
    )
    packing: bool = Field(
        False,
        description="put short conversations of a batch into one row, where none sees another: less padding, the same "
        "losses but for rounding",
    )


class Conversation(TextWriter):
    """A conversation whose answers are learned, and whose last answer is scored."""

    Options: ClassVar[type[ConversationOptions]] = ConversationOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._is_apart: Any = None
        self._ends: tuple[Any, tuple[int, ...]] = (None, ())
        """The tokenizer that was asked last, and what ends its answers."""

    @classmethod
    def starter_options(cls, target_tokens: int) -> dict[str, Any]:
        return {"chat_template": "auto", "max_target_length": target_tokens}

    def model_class(self, config: Any) -> Any:
        if config.is_encoder_decoder:
            raise UnsupportedModel(
                f"a {config.model_type} model reads a text apart from what it writes; a conversation is read as one",
                hint="Use a causal language model, or the task generation.",
            )
        return super().model_class(config)

    def prompt_text(self, example: Example) -> str:
        """Returns what the user said last; what was said before stands in `Example.history`."""
        return example.text

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        require_end(tokenizer)
        return self._encoder(tokenizer, max_length).features(examples, demonstrations)

    def _encoder(self, tokenizer: Any, max_length: int) -> TurnEncoder:
        return TurnEncoder(
            tokenizer=tokenizer,
            template=self.options.chat_template,
            prompt_room=max_length,
            whole_room=self.positions(max_length),
            target_room=self.target_room,
            cut_targets=self.options.long_targets == "cut",
        )

    def end_ids(self, tokenizer: Any) -> tuple[int, ...]:
        """Returns the tokens with which the template ends an answer: the same for all rows, also where none is encoded,
        as in an export."""
        if self._ends[0] is not tokenizer:
            self._ends = (tokenizer, turn_ends(tokenizer, self.options.chat_template))
        return self._ends[1]

    # --- packing

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        """Pads, or with `packing` puts several examples into a row; see `packed`."""
        batch = super().collate(features, pad_token_id)
        return packed(batch) if self.options.packing and len(features) > 1 else batch

    def stack(self, parts: Sequence[Sequence[Features]], pad_token_id: int) -> Batch:
        if self.options.packing:
            raise CannotTrainTogether("packed rows differ from batch to batch")
        return super().stack(parts, pad_token_id)

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        if "places" not in batch:
            return super().forward(attached, batch)
        if attached.soft_prompt is not None or attached.prefix is not None:
            return super().forward(attached, unpacked(batch))
        self._refuse_crossing(attached.model)
        # Without a mask: transformers then keeps attention within each run of positions.
        inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
        return self.logits_of(attached.model, inputs, batch, batch["input_ids"].shape[1])

    def _refuse_crossing(self, model: nn.Module) -> None:
        """Checks once for each model that it keeps packed examples apart."""
        if self._is_apart is not model:
            refuse_crossing(model)
            self._is_apart = model

    asked: ClassVar[tuple[str, str]] = ("messages", "messages")
    """The arguments of `predict` in an export's card, and the expression that makes messages of them."""

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        settings = self._settings(self.target_room, tokenizer)
        return [
            *turns_code(self._encoder(tokenizer, max_length)),
            *plain_writing(settings, encoder_decoder=False, asked=self.asked),
        ]
