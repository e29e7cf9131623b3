"""The learning rate that a search tries first: by a published rule where one was fitted, else the method's default.

The rule is that of Schulman and Thinking Machines Lab, "LoRA Without Regret" (2025), and of their tinker cookbook,
fitted to supervised fine-tuning of Llama and Qwen models: `5e-5 * F * (2000 / width) ** P`, with the hidden size as
width, F 1 for full fine-tuning and 10 for LoRA, and an exponent P of each family. `benchmarks/search.py` holds it
against recorded scores.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.config.spec import MethodSpec, StudySpec
from tuneoff.interfaces import LearningRate, Proposal, Rule

BASE_RATE, BASE_WIDTH = 5e-5, 2000
EXPONENTS = {"llama": 0.781, "qwen": 0.0775}
"""Family -> exponent of the width, as published."""
WIDTHS = {
    "meta-llama/llama-3.2-1b": 2048,
    "meta-llama/llama-3.2-3b": 3072,
    "meta-llama/llama-3.1-8b": 4096,
    "meta-llama/llama-3.1-70b": 8192,
    "meta-llama/llama-3.3-70b": 8192,
    "qwen/qwen2.5-0.5b": 896,
    "qwen/qwen2.5-1.5b": 1536,
    "qwen/qwen2.5-3b": 2048,
    "qwen/qwen2.5-7b": 3584,
    "qwen/qwen2.5-14b": 5120,
    "qwen/qwen2.5-32b": 5120,
    "qwen/qwen2.5-72b": 8192,
    "qwen/qwen3-0.6b": 1024,
    "qwen/qwen3-1.7b": 2048,
    "qwen/qwen3-4b": 2560,
    "qwen/qwen3-8b": 4096,
    "qwen/qwen3-14b": 5120,
    "qwen/qwen3-32b": 5120,
}
"""Hub id of a base model of these families -> hidden size: a plan reads no model."""
SOURCE = "Schulman et al. 2025, LoRA Without Regret"
BY_WIDTH = Rule(
    "rate-by-width",
    f"{SOURCE}, https://thinkingmachines.ai/blog/lora/; constants: Thinking Machines Lab 2025, "
    "https://github.com/thinking-machines-lab/tinker-cookbook",
    "fitted to supervised training of Llama and Qwen models that write, and to no other family or task",
)
OVER_FULL = Rule(
    "multiple-of-full",
    f"{SOURCE}, https://thinkingmachines.ai/blog/lora/; Biderman et al. 2024, LoRA Learns Less and Forgets Less, "
    "https://arxiv.org/abs/2405.09673",
    "found on models of 1 to 8 billion parameters that write; very short training took more, and it is as good as the "
    "full rate that it starts from",
)


def rate_by_width(width: int, family: str, over_full: float) -> float:
    """Computes the published rate, to three significant digits."""
    return float(f"{BASE_RATE * over_full * (BASE_WIDTH / width) ** EXPONENTS[family]:.3g}")


def center(arm: MethodSpec, model: ModelSpec) -> LearningRate:
    """Returns where the search of an arm's rate begins, with the range around it: the arm's own rate, that of the
    published rule, or the method's default."""
    if arm.learning_rate:
        return LearningRate(arm.learning_rate)
    published = published_rate(arm, model)
    return registry.methods()[arm.method].learning_rate if published is None else LearningRate(published)


def published_rate(arm: MethodSpec, model: ModelSpec) -> float | None:
    """Returns an arm's rate by the published rule; None where the rule was not fitted to the model or the method."""
    over_full, known = registry.methods()[arm.method].learning_rate.over_full, _family_and_width(model)
    if over_full is None or known is None:
        return None
    family, width = known
    return rate_by_width(width, family, over_full)


def propose_rate(study: StudySpec, label: str) -> Proposal | None:
    """Proposes an arm's rate by a published rule; None where none covers the arm, or the study states a rate."""
    arm = study.methods[label]
    if is_rate_stated(study, label):
        return None
    own = registry.methods()[arm.method].learning_rate
    published = published_rate(arm, study.model)
    current = own.center if study.protocol.search is None else center(arm, study.model).center
    if published is not None:
        reason = f"The rule for the width of {study.model.source}."
        return Proposal("learning_rate", published, current, BY_WIDTH, reason)
    stated = [
        (other.learning_rate, name)
        for name, other in study.methods.items()
        if other.learning_rate and registry.methods()[other.method].learning_rate.over_full == 1
    ]
    if own.over_full is None or own.over_full == 1 or not stated:
        return None
    rate, name = stated[0]
    value = float(f"{own.over_full * rate:.3g}")
    reason = f"{own.over_full:g} times the rate that the study states for {name}."
    return Proposal("learning_rate", value, current, OVER_FULL, reason)


def is_rate_stated(study: StudySpec, label: str) -> bool:
    """Tells whether the study itself says an arm's rate, or the values that are searched."""
    arm = study.methods[label]
    return bool(study.protocol.learning_rate or arm.learning_rate) or "learning_rate" in arm.search


def describe_first_rates(study: StudySpec, firsts: Mapping[str, float]) -> str:
    """Says by what the rates were chosen that the searches of arms try first; `firsts` maps labels to them."""
    known = _family_and_width(study.model)
    unknown = f"no published rule covers the {'method' if known else 'model'}"
    labels: dict[str, list[str]] = {}
    for label, rate in firsts.items():
        arm = study.methods[label]
        if rate == arm.learning_rate:
            reason = "as the study says"
        elif rate == published_rate(arm, study.model):
            reason = f"by the model's width ({SOURCE})"
        elif rate == registry.methods()[arm.method].learning_rate.center:
            reason = f"the method's default ({unknown})"
        else:
            reason = "in the middle of the range"
        labels.setdefault(reason, []).append(label)
    return "first rates: " + "; ".join(f"of {', '.join(names)} {reason}" for reason, names in labels.items())


def _family_and_width(model: ModelSpec) -> tuple[str, int] | None:
    """Returns the family and width of a model that the rule covers; None of others."""
    name = model.source.removeprefix("hub:").lower()
    name = "meta-llama/llama-3.2-3b" if name == "llama-3.2-3b" else name
    name = name.removesuffix("-instruct").removesuffix("-base")
    width = WIDTHS.get(name)
    return None if width is None else (next(family for family in EXPONENTS if family in name), width)
