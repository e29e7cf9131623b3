"""One text or two as token ids, put together as the model's tokenizer does it, and cut to fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tuneoff.errors import DataError
from tuneoff.tasks._inputs import takes_segments
from tuneoff.tasks._prompts import frame

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.interfaces import Example

SEPARATOR = "\n"
"""Stands between two texts where the tokenizer puts no token there that a model could tell them apart by."""


class Encoded(NamedTuple):
    """An example's tokens.

    Attributes:
        ids: at most as many as there is room for.
        segments: number of the text that each belongs to; empty where that is 0 for all.
        length: tokens before any were cut off.
        offsets: of one text, where each token stands in it; (0, 0) for special tokens.
    """

    ids: list[int]
    segments: Sequence[int]
    length: int
    offsets: Sequence[tuple[int, int]] = ()


def separates(tokenizer: Any) -> bool:
    """Tells whether the tokenizer puts a token of its own between two texts, as those of encoders do.

    Those of decoders put nothing there, or a begin-of-text token, which stands for something else.
    """
    encoded = tokenizer("a", "b")
    texts = encoded.sequence_ids(0)
    between = encoded["input_ids"][texts.index(0) + 1 : texts.index(1)]
    return any(token != tokenizer.bos_token_id for token in between)


def encode_texts(
    examples: Sequence[Example], tokenizer: Any, max_length: int, *, offsets: bool = False
) -> Iterator[Encoded]:
    """Yields the tokens of each example. Of two texts that are too long together, the longer loses its end first.

    Args:
        examples: each with one text, or each with two.
        tokenizer: the model's.
        max_length: tokens that there is room for, the tokenizer's special tokens included.
        offsets: tell also which characters each token stands for, of one text.

    Raises:
        DataError: where `max_length` leaves no room for a text.
    """
    pairs = bool(examples[0].text_pair)
    joined = pairs and not separates(tokenizer)
    special = tokenizer.num_special_tokens_to_add(pair=pairs and not joined)
    if max_length <= special + pairs:
        raise DataError(
            f"protocol.max_length {max_length} leaves no room for text: {special} special tokens are added",
            hint=f"Set protocol.max_length to {special + pairs + 1} or more.",
        )
    if joined:
        yield from _encode_joined(examples, tokenizer, max_length - special)
        return
    filler = [tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0]
    texts = [[e.text for e in examples], [e.text_pair for e in examples]] if pairs else [[e.text for e in examples]]
    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    segments = encoded.get("token_type_ids", [[]] * len(examples)) if pairs else [[]] * len(examples)
    if pairs:
        # What is cut off a pair is not told in one piece.
        parts = [tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"] for part in texts]
        lengths = [len(first) + len(second) + special for first, second in zip(*parts, strict=True)]
    else:
        lengths = [
            len(encoding.ids) + sum(len(rest.ids) - special for rest in encoding.overflowing)
            for encoding in encoded.encodings
        ]
    for ids, numbers, length, encoding in zip(encoded["input_ids"], segments, lengths, encoded.encodings, strict=True):
        places = _offsets(encoding) if offsets and not pairs else ()
        yield Encoded(list(ids) or filler, numbers if any(numbers) else (), length, places)


def _offsets(encoding: Any) -> list[tuple[int, int]]:
    pairs = zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
    return [(0, 0) if special else tuple(place) for place, special in pairs]


def _encode_joined(examples: Sequence[Example], tokenizer: Any, room: int) -> Iterator[Encoded]:
    """Yields the tokens of pairs as one text each, the second after a separator."""
    texts = [e.text for e in examples], [f"{SEPARATOR}{e.text_pair}" for e in examples]
    opening, closing = frame(tokenizer)
    framed = tokenizer("a")["input_ids"]
    before, after = framed[:opening], framed[len(framed) - closing :]
    first_ids, second_ids = (tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"] for part in texts)
    for first, second in zip(first_ids, second_ids, strict=True):
        kept = min(len(first), max(room - len(second), room - room // 2))
        ids = [*before, *first[:kept], *second[: room - kept], *after]
        yield Encoded(ids, (), len(before) + len(first) + len(second) + len(after))


def logits_code(model: nn.Module, tokenizer: Any, pairs: bool, max_length: int) -> list[str]:
    """Returns Python lines, inside a function of `text` (and `text_pair`), that define its `logits`, shape (outputs,).

    They run where tuneoff is not installed, and give what the trial computes; see `Task.plain_code`.

    Args:
        model: the trained model.
        tokenizer: the model's.
        pairs: whether there are two texts.
        max_length: as for `encode_texts`.
    """
    if pairs and not separates(tokenizer):
        opening, closing = frame(tokenizer)
        room = max_length - tokenizer.num_special_tokens_to_add()
        framed = tokenizer("a")["input_ids"]
        parts = ["first[:kept]", f"second[:{room} - kept]"]
        parts = [*map(str, framed[:opening]), *(f"*{part}" for part in parts)]
        parts += map(str, framed[len(framed) - closing :])
        return [
            '    first = tokenizer(text, add_special_tokens=False)["input_ids"]',
            f'    second = tokenizer({SEPARATOR!r} + text_pair, add_special_tokens=False)["input_ids"]',
            f"    kept = min(len(first), max({room} - len(second), {room - room // 2}))",
            f"    ids = torch.tensor([[{', '.join(parts)}]], device=model.device)",
            "    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float()",
        ]
    texts = "text, text_pair" if pairs else "text"
    names = ["input_ids", "attention_mask"]
    if pairs and takes_segments(model) and "token_type_ids" in tokenizer("a", "b"):
        names.append("token_type_ids")
    inputs = ", ".join(f'{name}=read["{name}"]' for name in names)
    return [
        f'    read = tokenizer({texts}, truncation=True, max_length={max_length}, return_tensors="pt")',
        "    read = read.to(model.device)",
        f"    logits = model({inputs}).logits[0].float()",
    ]
