"""A model's tokenizer, and one of bytes for models without files."""

from __future__ import annotations

from typing import Any

from tuneoff.config.data import ModelSpec
from tuneoff.errors import UnsupportedModel, first_line
from tuneoff.interfaces import ModelFiles


def tokenizer_of(spec: ModelSpec, files: ModelFiles | None, config: Any) -> Any:
    """Loads the tokenizer from a model's files; makes one of bytes where there are none.

    Raises:
        UnsupportedModel: if there is no fast tokenizer, or it cannot be loaded.
    """
    if files is None:
        return byte_tokenizer(config)
    from transformers import AutoTokenizer

    arguments: dict[str, Any] = {"gguf_file": files.gguf_file} if files.gguf_file else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.path, trust_remote_code=False, **arguments)
    except (ValueError, OSError, KeyError) as error:
        raise UnsupportedModel(f"{spec.source}: its tokenizer cannot be loaded: {first_line(error)}") from None
    if not tokenizer.is_fast:
        raise UnsupportedModel(f"{spec.source} has no fast tokenizer (tokenizer.json), which tuneoff needs")
    if len(tokenizer) - len(set(tokenizer.all_special_ids)) < 2:
        # Where the files are missing, transformers makes one that knows no word and reads every text as unknown.
        raise UnsupportedModel(
            f"{spec.source} holds no tokenizer",
            hint="Save it beside the weights with `tokenizer.save_pretrained`.",
        )
    tokenizer.padding_side = "right"
    tokenizer.truncation_side = "right"
    return tokenizer


def byte_tokenizer(config: Any) -> Any:
    """Makes a tokenizer of bytes for a model without weights: 256 ids that the model's own special tokens leave free.

    Encoders get their usual frame (a first and a last special token); decoders get none, as GPT-2's has none;
    encoder-decoders get an end-of-text token, and a first one where they have one, as T5 and BART do.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special_ids = {
        name: value
        for name in ("bos", "eos", "pad", "cls", "sep", "unk")
        if isinstance(value := getattr(config, f"{name}_token_id", None), int)
    }
    encoder = config.model_type in {"bert", "roberta", "distilbert", "electra", "deberta-v2", "xlm-roberta"}
    if encoder and "bos" not in special_ids:
        special_ids |= {"cls": 101, "sep": 102, "pad": special_ids.get("pad", 0)}
        special_ids.pop("eos", None)
    free_ids = (i for i in range(config.vocab_size) if i not in special_ids.values())
    vocabulary = {character: next(free_ids) for character in sorted(pre_tokenizers.ByteLevel.alphabet())}
    names = {number: f"<{name}>" for name, number in reversed(special_ids.items())}
    vocabulary |= {name: number for number, name in names.items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    first, last = ("cls", "sep") if "cls" in special_ids else ("bos", "eos")
    if encoder or (config.is_encoder_decoder and "eos" in special_ids):
        template = f"{names[special_ids[first]]} $A" if first in special_ids else "$A"
        template += f" {names[special_ids[last]]}"
        tokens = [
            (names[special_ids[part]], special_ids[part])
            for part in dict.fromkeys((first, last))
            if part in special_ids
        ]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    token_arguments = {f"{name}_token": names[number] for name, number in special_ids.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="right", **token_arguments)
