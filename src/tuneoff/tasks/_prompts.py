"""From a template and examples to the tokens of prompts and targets, cut to fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from string import Formatter
from typing import Any

from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.tasks.base import Example, Features

SEPARATOR = "\n\n"
"""After each solved example that a method shows. What is written then ends here, as they do."""

CHUNK = 256
"""Prompts tokenized at once: their offsets take far more memory than their tokens."""


@dataclass(frozen=True)
class Template:
    """A prompt with columns in braces.

    Attributes:
        pieces: literal text and the column named after it, in order; None after the last.
        spaces: spaces at the end, which tokenizers join to the word that follows: they go before what is written.
    """

    pieces: tuple[tuple[str, str | None], ...]
    spaces: str

    @classmethod
    def parse(cls, text: str) -> Template:
        """Reads a template; a brace that is meant is written twice.

        Raises:
            ValueError: for braces that do not match, or anything but a name in them.
        """
        bare = text.rstrip(" ")
        pieces: list[tuple[str, str | None]] = []
        for literal, name, form, conversion in Formatter().parse(bare):
            if name is not None and (not name.strip() or form or conversion):
                raise ValueError("braces hold the name of a column and nothing else; write {{ for a brace")
            pieces.append((literal, name))
        return cls(tuple(pieces), text[len(bare) :])

    @property
    def names(self) -> list[str]:
        """The columns named, in order, as often as they are named."""
        return [name for _, name in self.pieces if name is not None]

    def around(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """What stands before and after the source; it is the name that is not among the other columns' `fields`."""
        sides = ["", ""]
        side = 0
        for literal, name in self.pieces:
            sides[side] += literal
            if name is not None and name in fields:
                sides[side] += fields[name]
            elif name is not None:
                side = 1
        return sides[0], sides[1]


@dataclass(frozen=True)
class Prompt:
    """A prompt's tokens, special ones included; those of the source are `ids[first:last]`.

    The tokenizer itself put `opening` of them before the text and `closing` after it; special tokens that the template
    or a column holds are not among these.
    """

    ids: list[int]
    first: int
    last: int
    opening: int
    closing: int

    @property
    def instruction(self) -> int:
        """Tokens that are never cut: all but the source's."""
        return len(self.ids) - (self.last - self.first)

    def cut(self, room: int) -> list[int]:
        """At most `room` tokens: the source loses its last ones. There must be room for the instruction."""
        surplus = max(0, len(self.ids) - room)
        return self.ids[: self.last - surplus] + self.ids[self.last :]

    def behind(self, shown: Sequence[int], ids: Sequence[int]) -> list[int]:
        """The prompt's `ids`, cut or not, with solved examples after what the tokenizer put first."""
        return [*ids[: self.opening], *shown, *ids[self.opening :]]

    def bare(self, ids: Sequence[int]) -> Sequence[int]:
        """The prompt's `ids`, cut or not, without what the tokenizer put around them.

        Its last tokens stay where the source ends the prompt: nothing else would part it from a solution.
        """
        parted = self.last < len(self.ids) - self.closing
        return ids[self.opening : len(ids) - self.closing if parted else None]


def prompts(texts: Sequence[tuple[str, str, str]], tokenizer: Any, *, closed: bool) -> Iterator[Prompt]:
    """Tokenizes prompts as wholes, so that cutting one leaves all other tokens as they were.

    A token that holds both source and instruction is the instruction's. Where a text begins or ends with the very
    special tokens that the tokenizer puts there (a template's `<s>`), these stand once.

    Args:
        texts: what stands before the source, the source, and what stands after it.
        tokenizer: a fast one; adds the special tokens that its model was pretrained with.
        closed: whether special tokens that it puts after a text stay: not where the model goes on with the text.
    """
    opening, closing = frame(tokenizer)
    dropped = 0 if closed else closing
    for start in range(0, len(texts), CHUNK):
        part = texts[start : start + CHUNK]
        encoded = tokenizer(["".join(sides) for sides in part], return_offsets_mapping=True, verbose=False)
        for (before, source, _), ids, offsets in zip(
            part, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            begin, end = len(before), len(before) + len(source)
            kept = unique_frame(ids, opening, closing - dropped, dropped)
            spans = enumerate(offsets[i] for i in kept)
            inside = [i for i, (a, b) in spans if i >= opening and begin <= a < b <= end]
            first, last = (inside[0], inside[-1] + 1) if inside else (0, 0)
            yield Prompt([ids[i] for i in kept], first, last, opening, closing - dropped)


def frame(tokenizer: Any, kind: str = "text") -> tuple[int, int]:
    """How many special tokens a tokenizer puts before a text, and how many after it."""
    added = tokenizer(**{kind: "a"}, return_special_tokens_mask=True)["special_tokens_mask"]
    opening = sum(takewhile(bool, added))
    return opening, sum(added) - opening


def unique_frame(ids: list[int], opening: int, closing: int, dropped: int = 0) -> list[int]:
    """Which of a text's tokens stay so that special ones at either end stand there once, if the text has them itself.

    Args:
        ids: of the text and what the tokenizer put around it.
        opening: tokens that it put before the text.
        closing: tokens after it that stay, unless the text ends with them.
        dropped: tokens at the end that go in any case.
    """
    end = len(ids) - dropped
    first, last = opening, end - closing
    before = max(k for k in range(opening + 1) if ids[first - k : first] == ids[first:last][:k])
    after = max(k for k in range(closing + 1) if ids[last : last + k] == ids[first:last][last - first - k :])
    return [*range(first - before), *range(first, last), *range(last + after, end)]


def plain_prompt(
    template: Template, source: str, others: Sequence[str], tokenizer: Any, room: int, *, closed: bool
) -> list[str]:
    """Python lines that define `prompt`, which gives what `prompts` and `Prompt.cut` give; see `Task.plain_code`.

    Args:
        template: makes the prompt.
        source: what the lines call the text put in.
        others: the names in the template that are other columns'.
        tokenizer: the model's.
        room: tokens of a prompt.
        closed: as for `prompts`.
    """
    sides: list[list[str]] = [[], []]
    side = 0
    for literal, name in template.pieces:
        if literal:
            sides[side].append(repr(literal))
        if name is not None and name in others:
            sides[side].append(f"columns[{name!r}]")
        elif name is not None:
            side = 1
    before, after = (" + ".join(parts) or '""' for parts in sides)
    opening, closing = frame(tokenizer)
    end = f"[:-{closing}]" if closing and not closed else ""
    unique = [
        f"    start, end = {opening}, len(ids) - {closing if closed else 0}  # what the text has itself stands once",
        f"    twice = max(k for k in range({opening + 1}) if ids[start - k : start] == ids[start:end][:k])",
        f"    again = max(k for k in range({closing + 1 if closed else 1}) "
        "if ids[end : end + k] == ids[start:end][end - start - k :])",
        "    kept = [*range(start - twice), *range(start, end), *range(end + again, len(ids))]",
        "    ids, offsets = [ids[i] for i in kept], [offsets[i] for i in kept]",
    ]
    unique = unique if opening or (closing and closed) else []
    return [
        "",
        f"def prompt({source}, **columns):",
        f"    before, after = {before}, {after}",
        f"    encoded = tokenizer(before + {source} + after, return_offsets_mapping=True)",
        f'    ids, offsets = encoded["input_ids"]{end}, encoded["offset_mapping"]',
        *unique,
        f"    first, last = len(before), len(before + {source})",
        "    inside = [i for i, (a, b) in enumerate(offsets) if first <= a < b <= last]",
        f"    cut = max(0, len(ids) - {room})  # what is too long loses the end of its text",
        "    return ids[: inside[-1] + 1 - cut] + ids[inside[-1] + 1 :] if cut else ids",
        "",
    ]


def separator(tokenizer: Any) -> list[int]:
    """What ends a solved example: the tokens of `SEPARATOR`, or the end-of-text token where those do not hold it.

    Some tokenizers drop line ends, T5's among them.

    Raises:
        UnsupportedModel: if there is no end-of-text token either.
    """
    ids = tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
    if SEPARATOR in tokenizer.decode(ids):
        return list(ids)
    if tokenizer.eos_token_id is None:
        raise UnsupportedModel(
            "the model's tokenizer drops line ends and has no end-of-text token, so solved examples would run together",
            hint="Leave out the methods that show any, such as few_shot.",
        )
    return [tokenizer.eos_token_id]


def read_back(targets: Sequence[str], tokenizer: Any, encoder_decoder: bool) -> list[str]:
    """Targets as they are read when a model writes their very tokens: to the first end-of-text token, without special
    tokens and what the tokenizer does not know.

    A target of which nothing would be left stays as it is: no output equals it then, instead of every empty one.
    """
    kind = "text_target" if encoder_decoder else "text"
    ids = tokenizer(**{kind: list(targets)}, add_special_tokens=encoder_decoder, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    # A first token that is the same opens the text.
    whole = [row[: row.index(end, 1) if end in row[1:] else None] for row in map(list, ids)]
    texts = tokenizer.batch_decode(whole, skip_special_tokens=True)
    return [text.strip() or target for text, target in zip(texts, targets, strict=True)]


@dataclass(frozen=True)
class PairEncoder:
    """Examples as tokens for one model, cut to fit.

    Attributes:
        template: makes an example's prompt.
        tokenizer: the model's own.
        prompt_room: tokens of a prompt.
        whole_room: tokens of prompt and target together, in a causal model.
        encoder_decoder: whether the prompt is read apart from the target.
        decoder_positions: tokens a target may have in an encoder-decoder; None: no limit.
        target_room: tokens that may be written.
        start_token_id: what an encoder-decoder's decoder starts from.
        cut_targets: whether a longer target loses its end, the end-of-text token included.
    """

    template: Template
    tokenizer: Any
    prompt_room: int
    whole_room: int
    encoder_decoder: bool
    decoder_positions: int | None
    target_room: int
    start_token_id: int | None = None
    cut_targets: bool = False

    def features(self, examples: Sequence[Example], demonstrations: Sequence[Example]) -> list[Features]:
        """The examples, each after the same solved ones.

        Raises:
            DataError: naming the first row whose instruction or target does not fit.
        """
        if not examples:
            return []
        shown = self._shown(demonstrations)
        features = []
        for example, prompt, whole in zip(examples, self._prompts(examples), self._targets(examples), strict=True):
            target = whole[: self.target_room] if self.cut_targets else whole
            full = self._fitted(example, prompt, self.prompt_room)
            ids = full if self.encoder_decoder else self._before(example, prompt, len(target))
            if self.encoder_decoder and self.decoder_positions is not None and len(target) > self.decoder_positions:
                raise DataError(
                    f"{example.place}: the target's {len(target)} tokens are more than the {self.decoder_positions} "
                    "positions of the model's decoder",
                    hint="Shorten it, remove the row, or set task.long_targets to cut.",
                )
            features.append(
                Features(
                    input_ids=prompt.behind(shown, ids),
                    label=0,
                    length=len(shown) + len(prompt.ids),
                    target_ids=target,
                    target_length=len(whole),
                    prompt_ids=prompt.behind(shown, full) if len(full) > len(ids) else (),
                )
            )
        return features

    def _prompts(self, examples: Sequence[Example]) -> Iterator[Prompt]:
        around = [self.template.around(example.fields) for example in examples]
        texts = [(before, example.text, after) for example, (before, after) in zip(examples, around, strict=True)]
        return prompts(texts, self.tokenizer, closed=self.encoder_decoder)

    def _targets(self, examples: Sequence[Example]) -> list[list[int]]:
        """Targets as token ids, the end-of-text token last; an encoder-decoder's framed as it was pretrained.

        Special tokens at either end stand once: those that a target holds itself, and the one that a decoder starts
        from, which it reads before the target.
        """
        end = self.tokenizer.eos_token_id
        if self.encoder_decoder:
            framed = self.tokenizer(text_target=[example.target for example in examples], verbose=False)["input_ids"]
            around = frame(self.tokenizer, "text_target")
            ids = [[row[i] for i in unique_frame(row, *around)] for row in map(list, framed)]
            ids = [row[1:] if row[0] == self.start_token_id and len(row) > 1 else row for row in ids]
        else:
            ids = self._solutions(examples)
        return [row if row[-1:] == [end] else [*row, end] for row in ids]

    def _solutions(self, examples: Sequence[Example]) -> list[list[int]]:
        """Targets as they follow their prompts in a text, the tokenizer's special tokens left out."""
        spaces = self.template.spaces
        if self.tokenizer.tokenize("a")[0].startswith("\u2581"):
            spaces = ""  # This tokenizer puts a space before a text by itself.
        texts = [spaces + example.target for example in examples]
        return [list(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]

    def _fitted(self, example: Example, prompt: Prompt, room: int) -> list[int]:
        """The prompt in at most `room` tokens; at least one, since the first token written is predicted from it."""
        least = max(prompt.instruction, 1)
        if room < least:
            raise DataError(
                f"{example.place}: the prompt takes {least} tokens without any of the source; there is room for {room}",
                hint=f"Set protocol.max_length to {least + 1} or more, or shorten task.template.",
            )
        return prompt.cut(room)

    def _before(self, example: Example, prompt: Prompt, target: int) -> list[int]:
        """The prompt before a target of so many tokens, which takes from the source what it has no room for."""
        room = min(self.prompt_room, self.whole_room - target)
        least = max(prompt.instruction, 1)
        if room < least:
            raise DataError(
                f"{example.place}: the target's {target} tokens and the {least} of the prompt without its source are "
                f"more than the {self.whole_room} that an example has room for",
                hint="Set protocol.max_length or task.max_target_length to more, "
                f"{'' if self.cut_targets else 'task.long_targets to cut, '}or shorten the target.",
            )
        return prompt.cut(room)

    def _shown(self, demonstrations: Sequence[Example]) -> list[int]:
        """Solved examples, each prompt and target cut to the room of one example, a `separator` after each."""
        if not demonstrations:
            return []
        shown: list[int] = []
        end = separator(self.tokenizer)
        solutions = self._solutions(demonstrations)
        for example, prompt, whole in zip(demonstrations, self._prompts(demonstrations), solutions, strict=True):
            solved = [*(whole[: self.target_room] if self.cut_targets else whole), *end]
            shown += [*prompt.bare(self._before(example, prompt, len(solved))), *solved]
        return shown
