"""From a model's name to a loaded base model with the task's head."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneoff import architectures, registry
from tuneoff.config.data import ModelSpec
from tuneoff.errors import SourceUnreachable, TuneoffError, UnsupportedModel, first_line
from tuneoff.interfaces import ModelFiles, Task, TaskView
from tuneoff.records.record import Finding, ModelInfo
from tuneoff.sources import describing_checksums, fetch_weights, find_model, has_weights
from tuneoff.trial.data.lengths import max_positions
from tuneoff.trial.exhaustion import loading
from tuneoff.trial.modeling.config_limits import check_config_file
from tuneoff.trial.modeling.gguf import dequantised
from tuneoff.trial.modeling.head import FreshHead, Loading, draw
from tuneoff.trial.modeling.precision import Kernel
from tuneoff.trial.modeling.requirements import check_masks, check_order, keep_fixed
from tuneoff.trial.modeling.tokenizer import tokenizer_of
from tuneoff.trial.modeling.vocabulary import check_words, choose_padding, forget_padding_beyond

BASE_SEED = 0
"""Seed of random base weights: the base model is the same for every trial of a study."""
RANDOM_WEIGHTS = Finding(
    name="random_weights", message="the base model has random weights: costs are real, quality means nothing"
)


Ask = Callable[[Path, Callable[[], str]], str]
"""Is handed a folder and what computes something of its files; computes it, or knows the answer."""


def compute_anew(folder: Path, compute: Callable[[], str]) -> str:
    """Computes something of a folder's files."""
    return compute()


@dataclass(frozen=True)
class Loaded:
    """A base model with the task's head, its tokenizer and what the record says of them."""

    model: nn.Module
    tokenizer: Any
    pad_token_id: int
    info: ModelInfo
    findings: tuple[Finding, ...]
    head: tuple[str, ...] = ()
    """Names of the modules that start from the trial's seed; see `head.FreshHead`."""


def load_config(spec: ModelSpec, *, offline: bool = False) -> tuple[Any, ModelFiles | None]:
    """Reads the model's configuration and, unless its weights are random, finds its files.

    Args:
        spec: the model.
        offline: prefer a configuration that ships with the package to any download.

    Raises:
        SourceError: if it cannot be found or fetched; says what would work.
        UnsupportedModel: if transformers cannot read it, or it is not of one text model.
    """
    from transformers import AutoConfig

    architecture = architectures.find(spec.source)
    if architecture is not None and (spec.random_weights or offline):
        return AutoConfig.for_model(**architecture), None
    try:
        files = find_model(registry.sources(), spec)
    except SourceUnreachable as error:
        if spec.random_weights:
            names = ", ".join(architectures.names())
            raise SourceUnreachable(error.message, hint=f"Architectures that need no download: {names}.") from None
        raise
    try:
        if files.gguf_file is not None:
            # Its configuration stands in the same file.
            files = fetch_weights(registry.sources(), spec, files)
        with quiet():
            files = dequantised(files)
        check_config_file(files.path, spec.source)
        arguments: dict[str, Any] = {"gguf_file": files.gguf_file} if files.gguf_file else {}
        config = AutoConfig.from_pretrained(files.path, trust_remote_code=False, **arguments)
    except TuneoffError:
        raise
    except Exception as error:  # whatever transformers makes of a value that it does not expect
        raise UnsupportedModel(
            f"{spec.source}: transformers cannot read its configuration: {' '.join(str(error).split())[:300]}",
            hint="Only architectures that transformers itself has are supported; remote code is never run.",
        ) from None
    if not (hasattr(config, "hidden_size") and hasattr(config, "num_hidden_layers")):
        # Models of text and images keep a size for each part, and methods would count and train the idle parts too.
        raise UnsupportedModel(
            f"{spec.source}: a {config.model_type} model is put together of several, each with sizes of its own",
            hint="Use a model of text alone; of Gemma 3, those with 270M and 1B are.",
        )
    if getattr(config, "transformers_weights", None) is not None:
        # transformers would load that file in the place of the one that was checked.
        raise UnsupportedModel(
            f"{spec.source}: its config.json names other weights by `transformers_weights`",
            hint="Take that key out of config.json, and name the weights model.safetensors.",
        )
    for key in ("hidden_size", "num_hidden_layers"):
        if not isinstance(getattr(config, key), int) or getattr(config, key) < 1:
            raise UnsupportedModel(f"{spec.source}: its configuration says {key}: {getattr(config, key)!r}")
    return config, files


def fetch(spec: ModelSpec) -> tuple[Any, ModelFiles | None]:
    """Does the same as `load_config`, and fetches the weights to this machine too.

    Raises:
        SourceError, UnsupportedModel: if configuration or weights cannot be fetched or used.
    """
    config, files = load_config(spec)
    if files is not None and not spec.random_weights:
        files = fetch_weights(registry.sources(), spec, files)
    return config, files


@loading("the base model")
def load(
    spec: ModelSpec,
    task: Task,
    *,
    seed: int,
    dropout: float | None,
    attention: Kernel,
    evaluation: Kernel | None = None,
    ask: Ask = compute_anew,
) -> Loaded:
    """Loads the base model in float32 on the CPU and gives it a head drawn from `seed`.

    Args:
        spec: the model.
        task: what it is to do.
        seed: of the head.
        dropout: of all its parts; None leaves them as they are.
        attention: the implementation of attention that it uses, if it has it.
        evaluation: the one that `attending` uses instead in evaluations, if another.
        ask: computes the checksum of the weights, or knows it.

    Raises:
        SourceError, UnsupportedModel: if it cannot be fetched or does not fit the task.
    """
    config, files = fetch(spec)
    _set_up(config, task, dropout)
    has_sdpa = _has_sdpa(task.model_class(config), config)
    config._attn_implementation = attention if has_sdpa else "eager"
    with quiet():
        model, loading_info, checksum = _load_base(spec, files, config, task, ask)
        tokenizer = tokenizer_of(spec, files, config)
    check_words(tokenizer, config, spec.source, task.produces == "text")
    check_masks(model)
    check_order(model, task.view(model))
    added = task.view(model).head
    head = FreshHead.find(model, added, loading_info)
    draw(model, head, seed, task.initial_bias)
    pad_id, padding_findings = choose_padding(tokenizer, config)
    model.config.pad_token_id = pad_id
    if model.can_generate():
        model.generation_config = _make_generation_config(model.config, tokenizer)
    info = ModelInfo(
        source=spec.source,
        architecture=type(model).__name__,
        checksum=checksum,
        commit=files.commit if files is not None else None,
        files=describing_checksums(Path(files.path)) if files is not None else {},
        random_weights=spec.random_weights,
        hidden_size=config.hidden_size,
        layers=config.num_hidden_layers,
        max_positions=max_positions(model),
        dtype=str(model.dtype).removeprefix("torch."),
        attention=model.config._attn_implementation,
        evaluation_attention=(evaluation or attention) if has_sdpa else "eager",
    )
    random_findings = [] if loading_info is not None else [RANDOM_WEIGHTS]
    findings = (*random_findings, *head.findings(added), *padding_findings)
    return Loaded(model, tokenizer, pad_id, info, findings, head.modules)


def _load_base(
    spec: ModelSpec, files: ModelFiles | None, config: Any, task: Task, ask: Ask
) -> tuple[Any, Loading | None, str | None]:
    """Loads the model from its files, or builds it with random weights; returns it, what the files lack and the
    checksum of its weights, both None for random weights."""
    # Also where there are files: tensors that they lack start random.
    torch.manual_seed(BASE_SEED)
    if spec.random_weights or files is None:
        return _build_from_config(config, task), None, None
    model, loading_info = _load_from_files(files, config, task)
    with torch.device("meta"):
        keep_fixed(model, _build_from_config(config, task))
    checksum = files.checksum or ask(Path(files.path), lambda: _compute_checksum(model, task))
    return model, loading_info, checksum


def build_empty(
    spec: ModelSpec,
    task: Task,
    *,
    dropout: float | None = None,
    attention: Kernel | None = None,
) -> tuple[nn.Module, TaskView]:
    """Builds the model on the meta device (shapes without memory) for counting, and the task's view for methods.

    Which tensors are the head's is read from the files' headers. Where an architecture ships or the weights are not
    here yet, no headers are read, and the head is what the task's class has beside the pretrained transformer.
    """
    config, files = load_config(spec, offline=True)
    _set_up(config, task, dropout)
    if attention is not None:
        config._attn_implementation = attention if _has_sdpa(task.model_class(config), config) else "eager"
    with quiet(), torch.device("meta"):
        # Some make a tensor where they like (XLNet).
        model: nn.Module = _build_from_config(config, task).to("meta")
    check_masks(model)
    view, loading_info = task.view(model), None
    if files is not None and has_weights(Path(files.path)) and not spec.random_weights:
        with quiet():
            _, loading_info = _load_from_files(files, config, task, device_map="meta")
    return model, replace(view, head=FreshHead.find(model, view.head, loading_info).modules)


def load_tokenizer(spec: ModelSpec, task: Task) -> Any:
    """Loads the model's tokenizer for this task, without the model's weights.

    Raises:
        SourceError, UnsupportedModel: if it cannot be fetched or loaded.
    """
    config, files = load_config(spec)
    with quiet():
        tokenizer = tokenizer_of(spec, files, config)
    check_words(tokenizer, config, spec.source, task.produces == "text")
    return tokenizer


def view(task: Task, loaded: Loaded) -> TaskView:
    """Returns what a method may know of the task, the tokenizer included."""
    tokenizer = loaded.tokenizer
    return replace(
        task.view(loaded.model),
        head=loaded.head,
        tokenize=lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
    )


@contextlib.contextmanager
def attending(model: nn.Module, kernel: str) -> Iterator[None]:
    """Makes the model use this implementation of attention while open, if it has any but the plain one."""
    any_model: Any = model
    # Parts may have copies of the configuration: an encoder-decoder's stacks.
    configs = [m.config for m in any_model.modules() if hasattr(m, "config")] if any_model._supports_sdpa else []
    originals = [
        (config, config._attn_implementation) for config in {id(config): config for config in configs}.values()
    ]
    try:
        for config, _ in originals:
            config._attn_implementation = kernel
        yield
    finally:
        for config, original in originals:
            config._attn_implementation = original


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences transformers while open: it would warn of the fresh head."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _set_up(config: Any, task: Task, dropout: float | None) -> None:
    for key, value in task.model_arguments().items():
        setattr(config, key, value)
    for key in ("activation_function", "hidden_act"):
        if getattr(config, key, None) == "gelu_new":
            # The same function (GELU by tanh) as one kernel, which keeps one tensor for the backward pass, not six.
            setattr(config, key, "gelu_pytorch_tanh")
    forget_padding_beyond(config)
    if dropout is None:
        return
    for key, value in list(vars(config).items()):
        if re.search(r"dropout(_prob|_rate)?$|_pdrop$", key) and (value is None or isinstance(value, (int, float))):
            setattr(config, key, dropout)


def _build_from_config(config: Any, task: Task) -> Any:
    try:
        return task.model_class(config).from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise UnsupportedModel(f"a {config.model_type} model cannot do this task: {first_line(error)}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UnsupportedModel(f"no {config.model_type} model can be built from this configuration: {reason}") from None


def _load_from_files(files: ModelFiles, config: Any, task: Task, **options: Any) -> tuple[Any, Loading]:
    """Loads safetensors or GGUF, never pickles or remote code; returns the model and what the files lack for it."""
    from safetensors import SafetensorError

    arguments: dict[str, Any] = {"gguf_file": files.gguf_file} if files.gguf_file else {"use_safetensors": True}
    try:
        model, info = task.model_class(config).from_pretrained(
            files.path,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **arguments,
            **options,
        )
    except (ValueError, OSError, RuntimeError, SafetensorError) as error:
        name = files.hub_id if files.commit else files.path
        raise UnsupportedModel(f"{name}: transformers cannot load it: {first_line(error)}") from error
    if files.commit:
        # By this name others find it; the folder is this machine's.
        model.name_or_path = model.config._name_or_path = files.hub_id
    return model, Loading.of(info)


def _has_sdpa(auto: Any, config: Any) -> bool:
    """Returns whether transformers has the fused attention for this architecture; GPT-Neo and Gemma 2 have none."""
    try:
        return bool(auto._model_mapping[type(config)]._supports_sdpa)
    except KeyError:
        return True  # Building the model says what is wrong with it.


def _make_generation_config(config: Any, tokenizer: Any) -> Any:
    """Makes a generation configuration of token ids alone, without the sampling settings of the model's authors."""
    from transformers import GenerationConfig

    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    ids = {name: getattr(config, name, None) for name in names}
    return GenerationConfig(**{n: getattr(tokenizer, n, None) if i is None else i for n, i in ids.items()})


def _compute_checksum(model: Any, task: Task) -> str:
    """Computes the SHA-256 over all tensors as loaded, the task's head left out."""
    tensors = model.base_model.state_dict()
    output = task.view(model).output
    if output is not None:
        tensors |= {f"{output}.{name}": tensor for name, tensor in model.get_submodule(output).state_dict().items()}
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().reshape(-1).numpy())
    return digest.hexdigest()
