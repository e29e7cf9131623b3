"""The protocol that all arms share: seeds, splits, training, and its search (`search.py`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from tuneoff.config.base import MAX_SEED, MAX_SEEDS, Frozen, Seed
from tuneoff.config.search import SearchedSetting, SearchSpec

Precision = Literal["auto", "fp32", "fp32-medium", "bf16"]
Attention = Literal["auto", "eager", "sdpa"]
Batching = Literal["length", "random"]
Schedule = Literal["linear", "cosine", "constant"]
Splits = Literal["fixed", "per_seed"]


def _seeds(value: Any) -> Any:
    if isinstance(value, str):
        raise ValueError("expected a number of seeds, a list of them, or race")
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 1:
            raise ValueError("a study needs at least one seed")
        if value > MAX_SEEDS:
            raise ValueError(f"a study has at most {MAX_SEEDS:,} seeds; a seed of your own stands in a list: [{value}]")
        return tuple(range(value))
    return value


class RaceSpec(Frozen):
    """Seeds by racing: every arm gets `min`, and those that may still be the best get more, look by look, up to `max`.

    In a study file `seeds: race`, or these keys in the place of the seeds.
    """

    min: int = Field(6, ge=6, description="seeds of every arm, which is the first look; fewer tell nothing")
    max: int = Field(20, le=MAX_SEEDS, description="seeds of an arm, at most")

    @model_validator(mode="after")
    def _consistent(self) -> RaceSpec:
        if self.max <= self.min:
            raise ValueError(
                f"a race needs room: max {self.max} is not above min {self.min}; for a fixed number of seeds write it "
                f"alone, e.g. seeds: {max(self.max, 1)}"
            )
        return self


class Protocol(Frozen):
    """What is held equal for every method of a study."""

    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        (0, 1), min_length=1, description="seeds, how many (counted from 0), or race: see `race`"
    )
    race: RaceSpec | None = Field(
        None,
        description="seeds by racing, as `seeds: race` or `seeds: {min: 6, max: 20}` say it; `seeds` are then all that "
        "there may be. No part of a trial's identity",
    )
    data_seed: Seed = Field(0, description="seed of row subsets and splits, equal for all trials")
    splits: Splits = Field(
        "fixed",
        description="training and validation rows: the same at every seed, or per_seed: at every seed another draw, so "
        "that the sample of training rows is in the intervals; the test rows stay",
    )
    train_rows: int | None = Field(None, ge=1, description="use at most this many training rows")
    validation_rows: int | None = Field(None, ge=1, description="at most this many validation rows")
    test_rows: int | None = Field(None, ge=1, description="at most this many test rows")
    validation_fraction: float = Field(
        0.1, gt=0, lt=1, description="share of train cut off when no validation source is given"
    )
    test_fraction: float = Field(0.2, gt=0, lt=1, description="share of train cut off when no test source is given")
    duplicates: Literal["warn", "remove", "refuse"] = Field(
        "warn",
        description="rows that stand in two splits: warn of them, remove them from train (and from validation what "
        "stands in test), or refuse the data",
    )
    epochs: int = Field(3, ge=1, description="passes over the training rows")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimizer steps")
    batch_size: int = Field(16, ge=1, description="examples per optimizer step (effective batch)")
    batching: Batching = Field(
        "length", description="rows of a batch: of like length, which leaves little padding, or any at random"
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="micro-batches that one effective batch is split into"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again in the backward pass: less memory, more time"
    )
    evaluation_batch_size: int = Field(64, ge=1, description="examples per evaluation batch, at most")
    max_length: int = Field(128, ge=1, description="tokens kept of an example, special tokens included")
    learning_rate: float | None = Field(None, gt=0, description="one rate for all methods; unset: each method's own")
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay of matrices")
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    schedule: Schedule = Field("linear", description="learning-rate schedule after warm-up")
    warmup_steps: int | None = Field(None, ge=0, description="steps of warm-up; overrides warmup_ratio")
    warmup_ratio: float = Field(0.06, ge=0, le=1, description="share of the steps spent warming up")
    clip_norm: float | None = Field(1.0, gt=0, description="gradient norm is clipped to this; null: never")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout of the base model; unset: as pretrained")
    frozen_dropout: bool = Field(
        False,
        description="draw dropout also in the blocks below the first one that an arm trains, where nothing before them "
        "is trained; then what they give cannot be kept",
    )
    precision: Precision = Field("auto", description="see docs/protocol.md; disclosed in every record")
    attention: Attention = Field("auto", description="implementation of attention; auto: the faster for the device")
    evaluations_per_epoch: int = Field(1, ge=1, description="validations while training")
    select: Literal["best", "last"] = Field(
        "best", description="checkpoint that is tested: best on validation, or the last"
    )
    select_metric: str | None = Field(
        None, description="validation metric that selects; unset: the task's own (see docs/protocol.md)"
    )
    search: SearchSpec | None = Field(
        None, description="equal search of every arm's learning rate and options; null: none"
    )

    @property
    def searchable(self) -> dict[str, Any]:
        """Returns the settings that a search may choose, with their values."""
        return {name: getattr(self, name) for name in get_args(SearchedSetting)}

    def total_steps(self, rows: int) -> int:
        """Counts the optimizer steps of a trial on so many training rows; the last batch of an epoch may be smaller."""
        steps = self.epochs * math.ceil(rows / self.batch_size)
        return min(steps, self.max_steps or steps)

    def evaluation_steps(self, rows: int) -> set[int]:
        """Returns the steps after which validation is scored: evenly within each epoch, and after the last."""
        per_epoch, last = math.ceil(rows / self.batch_size), self.total_steps(rows)
        parts = self.evaluations_per_epoch
        points = {
            epoch * per_epoch + max(1, round(part * per_epoch / parts))
            for epoch in range(self.epochs)
            for part in range(1, parts + 1)
        }
        return {step for step in points if step <= last} | {last}

    def shares(self, split: str) -> bool:
        """Returns whether all seeds have the same rows of a split, as they always have of test."""
        return self.splits == "fixed" or split == "test"

    @model_validator(mode="before")
    @classmethod
    def _from_candidates(cls, value: Any) -> Any:
        """Moves settings written as `{search: …}` into `search.space`; they keep their defaults as what is tried
        first."""
        if not isinstance(value, Mapping):
            return value
        candidates = {
            key: item["search"]
            for key, item in value.items()
            if key in cls.model_fields and isinstance(item, Mapping) and set(item) == {"search"}
        }
        if not candidates:
            return value
        settings = get_args(SearchedSetting)
        if fixed := [key for key in candidates if key not in settings]:
            if fixed == ["learning_rate"]:
                raise ValueError("protocol.learning_rate is one rate for all: each arm's own is searched without it")
            raise ValueError(
                f"protocol.{fixed[0]} cannot be searched: {', '.join(settings)} and options of methods can"
            )
        search = value.get("search")
        if search is None:
            raise ValueError(
                f"{next(iter(candidates))} is to be searched, but the protocol has no search: set "
                "protocol.search.trials, e.g. to 8"
            )
        if isinstance(search, int) and not isinstance(search, bool):
            search = {"trials": search}
        space = search.get("space", {}) if isinstance(search, Mapping) else None
        if not isinstance(space, Mapping):
            return value  # wrong by itself, as is said then
        rest = {key: item for key, item in value.items() if key not in candidates}
        return {**rest, "search": {**search, "space": {**space, **candidates}}}

    @model_validator(mode="before")
    @classmethod
    def _from_race(cls, value: Any) -> Any:
        """Moves a race from `seeds`, where it is written, to `race`, and counts its seeds."""
        if not isinstance(value, Mapping):
            return value
        seeds, race = value.get("seeds"), value.get("race")
        if seeds == "race" or isinstance(seeds, Mapping):
            race = {} if seeds == "race" else seeds
        if race is None:
            return value
        most = dict(race).get("max", RaceSpec().max) if isinstance(race, (Mapping, RaceSpec)) else RaceSpec().max
        # What is wrong with the race itself is said of it.
        count = most if isinstance(most, int) and 1 <= most <= MAX_SEEDS else RaceSpec().max
        # A list that counts from 0 stands for a number of seeds; any other that is too short is refused.
        listed = list(seeds) if isinstance(seeds, (list, tuple)) else []
        keeps = len(listed) >= count or listed != list(range(len(listed)))
        return {**value, "race": race, "seeds": seeds if keeps else count}

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation is not bool:
            raise ValueError("expected a number or a word, not true or false")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Protocol:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: the same seed twice would be the same trial twice")
        if not all(0 <= seed <= MAX_SEED for seed in self.seeds):
            raise ValueError(f"seeds must be 0 or greater, and at most {MAX_SEED}")
        if self.gradient_accumulation_steps > self.batch_size:
            raise ValueError(
                f"gradient_accumulation_steps {self.gradient_accumulation_steps} is more than batch_size "
                f"{self.batch_size}, the examples of one optimizer step"
            )
        if self.race is not None and len(self.seeds) < self.race.max:
            raise ValueError(f"a race of up to {self.race.max} seeds, and only {len(self.seeds)} seeds")
        if self.search is not None:
            self._check_search(self.search)
        return self

    def _check_search(self, search: SearchSpec) -> None:
        if search.per_seed and self.race is not None:
            raise ValueError(
                "search.per_seed and a race cannot be combined: every seed would be searched before it is known which "
                "arms get it. Give a number of seeds, or set per_seed to false"
            )
        search_seeds = {search.seed + seed for seed in self.seeds} if search.per_seed else {search.seed}
        if used := search_seeds & set(self.seeds):
            raise ValueError(
                f"search.seed {search.seed} gives a search the seed {min(used)}, which is one of the study's; seeds of "
                "the search are never used for a final trial"
                if search.per_seed
                else f"search.seed {search.seed} is one of the study's seeds; seeds of the search are never used for a "
                "final trial"
            )
        if max(search_seeds) > MAX_SEED:
            raise ValueError(f"search.seed {search.seed} and the greatest of the study's seeds are over {MAX_SEED}")
        for key in ("train_rows", "epochs", "max_steps"):
            search_value, protocol_value = getattr(search, key), getattr(self, key)
            if search_value is not None and protocol_value is not None and search_value > protocol_value:
                raise ValueError(
                    f"search.{key} {search_value} is more than {key} {protocol_value}, what a final trial gets"
                )
        for name, candidates in search.space.items():
            for value in candidates.ends().values():
                _check_setting(name, value)
        if search.stop != "none" and (search.epochs or self.epochs) * self.evaluations_per_epoch < 2:
            raise ValueError(
                "search.stop needs a validation on the way to stop a trial at: set evaluations_per_epoch, e.g. to 4"
            )
        if "batch_size" in search.space:
            self._check_searched_batches(search)

    def _check_searched_batches(self, search: SearchSpec) -> None:
        """Checks that all batch sizes see the same rows equally often."""
        reasons = {
            "max_steps": self.max_steps is not None or search.max_steps is not None,
            "search.prune": search.prune != "none",
            "search.per_seed": bool(search.per_seed) and search.trials < search.seed_trials * search.sharers,
        }
        if wrong := [key for key, is_set in reasons.items() if is_set]:
            raise ValueError(
                f"batch_size is to be searched, and {wrong[0]} counts steps: of another batch size they would be other "
                "numbers of examples. Every batch size gets the same epochs; limit these, or train_rows, instead"
            )
        assert search.batch_sizes is not None
        least, _ = search.batch_sizes
        if self.gradient_accumulation_steps > least:
            raise ValueError(
                f"gradient_accumulation_steps {self.gradient_accumulation_steps} is more than {least}, the least batch "
                "size that is searched"
            )


def _check_setting(name: str, value: Any) -> None:
    """Checks that a protocol can have a value that is to be tried.

    Raises:
        ValueError: naming the value.
    """
    try:
        # Strictly, for a trial keeps the value as it is written: "8" and 8.0 are no numbers of examples.
        Protocol.model_validate({name: value}, strict=True)
    except ValidationError as error:
        raise ValueError(f"{name} cannot be {value!r}: {error.errors()[0]['msg']}") from None
