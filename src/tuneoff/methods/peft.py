"""Any method of the installed PEFT by its type: `peft:vera`, `peft:boft`, `peft:ln_tuning`."""

from __future__ import annotations

import ast
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

from tuneoff.errors import StoreError, UnsupportedModel, did_you_mean
from tuneoff.interfaces import Attached, LearningRate, MethodOptions, Reference, TaskView
from tuneoff.methods._layers import attention_inputs, names_of
from tuneoff.methods._peft import PeftMethod, attach_peft, peft_task
from tuneoff.methods._virtual import VirtualTokens, prefix_shape, soft_prompt_shape, with_prefix, with_soft_prompt
from tuneoff.methods.lora import INITS, NOT_OFFERED

if TYPE_CHECKING:
    from torch import nn

CENTER = 1e-3
CENTERS = {
    "cartridge": 1e-2,
    "fourierft": 3e-2,
    "ia3": 1e-2,
    "lora": 2e-3,
    "osf": 5e-5,
    "prefix_tuning": 1e-2,
    "prompt_tuning": 3e-2,
    "shira": 3e-4,
    "vblora": 1e-2,
    "vera": 1e-2,
}
"""Default learning rates of types whose parameters want another scale than `CENTER`: (IA)3, VeRA, VB-LoRA and FourierFT
train vectors or coefficients, OSF and SHiRA the weights themselves."""

SOFT_PROMPTS = frozenset({"prompt_tuning", "p_tuning"})
PREFIXES = frozenset({"prefix_tuning", "cartridge"})
REFUSED = {
    "adalora": "its regulariser and its rank schedule live in PEFT's own training step",
    "cpt": "its loss and its projections live in PEFT's own forward pass",
    "multitask_prompt_tuning": "it wants the number of its task with every example",
    "poly": "it wants the number of its task with every example",
    "lily": "its routing averages over the batch, so an example's scores would depend on its neighbours",
    "xlora": "it mixes adapters that were trained before",
    "adamss": "its size follows from the weights' values, so it cannot be counted before a run",
    "shira": "it draws the places of its weights in a way that cannot be counted before a run",
    "frod": "it decomposes the weights, so it cannot be counted before a run",
}
"""Types that cannot be compared here, and why."""
UNMERGED = SOFT_PROMPTS | PREFIXES | {"adaption_prompt", "beft", "shadow"}
"""Types whose effect is no change of the base model's weights, or (BEFT) not of every model's."""
OURS = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "inference_mode",
        "num_transformer_submodules",
        "peft_type",
        "peft_version",
        "revision",
        "task_type",
    }
)
"""Fields of PEFT's configurations that tuneoff sets itself."""
TOKENS = 20


class PeftOptions(MethodOptions):
    """Options of a `peft:<type>`: the fields of PEFT's configuration class for it.

    PEFT checks them when the method is attached: importing it takes seconds, which planning must not.
    """

    model_config = ConfigDict(frozen=True, extra="allow")


class AnyPeft(PeftMethod[PeftOptions]):
    """A method of PEFT by its type.

    Its options are handed to PEFT's configuration class for the type; PEFT's documentation describes them. One that it
    does not know is refused, with those that it does, when the study is looked at and before anything runs.
    """

    variant: ClassVar[str]
    summary = "A method of the installed PEFT; its options are the fields of PEFT's configuration class for it."
    paper = "as given in PEFT's documentation of the type, https://huggingface.co/docs/peft"
    references = (
        Reference(
            "mangrulkar2022peft",
            "Mangrulkar, Sourab and Gugger, Sylvain and Debut, Lysandre and Belkada, Younes and "
            "Paul, Sayak and Bossan, Benjamin",
            "PEFT: State-of-the-art Parameter-Efficient Fine-Tuning methods",
            2022,
            url="https://github.com/huggingface/peft",
        ),
    )
    Options = PeftOptions

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        return self._attached(model, self._config(task, {}), task)

    def merge(self, attached: Attached) -> nn.Module:
        try:
            return super().merge(attached)
        except (AttributeError, NotImplementedError, ValueError) as error:
            raise StoreError(f"PEFT cannot merge {self.variant}: {error}") from None

    def _attached(self, model: nn.Module, config: Any, task: TaskView) -> Attached:
        """Returns the model wrapped by PEFT.

        Raises:
            UnsupportedModel: if PEFT refuses the model, finds nothing in it to train, or leaves out the task's head.
        """
        import torch

        _choose_targets(config, model)
        # Some types compute with tensors of their own while they are built, which the meta device cannot.
        with torch.device("cpu"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # BOFT computes the same without it.
            warnings.filterwarnings("ignore", message="Failed to load the CUDA extension")
            try:
                attached = attach_peft(model, config, task, theirs=True)
            except (AttributeError, KeyError, RuntimeError) as error:
                raise UnsupportedModel(
                    f"peft:{self.variant} cannot be attached to {type(model).__name__}: {error}"
                ) from error
        messages = [str(warning.message) for warning in caught if not issubclass(warning.category, FutureWarning)]
        attached.extra["findings"] = [("peft_warning", message) for message in dict.fromkeys(messages)]
        head = {id(p) for name in task.head for p in attached.model.get_submodule(name).parameters() if p.requires_grad}
        if task.head and not head:
            raise UnsupportedModel(f"peft:{self.variant} does not train the head that the task adds")
        if all(id(p) in head for p in attached.module.parameters() if p.requires_grad):
            raise UnsupportedModel(
                f"peft:{self.variant} finds nothing to train in {type(model).__name__}",
                hint="Name the modules it should change, mostly by its option target_modules.",
            )
        return attached

    def _config(self, task: TaskView, settings: dict[str, Any]) -> Any:
        """Returns PEFT's configuration from `settings` and the options, which come first.

        Raises:
            UnsupportedModel: for an option that PEFT does not know, or in PEFT's words for a wrong value.
        """
        config_class = _config_class(self.variant)
        names = [name for name in config_class.__dataclass_fields__ if name not in OURS]
        options: dict[str, Any] = dict(self.options.model_extra or {})
        for name in options:
            if name not in names:
                raise UnsupportedModel(
                    f"unknown option {name!r} of peft:{self.variant}{did_you_mean(name, names)}",
                    hint=f"Those of PEFT's {config_class.__name__}: {', '.join(sorted(names))}.",
                )
        init = options.get("init_lora_weights", True)
        if isinstance(init, str) and init not in {"gaussian", "orthogonal"}:
            raise UnsupportedModel(
                f"peft:{self.variant}: init_lora_weights {init} is not offered here"
                # Most others change the frozen weights, which PEFT's own layout does not keep.
                + (f": {NOT_OFFERED[init]}" if init in NOT_OFFERED else ""),
                hint=f"Leave it out, or use lora's option init, which has {', '.join(INITS)}.",
            )
        try:
            return config_class(task_type=peft_task(task), **{**settings, **options})
        except (ValueError, TypeError, ImportError) as error:
            raise UnsupportedModel(f"peft:{self.variant}: {error}") from None


class AnyVirtual(VirtualTokens[PeftOptions], AnyPeft):
    """A method of PEFT that trains virtual tokens; 20 where `num_virtual_tokens` does not say."""

    @property
    def virtual_tokens(self) -> int:
        return int((self.options.model_extra or {}).get("num_virtual_tokens", TOKENS))

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        settings = {"num_virtual_tokens": self.virtual_tokens, "num_transformer_submodules": 1}
        if self.variant in PREFIXES:
            config = self._config(task, {**settings, **prefix_shape(model)})
            return with_prefix(self._attached(model, config, task), self.virtual_tokens)
        config = self._config(task, {**settings, **soft_prompt_shape(model)})
        return with_soft_prompt(self._attached(model, config, task), self.virtual_tokens)


class PeftFamily:
    """All types of the installed PEFT, reached as `peft:<type>`, small or capital letters."""

    title = "Any method of PEFT"
    summary = "Any method of the installed PEFT by its type, e.g. peft:vera, peft:boft, peft:ln_tuning."

    def variants(self) -> list[str]:
        """Lists the types that the installed PEFT names, without importing it."""
        return _types()

    def get(self, variant: str) -> type[AnyPeft]:
        """Returns the method of that type, without importing PEFT. An unusable type is refused when it is attached."""
        return _method(variant.lower())


@cache
def _method(variant: str) -> type[AnyPeft]:
    virtual = variant in SOFT_PROMPTS | PREFIXES
    center = CENTERS.get(variant, CENTER)
    attributes = {
        "__doc__": AnyPeft.__doc__,
        "__module__": __name__,
        "variant": variant,
        "title": f"PEFT: {variant.upper()}",
        "mergeable": variant not in UNMERGED,
        "prefix": variant in PREFIXES,
        "learning_rate": LearningRate(center),
    }
    return type(f"Peft_{variant}", (AnyVirtual if virtual else AnyPeft,), attributes)


@cache
def _types() -> list[str]:
    """Reads the members of PEFT's enumeration of types from its source, since importing PEFT takes seconds."""
    package = find_spec("peft")
    for folder in (package.submodule_search_locations or []) if package is not None else []:
        source = Path(folder) / "utils" / "peft_types.py"
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and node.name == "PeftType":
                targets = [target for item in node.body if isinstance(item, ast.Assign) for target in item.targets]
                return sorted(name.id.lower() for name in targets if isinstance(name, ast.Name))
    return []


def _choose_targets(config: Any, model: nn.Module) -> None:
    """Sets `target_modules` to queries and values, PEFT's usual choice, where PEFT does not know the architecture."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

    any_model: Any = model
    mapping = getattr(PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type), "target_module_mapping", None) or {}
    as_lora = mapping.get("bert") == TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING["bert"]
    unset = getattr(config, "target_modules", ()) is None and getattr(config, "target_parameters", None) is None
    if as_lora and unset and any_model.config.model_type not in mapping:
        config.target_modules = names_of(model, attention_inputs(model, ("query", "value")))


def _config_class(variant: str) -> Any:
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.utils import PeftType

    if variant in REFUSED:
        raise UnsupportedModel(f"peft:{variant} is not supported: {REFUSED[variant]}")
    members = PeftType.__members__
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING.get(members[variant.upper()]) if variant.upper() in members else None
    if config_class is None:
        suggestion = did_you_mean(variant, [name.lower() for name in members])
        raise UnsupportedModel(f"the installed PEFT has no method {variant!r}{suggestion}")
    return config_class


family = PeftFamily()
