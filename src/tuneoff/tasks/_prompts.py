"""Converts a template and examples to the tokens of prompts and targets, cut to fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from string import Formatter
from typing import Any

from tuneoff.errors import DataError, UnsupportedModel
from tuneoff.interfaces import Example, Features

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
        stripped = text.rstrip(" ")
        pieces: list[tuple[str, str | None]] = []
        for literal, name, form, conversion in Formatter().parse(stripped):
            if name is not None and (not name.strip() or form or conversion):
                raise ValueError("braces hold the name of a column and nothing else; write {{ for a brace")
            pieces.append((literal, name))
        return cls(tuple(pieces), text[len(stripped) :])

    @property
    def names(self) -> list[str]:
        """Returns the columns named, in order, as often as they are named."""
        return [name for _, name in self.pieces if name is not None]

    def around(self, fields: Mapping[str, str]) -> tuple[str, str]:
        """Returns the text before and after the source, whose name is the one that is not among `fields`."""
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

    The tokenizer itself added `opening` of them before the text and `closing` after it; special tokens that the
    template or a column holds are not counted in these.
    """

    ids: list[int]
    first: int
    last: int
    opening: int
    closing: int

    @property
    def instruction(self) -> int:
        """Counts the tokens that are never cut: all but the source's."""
        return len(self.ids) - (self.last - self.first)

    def cut(self, room: int) -> list[int]:
        """Returns at most `room` tokens by cutting the source's end. There must be room for the instruction."""
        surplus = max(0, len(self.ids) - room)
        return self.ids[: self.last - surplus] + self.ids[self.last :]

    def behind(self, shown: Sequence[int], ids: Sequence[int]) -> list[int]:
        """Returns the prompt's `ids`, cut or not, with solved examples after the tokenizer's opening special tokens."""
        return [*ids[: self.opening], *shown, *ids[self.opening :]]

    def bare(self, ids: Sequence[int]) -> Sequence[int]:
        """Returns the prompt's `ids`, cut or not, without the special tokens that the tokenizer added.

        Its last tokens stay where the source ends the prompt: nothing else would part it from a solution.
        """
        parted = self.last < len(self.ids) - self.closing
        return ids[self.opening : len(ids) - self.closing if parted else None]


def prompts(texts: Sequence[tuple[str, str, str]], tokenizer: Any, *, closed: bool) -> Iterator[Prompt]:
    """Tokenizes prompts as wholes, so that cutting one leaves all other tokens as they were.

    A token that covers both source and instruction counts as the instruction's. Where a text begins or ends with the
    same special tokens that the tokenizer adds there (a template's `<s>`), they are not doubled.

    Args:
        texts: the text before the source, the source, and the text after it.
        tokenizer: a fast one; adds the special tokens that its model was pretrained with.
        closed: whether special tokens that it adds after a text are kept: not where the model continues the text.
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
            indices = unique_frame(ids, opening, closing - dropped, dropped)
            spans = enumerate(offsets[i] for i in indices)
            inside = [i for i, (a, b) in spans if i >= opening and begin <= a < b <= end]
            first, last = (inside[0], inside[-1] + 1) if inside else (0, 0)
            yield Prompt([ids[i] for i in indices], first, last, opening, closing - dropped)


def frame(tokenizer: Any, kind: str = "text") -> tuple[int, int]:
    """Counts the special tokens that a tokenizer adds before a text and after it."""
    special_mask = tokenizer(**{kind: "a"}, return_special_tokens_mask=True)["special_tokens_mask"]
    opening = sum(takewhile(bool, special_mask))
    return opening, sum(special_mask) - opening


def unique_frame(ids: list[int], opening: int, closing: int, dropped: int = 0) -> list[int]:
    """Returns the indices of the tokens to keep, so that special tokens at either end are not doubled.

    They would be where the text itself begins or ends with them.

    Args:
        ids: tokens of the text and the special tokens that the tokenizer added.
        opening: number of tokens that it added before the text.
        closing: number of added tokens after the text that are kept, unless the text ends with them.
        dropped: number of tokens at the end that are always removed.
    """
    end = len(ids) - dropped
    first, last = opening, end - closing
    before = max(k for k in range(opening + 1) if ids[first - k : first] == ids[first:last][:k])
    after = max(k for k in range(closing + 1) if ids[last : last + k] == ids[first:last][last - first - k :])
    return [*range(first - before), *range(first, last), *range(last + after, end)]


def plain_prompt(
    template: Template, source: str, others: Sequence[str], tokenizer: Any, room: int | str, *, closed: bool
) -> list[str]:
    """Returns Python lines that define `prompt`, equal to `prompts` and `Prompt.cut`; see `Task.plain_code`.

    Args:
        template: makes the prompt.
        source: what the lines call the text put in.
        others: the names in the template that are other columns'.
        tokenizer: the model's.
        room: tokens of a prompt, or the expression that gives them.
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
    """Returns the tokens that end a solved example: `SEPARATOR`'s, or end-of-text where these do not decode to it.

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
    """Decodes targets as the output of a model that writes exactly their tokens.

    The text ends at the first end-of-text token and has no special tokens and nothing unknown to the tokenizer. A
    target of which nothing would be left stays as it is, so that an empty output does not equal it.
    """
    kind = "text_target" if encoder_decoder else "text"
    ids = tokenizer(**{kind: list(targets)}, add_special_tokens=encoder_decoder, verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    # A first token that is the same opens the text.
    rows = [row[: row.index(end, 1) if end in row[1:] else None] for row in map(list, ids)]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
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
        """Encodes the examples, each after the same solved ones.

        Raises:
            DataError: naming the first row whose instruction or target does not fit.
        """
        if not examples:
            return []
        demonstration_ids = self._tokenize_demonstrations(demonstrations)
        features = []
        for example, prompt, full_target in zip(
            examples, self._tokenize_prompts(examples), self._tokenize_targets(examples), strict=True
        ):
            target = full_target[: self.target_room] if self.cut_targets else full_target
            full_prompt = self._fit_prompt(example, prompt, self.prompt_room)
            ids = full_prompt if self.encoder_decoder else self._fit_before_target(example, prompt, len(target))
            if self.encoder_decoder and self.decoder_positions is not None and len(target) > self.decoder_positions:
                raise DataError(
                    f"{example.place}: the target's {len(target)} tokens are more than the {self.decoder_positions} "
                    "positions of the model's decoder",
                    hint="Shorten it, remove the row, or set task.long_targets to cut.",
                )
            features.append(
                Features(
                    input_ids=prompt.behind(demonstration_ids, ids),
                    label=0,
                    length=len(demonstration_ids) + len(prompt.ids),
                    target_ids=target,
                    target_length=len(full_target),
                    target_bytes=len(self._learned_text(example, target, full_target).encode()),
                    prompt_ids=prompt.behind(demonstration_ids, full_prompt) if len(full_prompt) > len(ids) else (),
                )
            )
        return features

    def _learned_text(self, example: Example, target: Sequence[int], full_target: Sequence[int]) -> str:
        if len(target) == len(full_target):
            return example.target
        return str(self.tokenizer.decode(target, skip_special_tokens=True)).strip()

    def _tokenize_prompts(self, examples: Sequence[Example]) -> Iterator[Prompt]:
        around = [self.template.around(example.fields) for example in examples]
        texts = [(before, example.text, after) for example, (before, after) in zip(examples, around, strict=True)]
        return prompts(texts, self.tokenizer, closed=self.encoder_decoder)

    def _tokenize_targets(self, examples: Sequence[Example]) -> list[list[int]]:
        """Tokenizes targets, with end-of-text last; an encoder-decoder's with the special tokens of its pretraining.

        Special tokens at either end are not doubled: those that a target contains itself, and the one that a decoder
        starts from, which it reads before the target.
        """
        end = self.tokenizer.eos_token_id
        if self.encoder_decoder:
            encoded = self.tokenizer(text_target=[example.target for example in examples], verbose=False)["input_ids"]
            special_counts = frame(self.tokenizer, "text_target")
            ids = [[row[i] for i in unique_frame(row, *special_counts)] for row in map(list, encoded)]
            ids = [row[1:] if row[0] == self.start_token_id and len(row) > 1 else row for row in ids]
        else:
            ids = self._tokenize_solutions(examples)
        return [row if row[-1:] == [end] else [*row, end] for row in ids]

    def _tokenize_solutions(self, examples: Sequence[Example]) -> list[list[int]]:
        """Tokenizes targets as they follow their prompts in a text, without special tokens."""
        spaces = self.template.spaces
        if self.tokenizer.tokenize("a")[0].startswith("\u2581"):
            spaces = ""  # This tokenizer puts a space before a text by itself.
        texts = [spaces + example.target for example in examples]
        return [list(ids) for ids in self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]

    def _fit_prompt(self, example: Example, prompt: Prompt, room: int) -> list[int]:
        """Cuts the prompt to `room` tokens; keeps at least one, which predicts the first token written."""
        fixed = max(prompt.instruction, 1)
        if room < fixed:
            raise DataError(
                f"{example.place}: the prompt takes {fixed} tokens without any of the source; there is room for {room}",
                hint=f"Set protocol.max_length to {fixed + 1} or more, or shorten task.template.",
            )
        return prompt.cut(room)

    def _fit_before_target(self, example: Example, prompt: Prompt, target: int) -> list[int]:
        """Cuts the prompt so that a target of `target` tokens fits after it; only the source is cut."""
        room = min(self.prompt_room, self.whole_room - target)
        fixed = max(prompt.instruction, 1)
        if room < fixed:
            raise DataError(
                f"{example.place}: the target's {target} tokens and the {fixed} of the prompt without its source are "
                f"more than the {self.whole_room} that an example has room for",
                hint="Set protocol.max_length or task.max_target_length to more, "
                f"{'' if self.cut_targets else 'task.long_targets to cut, '}or shorten the target.",
            )
        return prompt.cut(room)

    def _tokenize_demonstrations(self, demonstrations: Sequence[Example]) -> list[int]:
        """Tokenizes solved examples, each cut to the room of one example, with a `separator` after each."""
        if not demonstrations:
            return []
        ids: list[int] = []
        end = separator(self.tokenizer)
        solutions = self._tokenize_solutions(demonstrations)
        for example, prompt, solution in zip(
            demonstrations, self._tokenize_prompts(demonstrations), solutions, strict=True
        ):
            solved = [*(solution[: self.target_room] if self.cut_targets else solution), *end]
            ids += [*prompt.bare(self._fit_before_target(example, prompt, len(solved))), *solved]
        return ids
