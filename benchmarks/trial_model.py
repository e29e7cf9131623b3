"""A model as a trial on a CPU trains it, for benchmarks that take single steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tuneoff import registry
from tuneoff.interfaces import Attached, Method, Task
from tuneoff.planning.loading import parse
from tuneoff.planning.plan import plan
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import Policy, apply_policy, choose_attention
from tuneoff.trial.training.dropout import DropoutMasks, choose_masks

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Prepared:
    """What a step of a trial takes: the task, the model with its method in training mode, precision and dropout."""

    task: Task
    attached: Attached
    policy: Policy
    masks: DropoutMasks


def prepare(study: Mapping[str, Any]) -> Prepared:
    """Prepares the one trial of a study, without its rows."""
    (spec,) = plan(parse(dict(study)))
    task = registry.create_task(spec.task)
    policy = apply_policy(spec.protocol.precision, CPU)
    attention = choose_attention(spec.protocol.attention, CPU, spec.protocol.max_length, policy.name).training
    loaded = trial_model.load(spec.model, task, seed=0, dropout=spec.protocol.dropout, attention=attention)
    method = registry.methods()[spec.method].create(spec.options)
    assert isinstance(method, Method)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    keep_frozen_in_bf16(attached)
    attached.module.train()
    masks = choose_masks(spec, CPU)
    assert masks is not None
    return Prepared(task, attached, policy, masks)
