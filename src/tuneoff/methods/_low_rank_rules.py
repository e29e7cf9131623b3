"""What was published on the options of low-rank updates, as rules that propose values."""

from __future__ import annotations

from typing import Any

from tuneoff.interfaces import Proposal, ProposalSetting, Rule

_REGRET = "Schulman and Thinking Machines Lab 2025, LoRA Without Regret, https://thinkingmachines.ai/blog/lora/"
_LEARNS_LESS = "Biderman et al. 2024, LoRA Learns Less and Forgets Less, https://arxiv.org/abs/2405.09673"

ALL_LINEAR = Rule(
    "all-linear",
    f"{_LEARNS_LESS}; {_REGRET}",
    "found on Llama models of 1 to 8 billion parameters that learn to write; encoders, and classes by a head, were not "
    "tried",
)
RANK = Rule(
    "parameters-hold-answers",
    "Thinking Machines Lab 2025, LoRA Primer, https://tinker-docs.thinkingmachines.ai/lora-primer",
    "called a very rough approximation there, for supervised training of models that write; that a class counts as one "
    "token is our reading of it",
)
ALPHA = Rule(
    "alpha-twice-rank",
    f"{_LEARNS_LESS}, section 4.7",
    "not for scales by the root of the rank (rslora)",
)
SMALL_BATCH = Rule(
    "batch-below-32",
    f"{_REGRET}; the bound as Hugging Face 2025 reads it, https://huggingface.co/docs/trl/main/en/lora_without_regret",
    "said of some settings only; full fine-tuning loses less by large batches, and all arms of a study share the size",
)
RANKS = (8, 16, 32, 64, 128, 256)
"""Ranks that are proposed; the greatest is that of both publications."""
LARGE_BATCH, SMALLER_BATCH = 32, 16


def propose(options: Any, setting: ProposalSetting) -> tuple[Proposal, ...]:
    """Proposes targets, rank, scale and batch size.

    Args:
        options: of `lora` or `qlora`.
        setting: of the arm.
    """
    proposals = []
    if options.targets in {"default", "attention", "all-linear"}:
        reason = "There, updates of attention alone stayed behind those of all linear layers, at equal parameters too."
        proposals.append(Proposal("targets", "all-linear", options.targets, ALL_LINEAR, reason))
    if setting.answers is not None and setting.parameters is not None:
        rank = _rank(options.r, setting.answers, setting.parameters)
        proposals.append(rank)
        if rank.changes and not getattr(options, "rslora", False):
            reason = "So that the update keeps its scale."
            proposals.append(Proposal("alpha", 2 * rank.value, options.alpha, ALPHA, reason))
    if setting.batch_size >= LARGE_BATCH:
        reason = "There, low-rank updates lost more by large batches, and a greater rank did not help."
        proposals.append(Proposal("protocol.batch_size", SMALLER_BATCH, setting.batch_size, SMALL_BATCH, reason))
    return tuple(proposals)


def _rank(current: int, answers: int, parameters: int) -> Proposal:
    """Proposes the rank that there is where its parameters are as many as the tokens to learn, for the rule asks for no
    less; else the least of `RANKS` above it, or the greatest."""
    each = parameters / current
    greater = [rank for rank in RANKS if rank > current]
    rank = next((rank for rank in (current, *greater) if each * rank >= answers), max(current, RANKS[-1]))
    known = f"At rank {rank} it trains {round(each * rank):,} parameters, for about {answers:,} tokens to learn"
    if each * rank < answers:
        return Proposal("r", rank, current, RANK, f"{known}: too few, so full fine-tuning may stay ahead.")
    return Proposal("r", rank, current, RANK, f"{known}.")
