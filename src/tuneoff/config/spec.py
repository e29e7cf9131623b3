"""What a study asks: frozen models; unknown keys are refused.

A study file is this shape in YAML. Short forms are accepted where they say the same thing: `model: minilm`,
`data: reuters-r8`, `seeds: 2`, `methods: [lora, full]`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tuneoff.suffixes import is_data_file

SPEC_VERSION = 1

Precision = Literal["auto", "fp32", "fp32-medium", "bf16"]
Attention = Literal["auto", "eager", "sdpa"]
Batching = Literal["length", "random"]
Schedule = Literal["linear", "cosine", "constant"]
Purpose = Literal["final", "search"]
Sampler = Literal["gp", "tpe", "random"]
Prune = Literal["none", "halving"]
Engine = Literal["fast", "plain"]
Splits = Literal["fixed", "per_seed"]


MAX_SEED = 2**32 - 1
"""Greatest seed that every generator of random numbers takes."""
MAX_SEEDS = 10_000
"""Most seeds of a study that are given by their number."""
AUTO_TOGETHER = 8
"""Trials that train together on a GPU where `execution.together` is `auto`."""
MAX_TOGETHER = 64
"""Most trials that train together."""
MAX_LABEL = 100
"""Characters of the longest label and name, which stand in tables and file names."""
MAX_REFERENCE = 4_000
"""Characters of the longest alias, hub id or path."""


class Frozen(BaseModel):
    """Base of every model here: immutable, unknown keys refused, no silent coercion of non-finite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _own_keys_to_options(value: Any, field_names: set[str]) -> Any:
    """Moves keys that belong to a plug-in (a method's, a task's) into `options`."""
    if not isinstance(value, Mapping):
        return value
    fields = {key: item for key, item in value.items() if key in field_names}
    options = {key: item for key, item in value.items() if key not in field_names}
    if options:
        fields["options"] = {**dict(fields.get("options") or {}), **options}
    return fields


def _candidates_to_search(value: Any) -> Any:
    """Moves values written as `{search: …}` into `search`."""
    if not isinstance(value, Mapping):
        return value
    candidates = {
        key: item["search"] for key, item in value.items() if isinstance(item, Mapping) and set(item) == {"search"}
    }
    if not candidates:
        return value
    rest = {key: item for key, item in value.items() if key not in candidates}
    return {**rest, "search": {**dict(rest.get("search") or {}), **candidates}}


def _label(value: str) -> str:
    if not value.strip():
        raise ValueError("an empty label")
    if len(value) > MAX_LABEL or not value.isprintable():
        raise ValueError(f"a label is one line of at most {MAX_LABEL} printable characters")
    return value


def _together(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOGETHER
    if not is_count and value != "auto":
        raise ValueError(f"expected auto, or a number of trials from 1 to {MAX_TOGETHER}")
    return value


Together = Annotated[int | Literal["auto"], BeforeValidator(_together)]
Label = Annotated[str, AfterValidator(_label)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Reference = Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE)]


class SourceSpec(Frozen):
    """Where rows come from. In a study file either a string (alias, hub id or path), a list of files, or these keys."""

    source: str = Field(
        min_length=1,
        max_length=MAX_REFERENCE,
        description="alias, hub id (org/name), path of a file, pattern of files (`rows/*.jsonl`), or a list of files",
    )
    more: tuple[Reference, ...] = Field(
        (), description="further files, whose rows follow: what a list names after its first"
    )
    rename: dict[str, str] = Field(
        default_factory=dict,
        description="column of this source -> the name that it is read by, where splits name their columns differently",
    )
    split: str | None = Field(None, description="split to read; the role's own name where unset")
    config: str | None = Field(None, description="configuration of a hub dataset, e.g. '3.0.0'")
    revision: str | None = Field(None, description="commit or tag of a hub dataset")

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        value = {"source": value} if isinstance(value, (str, list, tuple)) else value
        files = value.get("source") if isinstance(value, Mapping) else None
        if not isinstance(files, (list, tuple)):
            return value
        if not files:
            raise ValueError("an empty list of files")
        return {**value, "source": files[0], "more": files[1:]}

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all that is named, in order."""
        return (self.source, *self.more)


class DataSpec(Frozen):
    """The rows of a study. A missing `test` or `validation` is cut from `train`, stratified."""

    train: SourceSpec = Field(description="training rows")
    validation: SourceSpec | None = Field(None, description="rows to choose a checkpoint on; null: cut from train")
    test: SourceSpec | None = Field(None, description="rows scored once, at the end; null: cut from train")

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {"train": value}
        if not isinstance(value, str):
            return value
        # An alias or a hub id holds splits of its own; a file, or a pattern of files, does not.
        is_file = is_data_file(value) or "*" in value
        return {"train": value} if is_file else {"train": value, "test": value}

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all that is named for any split, in order."""
        parts = (part for part in (self.train, self.validation, self.test) if part is not None)
        return tuple(dict.fromkeys(reference for part in parts for reference in part.references))


class TaskSpec(Frozen):
    """How an example becomes model input and how output becomes a score.

    Keys beyond `name` and `data` belong to the task named and are checked by it (`text`, `label`, …).
    """

    name: str = Field("classification", description="the task's name")
    data: DataSpec = Field(description="where the rows come from")
    options: dict[str, Any] = Field(default_factory=dict, description="the task's options")

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return _own_keys_to_options(value, {"name", "data", "options"})


class ModelSpec(Frozen):
    """The base model. In a study file either a string or these keys."""

    source: Reference = Field(description="alias, hub id (org/name) or folder")
    revision: str | None = Field(None, description="commit or tag of a hub model")
    random_weights: bool = Field(False, description="build the architecture alone; quality then means nothing")

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value


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
    per_seed: bool = Field(
        False,
        description="a search of its own for every final seed, each with half the trials and seed `seed` + the final "
        "one, so that a verdict is of methods with their searches, not of what one search found",
    )
    prune: Prune = Field(
        "none", description="halving: few steps for all trials of an arm, twice as many for the better half, and so on"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"trials": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpec:
        if self.grow and self.prune != "none":
            raise ValueError(
                f"grow and prune: {self.prune} cannot be combined: too few trials of a pruned search get the whole "
                "share of steps to say that a best rate lies at an edge. Choose one of the two"
            )
        if self.per_seed and (self.grow or self.trials < 2):
            raise ValueError(
                "grow and per_seed cannot be combined: half of the trials are too few to say that a best rate lies at "
                "an edge. Choose one of the two"
                if self.grow
                else "per_seed halves the trials of a search: give it two at least"
            )
        return self

    def of_seed(self, seed: int) -> SearchSpec:
        """Returns the search of one final seed, where every one has its own: half the trials, under its own seed."""
        return self.model_copy(
            update={"per_seed": False, "trials": math.ceil(self.trials / 2), "seed": self.seed + seed}
        )


class Candidates(Frozen):
    """The values of one option that a search may choose: a list, or a range with both ends included.

    In a study file `{search: [4, 8, 16]}` or `{search: {low: 4, high: 64, log: true}}` in the place of a value. A
    range between whole numbers gives whole numbers.
    """

    choices: tuple[Any, ...] | None = Field(None, description="values to choose from")
    low: int | float | None = None
    high: int | float | None = None
    log: bool = Field(False, description="whether a range is searched on a logarithmic scale; rates always are")

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return {"choices": value}
        if not isinstance(value, Mapping):
            raise ValueError("expected a list of values or a range with low and high")
        if any(isinstance(value.get(end), bool) for end in ("low", "high")):
            raise ValueError("the ends of a range are numbers, not true or false")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Candidates:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("a list of values has no low, high or log")
            if len({repr(choice) for choice in self.choices}) < max(2, len(self.choices)):
                raise ValueError("a search needs two or more values, no two alike")
        elif self.low is None or self.high is None:
            raise ValueError("a range needs low and high")
        elif not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        elif self.log and self.low <= 0:
            raise ValueError("a range on a logarithmic scale begins above 0")
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


class ExecutionSpec(Frozen):
    """How trials are run. In a study file either these keys or the engine.

    Changes no result, so it is no part of a trial's identity; but for the engine, whose dropout masks differ.
    """

    engine: Engine = Field(
        "fast",
        description="`fast`, or `plain`: nothing that is done for speed alone; part of the id of a trial that trains",
    )

    timeout_seconds: float | None = Field(None, gt=0, description="a trial running longer is over budget")
    checkpoint_minutes: float | None = Field(
        5.0,
        gt=0,
        description="minutes between two checkpoints of a training, from which a trial that was interrupted continues; "
        "null: none, so that it begins anew",
    )
    retry_out_of_memory: bool = Field(
        False,
        description="a trial that runs out of memory is run once more with half the micro-batch, and the same "
        "effective batch; see [memory that runs out](protocol.md#memory-that-runs-out)",
    )
    keep_weights: bool = Field(True, description="keep trained weights for export and predict")
    latency_examples: int = Field(
        24,
        ge=0,
        description="single examples timed for inference latency, as far as a small share of the trial goes; 0: none",
    )
    latency_seeds: int = Field(
        3,
        ge=1,
        description="final trials of an arm that time the trained model (latency, and speed in batches): those of the "
        "study's first seeds",
    )
    together: Together = Field(
        "auto",
        description="trials of one arm that train at once in one process over one frozen base model, at most; auto: "
        f"{AUTO_TOGETHER} on a GPU, 1 on a CPU; see [trials together](protocol.md#trials-together)",
    )
    release_memory: bool = Field(
        False,
        description="on the CPU, give large freed blocks back to the system at once; see "
        "[memory](protocol.md#memory-on-a-cpu)",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_engine(cls, value: Any) -> Any:
        return {"engine": value} if isinstance(value, str) else value


class ExecutorSpec(Frozen):
    """Where the trials run. In a study file either an executor's name or these keys.

    Changes no result, so it is no part of a trial's identity.

    Keys beyond `name` belong to the executor named and are checked by it.
    """

    name: str = "local"
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_name_or_flat(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else _own_keys_to_options(value, {"name", "options"})


class MethodSpec(Frozen):
    """One arm of the study: a method and its options.

    Keys beyond these belong to the method named and are checked by it (`r`, `alpha`, …). A value written as
    `{search: …}` goes to `search`.
    """

    method: str
    learning_rate: float | None = Field(None, gt=0, description="where the rate is searched: the first one tried")
    devices: int | None = Field(None, ge=1, description="devices of each of its trials; unset: the study's")
    shard: bool | None = Field(None, description="spread weights over the devices; unset: as the study says")
    options: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Candidates] = Field(
        default_factory=dict, description="option or `learning_rate` -> the values that the search may choose"
    )

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return _own_keys_to_options(_candidates_to_search(value), set(cls.model_fields))

    @field_validator("method")
    @classmethod
    def _one_spelling(cls, method: str) -> str:
        """Spells variants in small letters: `peft:VERA` is `peft:vera`, one method and one trial."""
        family, colon, variant = method.partition(":")
        return f"{family}:{variant.lower()}" if colon else method


class PricesSpec(Frozen):
    """What an hour of each device costs, by the user's own bill or offer: the program knows no price."""

    currency: str = Field(min_length=1, max_length=16, description="a word for the money, shown beside amounts: `EUR`")
    device_hour: dict[Label, float] = Field(
        min_length=1,
        description="device -> price of one hour: the name of a GPU or processor as records tell it, or `cuda` or "
        "`cpu` for any other one. Of a GPU for each that a trial uses, of a processor for the whole machine, which "
        "trials that run side by side (`executor.trials_per_device`) share evenly",
    )
    note: str = Field("", max_length=200, description="where the prices come from, shown beside amounts")

    @field_validator("currency")
    @classmethod
    def _word(cls, value: str) -> str:
        if value.split() != [value]:
            raise ValueError(f"a word without spaces, not {value!r}")
        return value

    @field_validator("device_hour")
    @classmethod
    def _prices(cls, value: dict[str, float]) -> dict[str, float]:
        wrong = [name for name, price in value.items() if not 0 <= price <= 1e9]
        if wrong:
            raise ValueError(f"the price of {wrong[0]!r} is {value[wrong[0]]:g}: a price is a number from 0 to 1e9")
        names = [name.casefold() for name in value]
        if len(set(names)) < len(names):
            raise ValueError("names of devices that differ in capital letters alone are one device")
        return value


class PublishedSpec(Frozen):
    """Figures somebody published for the same comparison, shown beside ours."""

    citation: str
    figures: dict[str, dict[str, float]] = Field(description="arm label -> figure with its unit in its name -> value")
    notes: tuple[str, ...] = ()


class StudySpec(Frozen):
    """A question: one base model, one task, several methods, one protocol.

    `methods` maps an arm's label to its method; an arm without `method` is the method of that name.
    """

    name: str = Field("study", max_length=MAX_LABEL, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    model: ModelSpec
    task: TaskSpec
    protocol: Protocol = Field(default_factory=lambda: Protocol())
    execution: ExecutionSpec = Field(default_factory=lambda: ExecutionSpec())
    executor: ExecutorSpec = Field(
        default_factory=lambda: ExecutorSpec(), description="where the trials run; `tuneoff list executors`"
    )
    devices: int = Field(1, ge=1, description="devices that each trial runs on, one process each")
    shard: bool = Field(False, description="spread weights, gradients and optimizer over the devices (FSDP)")
    trackers: tuple[str, ...] = Field(
        (), description="outlets that follow the study, e.g. tensorboard; none by default"
    )
    margin: float | None = Field(
        None,
        gt=0,
        description="by how much of the primary metric, in its unit, an arm may be worse than the best and count as as "
        "good: the report says of which arms that is shown; no part of what is trained",
    )
    prices: PricesSpec | None = Field(
        None,
        description="what devices cost, as keys or as the name of a file with these keys: then the report and "
        "`recommend` tell money; no part of what is trained",
    )
    methods: dict[Label, MethodSpec] = Field(min_length=1)
    published: PublishedSpec | None = None

    @field_validator("methods", mode="before")
    @classmethod
    def _arms(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [value]
        if isinstance(value, (list, tuple)):
            arms: dict[str, Any] = {}
            for item in value:
                entries = item.items() if isinstance(item, Mapping) else [(str(item), {})]
                for label, body in entries:
                    if label in arms:
                        raise ValueError(f"{label!r} stands twice; give one arm a label of its own")
                    arms[label] = body
            value = arms
        if not isinstance(value, Mapping):
            return value
        return {
            label: {"method": label, **(body or {})} if isinstance(body, Mapping | None) else body
            for label, body in value.items()
        }


class Suggestion(Frozen):
    """Where a search trial's configuration comes from, so that a search goes on, and is read, as it was begun."""

    rules: str = Field(description="sampler, version of its library, and number of tuneoff's rules")
    space: dict[str, dict[str, Any]] = Field(
        description="option or `learning_rate` -> `choices`, or `low`, `high` and `log`; and what is tried `first`"
    )


class TrialSpec(Frozen):
    """One method × one configuration × one seed, complete: defaults filled in, nothing left to guess."""

    id: str = Field(
        description="`ARM-sSEED-HASH`, of a search `ARM-search-sSEED-HASH`; the hash covers model, task, "
        "protocol, method, options, learning rate, seed and the fingerprints of local files"
    )
    study: str = Field(description="name of the study")
    label: str = Field(description="the arm of the study")
    purpose: Purpose = Field("final", description="a search trial scores validation alone, to choose a configuration")
    method: str = Field(description="the method's name")
    options: dict[str, Any] = Field(description="the method's options, defaults filled in")
    learning_rate: float | None = Field(description="null for a method that does not train")
    seed: int = Field(description="decides the head's start, the order of examples and dropout")
    model: ModelSpec = Field(description="the base model")
    task: TaskSpec = Field(description="task and data, the task's options filled in")
    protocol: Protocol = Field(description="with `seeds` reduced to this trial's own, and without `search` and `race`")
    devices: int = Field(1, ge=1, description="devices it runs on, one process each; more than one is part of the id")
    shard: bool = Field(False, description="whether weights are spread over the devices; true is part of the id")
    execution: ExecutionSpec = Field(
        default_factory=lambda: ExecutionSpec(), description="how it is run; no part of the id"
    )
    halved_batches: bool = Field(
        False,
        description="whether it is run with half the micro-batch (twice the `gradient_accumulation_steps`) and half "
        "the `evaluation_batch_size`, because it ran out of memory before (`execution.retry_out_of_memory`); no part "
        "of the id",
    )
    times_inference: bool = Field(
        True,
        description="whether the trained model is timed after the test: at the study's first seeds "
        "(`execution.latency_seeds`); no part of the id",
    )
    fingerprints: dict[str, str] | None = Field(
        None,
        description="source as the study names it -> SHA-256 of what it held when the trial was planned, part of "
        "the id; null where the id is of another making: imported, or of a record of version 1",
    )
    suggestion: Suggestion | None = Field(
        None, description="of a search trial: what suggested it and from which space; no part of the id"
    )
    contents: dict[str, str] = Field(
        default_factory=dict,
        description="split -> fingerprint of its rows, `model` -> its commit at the hub, `train commit`, "
        "`validation commit`, `test commit` -> those of data sets there, as the run saw them before "
        "its first trial. The trial reads at these commits, and checks that it loaded the same. No "
        "part of the id",
    )

    def as_run(self) -> TrialSpec:
        """Returns the trial with the batches that it is run with: halved where `halved_batches` says so."""
        if not self.halved_batches:
            return self
        protocol = self.protocol
        halved = {
            "gradient_accumulation_steps": min(2 * protocol.gradient_accumulation_steps, protocol.batch_size),
            "evaluation_batch_size": max(1, protocol.evaluation_batch_size // 2),
        }
        return self.model_copy(update={"protocol": protocol.model_copy(update=halved)})
