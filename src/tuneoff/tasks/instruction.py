"""Instructions: what to do, what to do it with, and the answer, in columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from tuneoff.errors import DataError
from tuneoff.interfaces import ColumnRole, Example, Rows, TaskOptions, is_missing
from tuneoff.tasks._cells import lower_names, require_plain
from tuneoff.tasks._conversation import Conversation, ConversationOptions
from tuneoff.tasks._rows import choose_columns, require_cells, require_columns, require_unicode

INPUT_NAMES = ("input", "context")
OUTPUT_NAMES = ("output", "response", "completion", "answer")


class InstructionColumns(TaskOptions):
    """Columns of instructions."""

    instruction: str | None = Field(None, description="column that holds what to do; guessed where obvious")
    input: str | None = Field(None, description="column that holds what to do it with; its cells may be empty")
    output: str | None = Field(None, description="column that holds the answer; guessed where obvious")


class InstructionOptions(ConversationOptions, InstructionColumns):
    """Keys of `task` for instructions. Those of the base named last come first where they are listed: the columns."""


class Instruction(Conversation):
    """Instructions in the columns that Alpaca made usual: the user says the instruction and, after an empty line, the
    input; the assistant answers. All else is as in chat."""

    title = "Instructions"
    summary = (
        "An instruction, perhaps an input, one answer: ROUGE, exact match, token F1, cross-entropy, bits per byte."
    )
    roles = (
        ColumnRole("instruction", guesses=("instruction",)),
        ColumnRole("input", guesses=INPUT_NAMES, optional=True, may_be_empty=True),
        ColumnRole("output", guesses=OUTPUT_NAMES),
    )
    asked = (
        'instruction, input=""',
        '[{"role": "user", "content": "\\n\\n".join(filter(None, [instruction.strip(), (input or "").strip()]))}]',
    )
    init_order = 5
    Options: ClassVar[type[InstructionOptions]] = InstructionOptions

    def columns(self, rows: Rows) -> dict[str, str]:
        return choose_columns(rows, self.options.model_copy(update=self.columns_by_name(rows)), self.roles)

    def columns_by_name(self, rows: Rows) -> dict[str, str]:
        """Returns the column of inputs, where one is called so and none is named."""
        lower = lower_names(rows)
        named = next((lower[name] for name in INPUT_NAMES if name in lower), None)
        return {"input": named} if self.options.input is None and named is not None else {}

    def recognise(self, rows: Rows) -> dict[str, Any]:
        try:
            return dict(self.columns(rows))
        except DataError:
            return {}  # no column is called so

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, {role: column for role, column in columns.items() if role != "input"}, split)
        inputs = [None] * len(rows)
        if "input" in columns:
            require_plain(rows, {"input": columns["input"]})
            inputs = rows.columns[columns["input"]]
        pairs = zip(rows.columns[columns["instruction"]], inputs, rows.columns[columns["output"]], strict=True)
        examples = [
            Example(
                text=str(instruction).strip() + ("" if is_missing(given) else f"\n\n{str(given).strip()}"),
                target=str(output).strip(),
                index=i,
                place=rows.place(i),
            )
            for i, (instruction, given, output) in enumerate(pairs)
        ]
        return require_unicode(examples)


plugin = Instruction
