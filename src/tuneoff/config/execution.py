"""How trials are run, without a change of what they find: the parts of a study file on execution and executors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tuneoff.config.base import Frozen, own_keys_to_options

Engine = Literal["fast", "plain"]
AUTO_TOGETHER = 8
"""Trials that train together on a GPU where `execution.together` is `auto`."""
MAX_TOGETHER = 64
"""Most trials that train together."""


def _together(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TOGETHER
    if not is_count and value != "auto":
        raise ValueError(f"expected auto, or a number of trials from 1 to {MAX_TOGETHER}")
    return value


Together = Annotated[int | Literal["auto"], BeforeValidator(_together)]


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
        return {"name": value} if isinstance(value, str) else own_keys_to_options(value, {"name", "options"})
