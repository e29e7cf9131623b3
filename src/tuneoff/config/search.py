"""What the search of rates, options and settings is asked: how much, by which rules, over which values."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tuneoff.config.base import Frozen, Seed

Sampler = Literal["gp", "tpe", "random"]
Prune = Literal["none", "halving"]
Stop = Literal["none", "quartile"]
SearchedSetting = Literal["weight_decay", "clip_norm", "batch_size"]
"""Settings of the protocol that a search may choose."""
SHARERS = 6
"""Seeds among which the steps of one search are shared, where every seed has its own search and no number is given:
fewer tell nothing."""
SEED_TRIALS = 4
"""Trials of one seed's search, at the least: fewer find little."""


class Candidates(Frozen):
    """The values of one option that a search may choose: a list, or a range with both ends included.

    In a study file `{search: [4, 8, 16]}` or `{search: {low: 4, high: 64, log: true}}` in the place of a value. A
    range between whole numbers gives whole numbers.
    """

    choices: tuple[Any, ...] | None = Field(None, description="values to choose from")
    low: int | float | None = Field(None, description="lower end of a range")
    high: int | float | None = Field(None, description="upper end of a range")
    log: bool = Field(False, description="whether a range is searched on a logarithmic scale; rates always are")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {"choices": value}
        if not isinstance(value, Mapping):
            raise ValueError("expected a list of values or a range with low and high")
        for end in (value.get("low"), value.get("high")):
            if isinstance(end, bool):
                raise ValueError("the ends of a range are numbers, not true or false")
            # Comparing, unlike converting, takes whole numbers that no float holds.
            if end is not None and not (isinstance(end, (int, float)) and abs(end) <= sys.float_info.max):
                raise ValueError(f"the ends of a range are finite numbers, and {end!r} is none")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Candidates:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("a list of values has no low, high or log")
            if len(set(map(_identity, self.choices))) < max(2, len(self.choices)):
                raise ValueError("a search needs two or more values, no two alike")
        elif self.low is None or self.high is None:
            raise ValueError("a range needs low and high")
        elif not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        elif self.log and self.low <= 0:
            raise ValueError("a range on a logarithmic scale begins above 0")
        return self

    def ends(self) -> dict[str, Any]:
        """Returns where each value stands, and the value: those of the list, or both ends of the range."""
        if self.choices is not None:
            return {str(index): choice for index, choice in enumerate(self.choices)}
        return {"low": self.low, "high": self.high}


def _identity(value: Any) -> tuple[bool, Any]:
    """Returns what two values share that are one: 1 and 1.0 are, 1 and true are not."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number, value if is_number else repr(value)


class SearchSpec(Frozen):
    """An equal search: for every arm that trains the same number of trials, on the same share of data and steps,
    scored on validation alone. In a study file either these keys or the number of trials.
    """

    trials: int = Field(8, ge=1, le=10_000, description="search trials of every arm that trains")
    seed: Seed = Field(1000, description="seed of the search and its trials; never one of the protocol's seeds")
    train_rows: int | None = Field(None, ge=1, description="training rows of a search trial; unset: the protocol's")
    epochs: int | None = Field(None, ge=1, description="epochs of a search trial; unset: the protocol's")
    max_steps: int | None = Field(None, ge=1, description="steps of a search trial; unset: the protocol's")
    sampler: Sampler = Field(
        "gp",
        description="what suggests: gp (a Gaussian process) and tpe (Optuna's) learn from the scores so far, random "
        "does not",
    )
    grow: bool = Field(
        False, description="widen the ranges whose best rate lies at an edge, once, with more trials for all arms"
    )
    per_seed: bool | Annotated[int, Field(ge=1)] = Field(
        False,
        description="a search of its own for every final seed, with seed `seed` + the final one, so that a verdict is "
        "of methods with their searches, not of what one search found. Its trials are so few and so short that those "
        "of six seeds, or of as many as this says, take as many steps as one search",
    )
    prune: Prune = Field(
        "none", description="halving: few steps for all trials of an arm, twice as many for the better half, and so on"
    )

    stop: Stop = Field(
        "none",
        description="quartile: stop a trial at a validation on the way where its best score so far is worse than three "
        "in four of what the arm's earlier trials had reached there; from each arm's fifth trial on",
    )
    space: dict[SearchedSetting, Candidates] = Field(
        default_factory=dict,
        description="settings of the protocol that every arm's search chooses too; in a study file `{search: …}` in "
        "their places",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if isinstance(value, (Mapping, SearchSpec)):
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("expected a number of trials, or a mapping of keys")
        return {"trials": value}

    @field_validator("per_seed", mode="before")
    @classmethod
    def _whether_or_how_many(cls, value: Any) -> Any:
        if not isinstance(value, int) or (value < 1 and value is not False):
            raise ValueError("expected true, false, or how many seeds share the steps of one search, 1 or more")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpec:
        if self.grow and self.prune != "none":
            raise ValueError(
                f"grow and prune: {self.prune} cannot be combined: too few trials of a pruned search get the whole "
                "share of steps to say that a best rate lies at an edge. Choose one of the two"
            )
        if self.stop != "none" and self.prune != "none":
            raise ValueError("stop and prune cannot be combined: trials are short already. Choose one of the two")
        if self.stop != "none" and "batch_size" in self.space:
            raise ValueError(
                "stop and a search of batch_size cannot be combined: trials of other batch sizes are not validated "
                "after the same steps. Choose one of the two"
            )
        if self.per_seed and (self.grow or self.prune != "none"):
            raise ValueError(
                f"{'grow' if self.grow else 'prune'} and per_seed cannot be combined: the trials of one seed's search "
                "are few and short already. Choose one of the two"
            )
        if self.per_seed and self.trials < 2:
            raise ValueError("per_seed shares the trials of a search among seeds: give it two at least")
        return self

    @property
    def sharers(self) -> int:
        """Counts the seeds whose searches take as many steps as one search, where every seed has its own."""
        return SHARERS if self.per_seed is True else int(self.per_seed)

    @property
    def seed_trials(self) -> int:
        """Counts the trials of one seed's search, where every one has its own: four, but no more than one search has;
        more where that many whole ones are its share."""
        return max(min(self.trials, SEED_TRIALS), self.trials // self.sharers)

    @property
    def batch_sizes(self) -> tuple[int, int] | None:
        """Returns the least and the greatest batch size that the search may choose; None where it chooses none."""
        candidates = self.space.get("batch_size")
        return None if candidates is None else (min(candidates.ends().values()), max(candidates.ends().values()))

    def of_seed(self, seed: int, max_steps: int | None) -> SearchSpec:
        """Returns the search of one final seed, where every one has its own, under its own seed and with its share of
        trials and steps (`halving.shared_steps`)."""
        limit = {} if max_steps is None else {"max_steps": max_steps}
        changes = {"per_seed": False, "trials": self.seed_trials, "seed": self.seed + seed, **limit}
        return self.model_copy(update=changes)
