"""What a study asks: frozen models; unknown keys are refused.

A study file is this shape in YAML. Short forms are accepted where they say the same thing: `model: minilm`,
`data: reuters-r8`, `seeds: 2`, `methods: [lora, full]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tuneoff.config.base import MAX_LABEL, Frozen, Label, own_keys_to_options
from tuneoff.config.data import ModelSpec, TaskSpec
from tuneoff.config.deployability import Form, read_forms
from tuneoff.config.execution import ExecutionSpec, ExecutorSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.retention import RetentionSpec
from tuneoff.config.search import Candidates

SPEC_VERSION = 1
Purpose = Literal["final", "search"]


def _candidates_to_search(value: Any) -> Any:
    """Moves values written as `{search: …}` into `search`."""
    if not isinstance(value, Mapping):
        return value
    candidates = {
        key: item["search"] for key, item in value.items() if isinstance(item, Mapping) and set(item) == {"search"}
    }
    if not candidates:
        return value
    if fixed := [key for key in candidates if key in MethodSpec.model_fields and key != "learning_rate"]:
        raise ValueError(f"{fixed[0]} cannot be searched: learning_rate and the method's options can")
    rest = {key: item for key, item in value.items() if key not in candidates}
    return {**rest, "search": {**dict(rest.get("search") or {}), **candidates}}


class MethodSpec(Frozen):
    """One arm of the study: a method and its options.

    Keys beyond these belong to the method named and are checked by it (`r`, `alpha`, …). A value written as
    `{search: …}` goes to `search`.
    """

    method: str
    learning_rate: float | None = Field(None, gt=0, description="where the rate is searched: the first one tried")
    devices: int | None = Field(None, ge=1, description="devices of each of its trials; unset: the study's")
    shard: bool | None = Field(None, description="spread weights over the devices; unset: as the study says")
    start_from: str | None = Field(
        None,
        min_length=1,
        description="trained weights of the same method to go on from: folder or hub id of a PEFT adapter, a trial's "
        "folder, or `STUDY_FOLDER` or `STUDY_FOLDER:ARM` of an earlier study; unset: from the start",
    )
    options: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Candidates] = Field(
        default_factory=dict, description="option or `learning_rate` -> the values that the search may choose"
    )

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return own_keys_to_options(_candidates_to_search(value), set(cls.model_fields))

    @field_validator("method")
    @classmethod
    def _one_spelling(cls, method: str) -> str:
        """Spells variants in small letters: `peft:VERA` is `peft:vera`, one method and one trial."""
        family, colon, variant = method.partition(":")
        return f"{family}:{variant.lower()}" if colon else method


class TokenPrices(Frozen):
    """What tokens of a model cost that others run."""

    input: float = Field(ge=0, le=1e9, description="price of a million tokens that it reads")
    output: float = Field(ge=0, le=1e9, description="price of a million tokens that it writes")


class PricesSpec(Frozen):
    """What an hour of each device costs, and tokens of models that others run, by the user's own bill or offer: the
    program knows no price."""

    currency: str = Field(min_length=1, max_length=16, description="a word for the money, shown beside amounts: `EUR`")
    device_hour: dict[Label, float] = Field(
        default_factory=dict,
        description="device -> price of one hour: the name of a GPU or processor as records tell it, or `cuda` or "
        "`cpu` for any other one. Of a GPU for each that a trial uses, of a processor for the whole machine, which "
        "trials that run side by side (`executor.trials_per_device`) share evenly",
    )
    million_tokens: dict[str, TokenPrices] = Field(
        default_factory=dict,
        description="model of an `endpoint` arm, as its key `model` names it -> the price of a million tokens, `input` "
        "and `output`",
    )
    note: str = Field("", max_length=200, description="where the prices come from, shown beside amounts")

    @field_validator("currency")
    @classmethod
    def _word(cls, value: str) -> str:
        if value.split() != [value]:
            raise ValueError("a word without spaces")
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

    @model_validator(mode="after")
    def _any(self) -> PricesSpec:
        if not self.device_hour and not self.million_tokens:
            raise ValueError("no price is stated: give device_hour, or million_tokens for models that others run")
        return self


class PublishedSpec(Frozen):
    """Figures somebody published for the same comparison, shown beside ours."""

    citation: str
    figures: dict[str, dict[str, float]] = Field(description="arm label -> figure with its unit in its name -> value")
    model: str | None = Field(None, description="base model that they are of; null: the study's, whichever that is")
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
    retention: RetentionSpec | None = Field(
        None,
        description="texts and tasks of the base model's own that are scored before training and after it, in the "
        "final trials: what an arm forgets (docs/retention.md)",
    )
    prices: PricesSpec | None = Field(
        None,
        description="what devices cost, as keys or as the name of a file with these keys: then the report and "
        "`recommend` tell money; no part of what is trained",
    )
    deployability: Annotated[tuple[Form, ...], BeforeValidator(read_forms)] = Field(
        (),
        description="forms in which the recommended arm's trained models are scored again in the end, or true for all "
        "([deployability.md](deployability.md)); no part of what is trained",
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


class Stopping(Frozen):
    """When a search trial is stopped, by what the earlier ones of its arm had reached."""

    metric: str = Field(description="the validation metric that the search goes by")
    direction: Literal["higher", "lower"] = Field(description="which of its values are better")
    bounds: tuple[float, ...] = Field(
        description="of each validation on the way: where the best score so far is worse, the trial is stopped"
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
    retention: RetentionSpec | None = Field(
        None, description="of a final trial that trains: what is scored before and after; part of the id unless null"
    )
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
    start_from: str | None = Field(
        None,
        description="folder of trained weights that its training starts from; the fingerprint of its files is part of "
        "the id",
    )
    fingerprints: dict[str, str] | None = Field(
        None,
        description="source as the study names it -> SHA-256 of what it held when the trial was planned, part of "
        "the id; null where the id is of another making: imported, or of a record of version 1",
    )
    suggestion: Suggestion | None = Field(
        None, description="of a search trial: what suggested it and from which space; no part of the id"
    )
    stopping: Stopping | None = Field(
        None,
        description="of a search trial under `search.stop`: when it is stopped; part of the id. Null: never",
    )
    contents: dict[str, str] = Field(
        default_factory=dict,
        description="split -> fingerprint of its rows, `model` -> its commit at the hub, `train commit`, "
        "`validation commit`, `test commit` -> those of data sets there, `held NAME` and `text commit of held NAME` "
        "(of a task `train commit of held NAME` and so on) -> those of what is held, as the run saw them before its "
        "first trial. The trial reads at these commits, and checks that it loaded the same. No part of the id",
    )

    @property
    def references(self) -> tuple[str, ...]:
        """Returns all sources of rows that are named, those of what is held included."""
        held = self.retention.references if self.retention is not None else ()
        return tuple(dict.fromkeys((*self.task.data.references, *held)))

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
