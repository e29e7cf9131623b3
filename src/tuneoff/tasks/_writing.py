"""Writing text in batches: greedy or beam search that padding, a soft prompt or a prefix cannot disturb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.tasks._inputs import model_inputs, whole_cache

if TYPE_CHECKING:
    import torch

    from tuneoff.interfaces import Attached


@dataclass(frozen=True)
class Settings:
    """How text is written; the same for every method.

    Attributes:
        max_new_tokens: tokens written at most, the end-of-text token included.
        min_new_tokens: tokens written at least before the end-of-text token.
        num_beams: 1 is greedy.
        length_penalty: exponent of the length that a beam's score is divided by.
        no_repeat_ngram_size: no sequence of so many tokens is written twice; 0: off.
        start_token_id: what an encoder-decoder's decoder starts from.
        stop: a text that ends the output once it follows anything but space; besides the end-of-text token.
        end_ids: further tokens that end the output, such as the end of a turn.
    """

    max_new_tokens: int
    min_new_tokens: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    start_token_id: int = 0
    stop: str | None = None
    end_ids: tuple[int, ...] = ()


def write(
    attached: Attached, ids: torch.Tensor, mask: torch.Tensor, settings: Settings, tokenizer: Any
) -> list[list[int]]:
    """Generates text after each prompt, without the end-of-text token and all after it.

    Args:
        attached: the model with its method.
        ids, mask: right-padded prompts, shape (batch, length).
        settings: the search.
        tokenizer: knows the end-of-text token.
    """
    import torch
    from transformers import DynamicCache, EncoderDecoderCache

    model: Any = attached.model
    ids, mask = ids.to(model.device), mask.to(model.device)
    config = generation_config(model, settings, tokenizer)
    with torch.no_grad():
        inputs = model_inputs(attached, ids, mask)
        if model.config.is_encoder_decoder:
            # Transformers' own would have as many layers as the encoder, whatever T5's decoder has.
            cache = inputs.setdefault("past_key_values", EncoderDecoderCache(DynamicCache(), DynamicCache()))
            if settings.num_beams > 1:
                cache.batch_repeat_interleave(settings.num_beams)
        else:
            inputs = _pad_left(model, ids, mask, inputs, settings.num_beams)
        original_config, model.generation_config = model.generation_config, config
        try:
            # What the model's own configuration sets would fill in whatever ours leaves open.
            outputs = model.generate(
                **inputs, generation_config=config, stopping_criteria=_stopping_criteria(settings.stop, tokenizer)
            )
        finally:
            model.generation_config = original_config
    # Every row starts with the one token that was given: the prompt's last, or the decoder's start.
    return [_cut_at_end(row, config.eos_token_id, config.pad_token_id) for row in outputs[:, 1:].tolist()]


def _pad_left(model: Any, ids: torch.Tensor, mask: torch.Tensor, inputs: dict[str, Any], beams: int) -> dict[str, Any]:
    """Reads the prompts as in training, then moves all padding to the left, where writing needs it.

    The prompts are read padded on the right, virtual tokens first, through the very inputs that training uses.
    Keys and values carry their positions, so that moving a row's padding before its virtual tokens changes nothing
    but where later tokens are added. The last token is left to be read again: it predicts the first that is written.
    """
    import torch
    from transformers import DynamicCache

    prompt_cache = whole_cache(inputs.pop("past_key_values", DynamicCache()))
    model.base_model(**inputs, past_key_values=prompt_cache, use_cache=True)
    full_mask = inputs["attention_mask"]
    order = full_mask.argsort(dim=-1, stable=True)
    place = order[:, None, :-1, None]
    cache = DynamicCache()
    for number, layer in enumerate(prompt_cache.layers if place.shape[2] else []):
        keys, values = (t.gather(2, place.expand(*t.shape[:2], -1, t.shape[-1])) for t in (layer.keys, layer.values))
        cache.update(keys, values, number)
    if beams > 1:
        cache.batch_repeat_interleave(beams)
    last = ids[torch.arange(len(ids), device=ids.device), mask.sum(-1) - 1]
    return {
        "input_ids": last[:, None],
        "attention_mask": full_mask.gather(-1, order),
        "past_key_values": cache,
    }


def generation_config(model: Any, settings: Settings, tokenizer: Any) -> Any:
    """Converts the settings to transformers'; a text ends where the tokenizer or the model's configuration says."""
    from transformers import GenerationConfig

    ends = list(dict.fromkeys([*_end_ids(model, tokenizer), *settings.end_ids]))
    beams = {"length_penalty": settings.length_penalty, "early_stopping": False} if settings.num_beams > 1 else {}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    return GenerationConfig(
        do_sample=False,
        num_beams=settings.num_beams,
        max_new_tokens=settings.max_new_tokens,
        min_new_tokens=settings.min_new_tokens or None,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
        eos_token_id=ends,
        pad_token_id=pad,
        decoder_start_token_id=settings.start_token_id,
        use_cache=True,
        **beams,
    )


def plain_writing(
    settings: Settings, *, encoder_decoder: bool, asked: tuple[str, str] = ("source, **columns", "source, **columns")
) -> list[str]:
    """Returns Python lines that define `predict` from a `prompt` that gives tokens; see `Task.plain_code`.

    `asked` are the arguments of `predict`, and what it gives to `prompt`.

    Where a causal model must not repeat itself, transformers' own setting would count the prompt's words too; here as
    in `write` only what is written counts, after the prompt's last token.
    """
    imports = ["GenerationConfig"]
    arguments = {"input_ids": "ids", "attention_mask": "torch.ones_like(ids)", "generation_config": "writing"}
    lines = [
        "",
        f"def predict({asked[0]}):",
        f"    ids = torch.tensor([prompt({asked[1]})], device=model.device)",
    ]
    if encoder_decoder:
        imports += ["DynamicCache", "EncoderDecoderCache"]
        # As in `write`.
        arguments["past_key_values"] = "EncoderDecoderCache(DynamicCache(), DynamicCache())"
    elif settings.no_repeat_ngram_size:
        imports += ["LogitsProcessorList", "NoRepeatNGramLogitsProcessor"]
        lines += [
            f"    repeats = NoRepeatNGramLogitsProcessor({settings.no_repeat_ngram_size})",
            "    only_new = LogitsProcessorList([lambda read, scores: repeats(read[:, ids.shape[1] - 1 :], scores)])",
        ]
        arguments |= {"logits_processor": "only_new", "no_repeat_ngram_size": "0"}
    first = "" if encoder_decoder else "ids.shape[1]"
    return [
        "",
        f"from transformers import {', '.join(sorted(imports))}",
        "",
        "writing = GenerationConfig.from_pretrained(FOLDER)",
        "whole = model.get_base_model() if hasattr(model, 'get_base_model') else model",
        "whole.generation_config = writing",
        "",
        *lines,
        f"    made = model.generate({', '.join(f'{name}={value}' for name, value in arguments.items())})",
        "    ends = writing.eos_token_id",
        f"    written = [token for token in made[0, {first}:].tolist() if token not in ends]",
        "    return tokenizer.decode(written, skip_special_tokens=True).strip()",
    ]


def _stopping_criteria(stop: str | None, tokenizer: Any) -> Any:
    """Builds stopping criteria; transformers' own stop strings would also match one that begins in the prompt."""
    import torch
    from transformers import StoppingCriteriaList

    def stopped(ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        texts = tokenizer.batch_decode(ids[:, 1:], skip_special_tokens=True)
        return torch.tensor([stop in text.lstrip() for text in texts], device=ids.device)

    return StoppingCriteriaList([stopped] if stop is not None else [])


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Returns the ids that end a text: the tokenizer's first, then further ones of the model's configuration."""
    config_ids = getattr(model.config, "eos_token_id", None)
    others = config_ids if isinstance(config_ids, list) else [] if config_ids is None else [config_ids]
    return list(dict.fromkeys([tokenizer.eos_token_id, *others]))


def _cut_at_end(row: list[int], ends: list[int], pad: int) -> list[int]:
    """Cuts a row at its end-of-text token, and removes the padding that follows where another row is longer."""
    row = row[: next((i for i, token in enumerate(row) if token in ends), len(row))]
    while row and row[-1] == pad:
        row.pop()
    return row
