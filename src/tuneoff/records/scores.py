"""Scores of a trial: of its task, and of what the study holds (`retention`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tuneoff.config.base import Frozen

Direction = Literal["higher", "lower"]


class Metric(Frozen):
    """One score. `direction` says which way is better."""

    name: str = Field(
        description="`accuracy`, `macro_f1`, `mcc`, `loss` of classification; `rouge_1`, `rouge_2`, `rouge_l`, "
        "`rouge_lsum`, `exact_match`, `token_f1`, `loss`, `perplexity` of generation"
    )
    value: float = Field(description="the score")
    unit: str = Field(description="'fraction', 'nats', …")
    direction: Direction = Field(description="which way is better: `higher` or `lower`")
    split: Literal["train", "validation", "test"] = Field(
        description="`train`, `validation` or `test`; validation scores are the selected checkpoint's"
    )
    examples: int | None = Field(
        None,
        ge=1,
        description="of an imported share of examples: how many there are, where the record has no predictions of them",
    )


class HeldScore(Frozen):
    """A text or a task that is held, before training and after it."""

    metric: str = Field(description="`bits_per_byte` of a text, the main metric of a task")
    unit: str = Field(description="of the metric")
    direction: Direction = Field(description="which values are better")
    before: float = Field(description="of the base model, as pretrained and without the method")
    after: float = Field(description="of the trained model, as it was tested: with its adapter or its prompt")
    change: float = Field(
        description="by how much it is worse after training, in the metric's unit: above 0 something was forgotten, "
        "whichever way is better"
    )
    changes: tuple[float, ...] = Field(
        description="what each row contributes to `change`, which is their mean: its own change or, of a metric of all "
        "rows together, that of the jackknife"
    )
    rows: int = Field(description="rows that were scored")
    fingerprint: str = Field(description="SHA-256 of these rows; equal for all arms and seeds")


class RewindPoint(Frozen):
    """A model between the base model and the trained one, by weights."""

    fraction: float = Field(
        description="of the trained change: 0 the base model, 1 the merged one; a head stays as trained"
    )
    quality: float = Field(description="the metric that selects (`Retention.rewind_metric`), on the validation split")
    held: dict[str, float] = Field(description="name of what is held -> its metric")


class Retention(Frozen):
    """What of the base model's own was kept."""

    held: dict[str, HeldScore] = Field(
        default_factory=dict, description="name -> scores, in the study's order; empty where nothing was held"
    )
    rewind: tuple[RewindPoint, ...] = Field((), description="in ascending order; empty where none was asked for")
    rewind_metric: str | None = Field(None, description="the metric of `rewind[].quality`; null without")

    @property
    def forgetting(self) -> float | None:
        """Returns the change of what is held first; None where nothing is."""
        return next((score.change for score in self.held.values()), None)
