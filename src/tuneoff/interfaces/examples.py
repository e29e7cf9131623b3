"""Examples on their way into a model: as texts, as token ids, and as a batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Batch = dict[str, "torch.Tensor"]


def attention_masks(batch: Batch) -> list[torch.Tensor]:
    """Returns a batch's attention masks, 1 on every real token; two where targets are padded separately."""
    return [tensor for name, tensor in batch.items() if name.endswith("attention_mask")]


def computed_tokens(batch: Batch) -> int:
    """Counts the tokens that a batch computes, padding included."""
    return sum(mask.numel() for mask in attention_masks(batch))


@dataclass(frozen=True)
class Example:
    """One row as the task sees it.

    Attributes:
        text: what is put in; for `generation`, the source.
        text_pair: the second text, where a row has two; else empty.
        target: the class's name, or the text to write.
        index: position in its split.
        place: names the row in messages.
        fields: further columns that a prompt template uses.
        history: what was said before `text` in a conversation, as speaker and words; else empty.
        words: start and end of each word in the text, for a task that gives each a tag; empty elsewhere.
        choices: options, one of which is right; empty for a task without.
        group: name of the rows that it belongs to (`task.group`); empty where every row stands for itself.
    """

    text: str
    target: str
    index: int
    place: str
    fields: Mapping[str, str] = field(default_factory=dict)
    text_pair: str = ""
    history: tuple[tuple[str, str], ...] = ()
    words: Sequence[tuple[int, int]] = ()
    choices: tuple[str, ...] = ()
    group: str = ""

    @property
    def input_text(self) -> str:
        """Returns the input for readers: the text, two texts on lines of their own, or where there are `fields` every
        part under its name; options to choose from come last, each after its letter.

        The shortest part comes first, so that a long one does not hide a question about it where this is cut.
        """
        options = [f"{letter_of(number)}. {choice}" for number, choice in enumerate(self.choices)]
        return "\n".join([self._asked, *options])

    @property
    def _asked(self) -> str:
        if self.history:
            return "\n".join([*(f"{speaker}: {words}" for speaker, words in self.history), f"user: {self.text}"])
        if not self.fields:
            return f"{self.text}\n{self.text_pair}" if self.text_pair else self.text
        parts = sorted({"source": self.text, **self.fields}.items(), key=lambda part: len(part[1]))
        return "\n".join(f"{name}: {text}" for name, text in parts)


def letter_of(number: int) -> str:
    """Returns the letter of an option by its number from 0: A to Z, then AA, AB, …"""
    before, last = divmod(number, 26)
    return (letter_of(before - 1) if before else "") + chr(ord("A") + last)


@dataclass(frozen=True)
class Choice:
    """One option of an example as token ids.

    Attributes:
        ids: its own tokens, which follow `Features.input_ids`; or where `whole`, those of the example with it.
        segments: as those of `Features`, where it is whole.
        size: what the sum of its tokens' log-probabilities is divided by; 1: nothing.
        text_bytes: bytes (UTF-8) of its text.
        whole: whether it is read alone.
    """

    ids: Sequence[int]
    segments: Sequence[int] = ()
    size: float = 1.0
    text_bytes: int = 1
    whole: bool = False


@dataclass(frozen=True)
class Features:
    """One example as token ids.

    Attributes:
        input_ids: what is put in, after truncation.
        label: number of its class, or of the right one of its options; 0 for a task without either.
        length: tokens put in before truncation.
        target_ids: the text to write with its end-of-text token; empty for a task without.
        prompt_ids: what is put in to write from, where it is longer than `input_ids` (which a long target
            shortens); empty: `input_ids`.
        target_length: tokens of the text to write, before any were cut off.
        targets: the numbers that a head is to give, where they are not one class; empty elsewhere.
        unlearned: places in `target_ids` of tokens that are read and not learned, such as another speaker's.
        target_bytes: bytes (UTF-8) of the text to write; 0 where they are not counted.
        segments: number of the text that each of `input_ids` belongs to (transformers' `token_type_ids`), for a
            model that is told; empty where there is one text.
        words: four numbers for each word that gets a tag: which of the text's words it is, the positions of its first
            and its last token, and its tag's number; empty for a task without.
        choices: the options, where one is to be chosen; empty for a task without.
    """

    input_ids: Sequence[int]
    label: int
    length: int
    target_ids: Sequence[int] = ()
    prompt_ids: Sequence[int] = ()
    target_length: int = 0
    targets: Sequence[float] = ()
    segments: Sequence[int] = ()
    unlearned: Sequence[int] = ()
    target_bytes: int = 0
    words: Sequence[int] = ()
    choices: Sequence[Choice] = ()

    @property
    def row_tokens(self) -> int:
        """Returns the tokens that a batch holds of it: input and target, or the input with each of its options."""
        if self.choices:
            return sum(len(choice.ids) + (0 if choice.whole else len(self.input_ids)) for choice in self.choices)
        return len(self.input_ids) + len(self.target_ids)

    @property
    def truncated(self) -> bool:
        """Tells whether anything of the input was cut off."""
        return self.length > len(self.input_ids)
