"""What several methods ask a paper to cite."""

from __future__ import annotations

from tuneoff.interfaces import Reference

FEW_SHOT_PAPER = "Brown et al. 2020, Language Models are Few-Shot Learners, https://arxiv.org/abs/2005.14165"
FEW_SHOT = Reference(
    "brown2020language",
    "Brown, Tom B. and Mann, Benjamin and Ryder, Nick and Subbiah, Melanie and others",
    "Language Models are Few-Shot Learners",
    2020,
    arxiv="2005.14165",
)
