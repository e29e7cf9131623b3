"""Running text, to measure how well a language model foretells it. It is no plug-in: nothing is trained on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Example, Features, PooledMetric, Rows
from tuneoff.tasks._inputs import is_causal
from tuneoff.tasks._metrics import bits_per_byte, nats_and_bytes
from tuneoff.tasks._rows import choose_columns, require_cells, require_columns
from tuneoff.tasks._text_head import TEXT
from tuneoff.tasks._text_writer import TextWriter, WritingOptions

BITS_PER_BYTE = PooledMetric(
    name="bits_per_byte",
    direction="lower",
    unit="bits per byte",
    title="bits per byte",
    low=0,
    terms=nats_and_bytes,
    of_sums=bits_per_byte,
)


class RunningTextOptions(WritingOptions):
    """Options of running text."""

    text: str | None = Field(None, description="column that holds the text; guessed where obvious")


class RunningText(TextWriter):
    """Texts of which every token is foretold from those before it; the first follows the token that begins a text.

    The loss is that of all tokens, in bits per byte, which does not depend on how the model's tokens are cut.
    """

    title = "Running text"
    summary = "The loss of a text in bits per byte."
    roles = (TEXT,)
    metrics = (BITS_PER_BYTE,)
    primary_metric = "bits_per_byte"
    Options: ClassVar[type[RunningTextOptions]] = RunningTextOptions

    def columns(self, rows: Rows) -> dict[str, str]:
        return choose_columns(rows, self.options, self.roles)

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, columns, split)
        texts = rows.columns[columns["text"]]
        return [Example(text=str(text), target="", index=i, place=rows.place(i)) for i, text in enumerate(texts)]

    def model_class(self, config: Any) -> Any:
        """Returns the auto class of causal language models.

        Raises:
            UnsupportedModel: if the model is none.
        """
        if not is_causal(config):
            way_out = "hold a task that it can do in the place of the text, " if config.is_encoder_decoder else ""
            raise UnsupportedModel(
                f"a {config.model_type} model does not foretell a text word by word, so a text has no loss to measure",
                hint=f"Use a causal language model (GPT-2, Llama, Gemma, …), {way_out}or leave the text out.",
            )
        return super().model_class(config)

    def positions(self, max_length: int) -> int:
        return max_length

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        """Tokenizes texts: of each the first `max_length` tokens, the one that begins it included.

        That is the tokenizer's token for the beginning of a text or, where it has none, for its end; else the text's
        first token, which is then read and not scored.
        """
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        return [_encode(example, tokenizer, begin, max_length) for example in examples]


def _encode(example: Example, tokenizer: Any, begin: int | None, max_length: int) -> Features:
    encoded = tokenizer(example.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids, ends = list(encoded["input_ids"]), [end for _, end in encoded["offset_mapping"]]
    first = 0 if begin is not None else 1
    read = [begin] if begin is not None else ids[:1]
    scored = ids[first : first + max_length - 1]
    if not scored:
        raise DataError(f"{example.place}: the text is too short to have a loss", hint="Remove such rows.")
    last = first + len(scored)
    end = len(example.text) if last == len(ids) else ends[last - 1]
    start = 0 if begin is not None else ends[0]
    return Features(
        input_ids=read,
        label=0,
        length=len(read),
        target_ids=scored,
        target_length=len(ids) - first,
        target_bytes=max(1, len(example.text[start:end].encode())),
    )
