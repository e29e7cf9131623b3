"""Checks that a model has an embedding for every token that it will read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Features
from tuneoff.records.record import Finding


def rows_of(config: Any) -> int | None:
    """Returns how many embeddings a model of this configuration has; None where it does not say."""
    size = getattr(config, "vocab_size", None)
    return size if isinstance(size, int) else None


def check_words(tokenizer: Any, config: Any, source: str, writes: bool) -> None:
    """Refuses a tokenizer with words that the model has no embeddings for.

    A special token may lie beyond them (a pad token that was added to the tokenizer alone is common) as long as none
    reads it; those that the tokenizer puts around a text, and the end of what is written, are read.

    Raises:
        UnsupportedModel: naming both sizes.
    """
    size = rows_of(config)
    if size is None:
        return
    special_ids = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special_ids |= set(tokenizer.all_special_ids)
    read_ids = {*tokenizer("a")["input_ids"], *([tokenizer.eos_token_id] if writes else [])}
    beyond = {
        number: word
        for word, number in tokenizer.get_vocab().items()
        if number >= size and (number not in special_ids or number in read_ids)
    }
    start_id = getattr(config, "decoder_start_token_id", None)
    if isinstance(start_id, int) and start_id >= size:
        raise _reject(f"number {start_id}, from which its decoder starts", tokenizer, size, source)
    if beyond:
        first = min(beyond)
        raise _reject(f"{len(beyond)} of them, such as {beyond[first]!r} (number {first})", tokenizer, size, source)


def check_tokens(features: Iterable[Features], tokenizer: Any, config: Any, source: str) -> None:
    """Refuses examples with tokens that the model has no embeddings for.

    Raises:
        UnsupportedModel: naming both sizes.
    """
    size = rows_of(config)
    if size is None or max(tokenizer.get_vocab().values()) < size:
        return
    for example in features:
        choices = (choice.ids for choice in example.choices)
        parts = (example.input_ids, example.prompt_ids, example.target_ids, *choices)
        largest_id = max(max(ids, default=0) for ids in parts)
        if largest_id >= size:
            word = tokenizer.convert_ids_to_tokens(largest_id)
            raise _reject(
                f"{word!r} (number {largest_id}), which stands in the data or its template", tokenizer, size, source
            )


def _reject(what: str, tokenizer: Any, size: int, source: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{source}: its tokenizer has {len(tokenizer)} tokens, its model {size} embeddings and none for {what}",
        hint="Give the model embeddings for all (`model.resize_token_embeddings(len(tokenizer))`) and save both, or "
        "take such tokens out of the tokenizer.",
    )


def forget_padding_beyond(config: Any) -> None:
    """Removes a pad token without an embedding from a configuration: no model could be built with it."""
    pad, size = getattr(config, "pad_token_id", None), rows_of(config)
    if pad is not None and size is not None and not 0 <= pad < size:
        config.pad_token_id = None


def choose_padding(tokenizer: Any, config: Any) -> tuple[int, tuple[Finding, ...]]:
    """Chooses a token to pad with that has an embedding; any will do, because it is masked.

    It is the tokenizer's own, else the configuration's, the end of a text, or number 0. Where the tokenizer's own lies
    beyond the embeddings, the tokenizer is given that other one.
    """
    size = rows_of(config)

    def fits(number: Any) -> bool:
        return isinstance(number, int) and number >= 0 and (size is None or number < size)

    own_id = tokenizer.pad_token_id
    candidates = (own_id, getattr(config, "pad_token_id", None), tokenizer.eos_token_id, *tokenizer.all_special_ids)
    pad = next(filter(fits, candidates), 0)
    if own_id is None or fits(own_id):
        return pad, ()
    word = tokenizer.pad_token
    # A word of the vocabulary would be taken for padding wherever it stands.
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad) if pad in tokenizer.all_special_ids else None
    message = (
        f"the tokenizer's pad token {word!r} (number {own_id}) lies beyond the model's {size} embeddings; number {pad} "
        "pads in its place, which is masked"
    )
    return pad, (Finding(name="pad_token_replaced", message=message),)
