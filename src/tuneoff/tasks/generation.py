"""Text generation: one text in, one text written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from tuneoff.errors import DataError, did_you_mean, listed
from tuneoff.interfaces import ColumnRole, Example, Features, Rows, TaskOptions
from tuneoff.tasks._prompts import SEPARATOR, PairEncoder, Template, plain_prompt
from tuneoff.tasks._rows import choose_columns, require_cells, require_columns
from tuneoff.tasks._text_writer import TextWriter, WritingOptions, require_end
from tuneoff.tasks._writing import plain_writing

if TYPE_CHECKING:
    from torch import nn

SOURCE_NAMES = (
    *("article", "document", "source", "text", "input", "question", "dialogue", "body", "context", "prompt"),
    *("content", "passage", "instruction"),
)
TARGET_NAMES = (
    *("highlights", "summary", "target", "output", "answer", "title", "response", "completion", "headline"),
    *("abstract", "reference", "label"),
)


class TextColumns(TaskOptions):
    """Columns of generation, and the prompt that they make."""

    source: str | None = Field(None, description="column that holds the text put in; guessed where obvious")
    target: str | None = Field(None, description="column that holds the text to write; guessed where obvious")
    template: str = Field(
        "{source}\n",
        description="the prompt: {source} once, and any other column by its name in braces; "
        "spaces at its end go to the front of the target",
    )

    @field_validator("template")
    @classmethod
    def _readable(cls, template: str) -> str:
        if not Template.parse(template).names:
            raise ValueError("it must say where the source goes: {source}")
        return template


class GenerationOptions(WritingOptions, TextColumns):
    """Keys of `task` for generation. Those of the base named last come first where they are listed: the columns."""


class Generation(TextWriter):
    """Text generation by a causal language model or an encoder-decoder.

    A causal model reads the prompt and goes on with the target; an encoder-decoder's encoder reads the prompt and
    its decoder writes the target. Both end with the end-of-text token. Losses are those of the target's tokens.

    `protocol.max_length` is the room of the prompt, `max_target_length` the room of the target. What is too long is
    cut from the end of the source, never from the instruction and, unless `long_targets` says so, never from the
    target. In a causal model a target beyond its room takes from the source's while it is trained on or its loss is
    taken; text is always written from the full prompt.
    """

    title = "Generation"
    summary = "One text in, one text written: ROUGE, exact match, token F1, cross-entropy, bits per byte."
    roles = (ColumnRole("source", "text", SOURCE_NAMES), ColumnRole("target", "text", TARGET_NAMES))
    init_order = 20
    Options = GenerationOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self.template = Template.parse(self.options.template)

    @classmethod
    def starter_options(cls, target_tokens: int) -> dict[str, Any]:
        return {"template": "{source}\n\nAnswer: ", "max_target_length": target_tokens}

    # --- rows -> examples

    def columns(self, rows: Rows) -> dict[str, str]:
        columns = choose_columns(rows, self.options, self.roles)
        count = 0
        for name in self.template.names:
            if name in ("source", columns["source"]):
                count += 1
            elif name in ("target", columns["target"]):
                raise DataError(f"task.template shows {name!r}, the text that is to be written")
            elif name in rows.columns:
                columns[name] = name
            else:
                raise DataError(
                    f"task.template names {name!r}, which {rows.origin} does not have"
                    f"{did_you_mean(name, ['source', *rows.columns])}",
                    hint=f"Its columns: {listed(rows.columns)}; {{source}} is {columns['source']!r}.",
                )
        if count != 1:
            raise DataError(f"task.template must hold {{source}} once; it holds it {count or 'no'} times")
        return columns

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, columns, split)
        values = {role: rows.columns[column] for role, column in columns.items()}
        others = [role for role in columns if role not in ("source", "target")]
        return [
            Example(
                text=str(values["source"][i]),
                target=str(values["target"][i]).strip(),
                index=i,
                place=rows.place(i),
                fields={name: str(values[name][i]) for name in others},
            )
            for i in range(len(rows))
        ]

    def prompt_text(self, example: Example) -> str:
        before, after = self.template.around(example.fields)
        return before + example.text + after

    # --- examples -> tokens

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        require_end(tokenizer)
        self._stop = SEPARATOR if demonstrations else None
        encoder = PairEncoder(
            template=self.template,
            tokenizer=tokenizer,
            prompt_room=max_length,
            whole_room=self.positions(max_length),
            encoder_decoder=self._kind.encoder_decoder,
            decoder_positions=self._kind.positions,
            target_room=self.target_room,
            start_token_id=self._kind.start_token_id,
            cut_targets=self.options.long_targets == "cut",
        )
        return encoder.features(examples, demonstrations)

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        """Returns code whose `predict` takes the source and, by name, the template's other columns."""
        encoder = self._kind.encoder_decoder
        others = [role for role in columns if role not in ("source", self.target_role)]
        return [
            *plain_prompt(self.template, "source", others, tokenizer, max_length, closed=encoder),
            *plain_writing(self._settings(self.target_room, tokenizer), encoder_decoder=encoder),
        ]


plugin = Generation
