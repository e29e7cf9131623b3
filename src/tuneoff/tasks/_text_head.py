"""What tasks share that read one text or two and score them by a fresh head: columns, tokens, batches, logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import (
    Attached,
    Batch,
    ColumnRole,
    Example,
    Features,
    Rows,
    Task,
    TaskOptions,
    TaskView,
)
from tuneoff.tasks._cells import lower_names
from tuneoff.tasks._inputs import added_modules, is_causal, model_inputs, padded_left, shifted
from tuneoff.tasks._padding import padded
from tuneoff.tasks._rows import choose_columns
from tuneoff.tasks._two_texts import encode_texts, logits_code

if TYPE_CHECKING:
    import torch
    from torch import nn

TEXT_NAMES = ("text", "sentence", "content", "document", "article", "review", "body", "message", "question")
PAIR_NAMES = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("sentence_a", "sentence_b"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_1", "text_2"),
    ("text_a", "text_b"),
    ("text", "text_pair"),
    ("question", "sentence"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "passage"),
)
"""Names of two columns that are read as a pair where a table has both and none is named, the likeliest first."""
TEXT = ColumnRole("text", "text", TEXT_NAMES)
TEXT_PAIR = ColumnRole("text_pair", "text", optional=True)


class TextOptions(TaskOptions):
    """Keys of `task` for one text or two."""

    text: str | None = Field(
        None, description="column that holds the text, or a list of two for pairs of texts; guessed where obvious"
    )
    text_pair: str | None = Field(None, description="column that holds the second text, where a row has two")

    @model_validator(mode="before")
    @classmethod
    def _two_texts(cls, value: Any) -> Any:
        """Takes a list of two columns as `text` and `text_pair`."""
        texts = value.get("text") if isinstance(value, Mapping) else None
        if not isinstance(texts, (list, tuple)):
            return value
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise ValueError("text: one column, or a list of two for pairs of texts")
        if value.get("text_pair") is not None:
            raise ValueError("text names two columns, and text_pair a third; a row has at most two texts")
        return {**value, "text": texts[0], "text_pair": texts[1]}


class SequenceHead(Task):
    """A task whose model has a head that scores a row of tokens as a whole: at the first token (encoders) or the last
    real one (decoders)."""

    # --- the model

    def view(self, model: nn.Module) -> TaskView:
        return TaskView(head=added_modules(model), peft_task_type="SEQ_CLS")

    def model_class(self, config: Any) -> Any:
        import transformers as hf

        if type(config) not in hf.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            hint = is_causal(config) and self.way_out
            raise UnsupportedModel(
                f"transformers has no {config.model_type} model with a classification head",
                hint=hint or "Use another model (BERT, RoBERTa, Llama, T5, BART, …).",
            )
        return hf.AutoModelForSequenceClassification

    way_out: ClassVar[str] = ""
    """What to do with a causal model that has no such head."""

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes logits of shape (batch, outputs of the head).

        A decoder's text is scored at the last token that the attention mask holds real, never found by token id:
        padding may stand on either side and may be the end-of-text token.
        """
        import torch

        model: Any = attached.model
        ids, mask = batch["input_ids"], batch["attention_mask"]
        decoder = getattr(model, "score", None) is not None
        if decoder:
            # Real tokens first, so that positions, local attention and a soft prompt see no gap.
            order = mask.argsort(dim=-1, descending=True, stable=True)
            ids, mask = ids.gather(-1, order), mask.gather(-1, order)
        inputs = model_inputs(attached, ids, mask, batch.get("token_type_ids"))
        if model.config.is_encoder_decoder:
            return _encoder_decoder_logits(model, ids, mask, inputs)
        if not decoder:
            # Some read the class at the last position, whatever stands there.
            last = getattr(model.config, "summary_type", None) == "last"
            logits: torch.Tensor = model(**(padded_left(inputs) if last else inputs)).logits
            return logits
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
        last_token = mask.sum(-1) - 1 + hidden.shape[1] - mask.shape[1]
        scored: torch.Tensor = model.score(hidden[torch.arange(len(hidden), device=hidden.device), last_token])
        return scored


class TextHead(SequenceHead):
    """A task whose model reads one text or two and has such a head."""

    Options: ClassVar[type[TextOptions]] = TextOptions

    # --- rows -> examples

    def columns(self, rows: Rows) -> dict[str, str]:
        return choose_columns(rows, self.options.model_copy(update=self.columns_by_name(rows)), self.roles)

    def columns_by_name(self, rows: Rows) -> dict[str, str]:
        """Returns the two columns of a known pair, where no text is named."""
        if self.options.text is not None or self.options.text_pair is not None:
            return {}
        lower = lower_names(rows)
        pair = next((pair for pair in PAIR_NAMES if set(pair) <= lower.keys()), ())
        return {role.name: lower[name] for role, name in zip((TEXT, TEXT_PAIR), pair, strict=False)}

    def with_targets(self, rows: Rows, columns: Mapping[str, str], targets: Sequence[str]) -> list[Example]:
        """Returns the rows as examples with these targets."""
        texts = rows.columns[columns["text"]]
        pairs = rows.columns[columns["text_pair"]] if "text_pair" in columns else [""] * len(texts)
        return [
            Example(text=str(text), text_pair=str(pair), target=target, index=i, place=rows.place(i))
            for i, (text, pair, target) in enumerate(zip(texts, pairs, targets, strict=True))
        ]

    # --- examples -> tensors -> logits

    def label_number(self, example: Example) -> int:
        """Returns the number of the example's class; 0 for a task without classes."""
        return 0

    def targets(self, example: Example) -> Sequence[float]:
        """Returns the numbers that the head is to give, where they are not one class."""
        return ()

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        if not examples:
            return []
        return [
            Features(
                encoded.ids,
                self.label_number(example),
                encoded.length,
                (),
                (),
                0,
                self.targets(example),
                encoded.segments,
            )
            for example, encoded in zip(examples, encode_texts(examples, tokenizer, max_length), strict=True)
        ]

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        import torch

        ids, mask = padded([f.input_ids for f in features], pad_token_id)
        batch = {"input_ids": ids, "attention_mask": mask}
        if any(feature.segments for feature in features):
            # A row of one text has none: all of it is of the first.
            batch["token_type_ids"] = padded([f.segments or [0] * len(f.input_ids) for f in features], 0)[0]
        numbers = [feature.targets or feature.label for feature in features]
        batch["labels"] = torch.tensor(numbers, dtype=torch.float32 if features[0].targets else torch.long)
        return batch

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        # As in `forward`: the last token is the last, whatever its number.
        decoder = getattr(model, "score", None) is not None
        arguments = ", ".join(role for role in columns if role != self.target_role)
        name, lines, predict = self.output_code()
        return [
            *(["model.config.pad_token_id = None  # one text at a time has no padding", ""] if decoder else []),
            "",
            f"def {name}({arguments}):",
            *logits_code(model, tokenizer, "text_pair" in columns, max_length),
            *lines,
            *(["", "", f"def predict({arguments}):", f"    found = {name}({arguments})", *predict] if predict else []),
        ]

    def output_code(self) -> tuple[str, list[str], list[str]]:
        """Returns code of an export's card: the name of the function that computes `logits`, the lines that it ends
        with, and those of `predict`, which has what it returned as `found`; empty if it is itself `predict`."""
        raise NotImplementedError


def _encoder_decoder_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Computes an encoder-decoder's logits, shape (batch, outputs), at the decoder position of the last end token.

    As transformers' own forward pass gives them, which takes no virtual tokens and no text with an end token inside.
    """
    import torch

    (head,) = added_modules(model)
    hidden = model.base_model(**inputs, decoder_input_ids=shifted(model, ids, mask), use_cache=False).last_hidden_state
    column = torch.arange(ids.shape[1], device=ids.device)
    ends = torch.isin(ids, torch.tensor(model.config.eos_token_id, device=ids.device)) & mask.bool()
    last = torch.where(ends.any(-1), (column * ends).amax(-1), mask.sum(-1) - 1)
    logits: torch.Tensor = model.get_submodule(head)(hidden[torch.arange(len(hidden), device=hidden.device), last])
    return logits
