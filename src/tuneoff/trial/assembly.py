"""Makes a trial ready to train: load data -> load model -> attach -> tokenize."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuneoff.checksums import content_hash
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import AnyMethod, Attached, Example, Features, Method, StartRows, Task
from tuneoff.measure import parameters
from tuneoff.measure.parameters import BaseIdentity
from tuneoff.records.record import Finding, ModelInfo, Parameters
from tuneoff.records.start import Start
from tuneoff.trial.context import TrialContext
from tuneoff.trial.data import contents, tokens
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.lengths import check_length
from tuneoff.trial.distributed import fsdp
from tuneoff.trial.exhaustion import loading
from tuneoff.trial.modeling import head, start
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import Policy, PolicyName, apply_policy, choose_attention
from tuneoff.trial.modeling.vocabulary import check_tokens
from tuneoff.trial.randomness import seed_all
from tuneoff.trial.shared_checks import once, once_for_files
from tuneoff.trial.training import kernels, scored_position
from tuneoff.trial.training.dropout import DropoutMasks, choose_masks, name_generator
from tuneoff.trial.training.evaluate import ModelRunner
from tuneoff.trial.training.findings import note_lengths, note_references
from tuneoff.trial.training.prefix import with_prefix

START_BATCHES = 8
"""Batches of training rows from which a start is computed, where a method's is."""


@dataclass(frozen=True)
class Assembled:
    """A trial ready to train: examples, tokens, model and method.

    Attributes:
        spec, task, method: what is asked for.
        data: examples of every split.
        features: split -> its examples as tokens.
        runner: model, method, device and precision.
        counts: parameters by role.
        model: what the record says of the model.
        findings: what a reader must know of data, model and method.
        policy: name of the precision policy in force.
        before: which parameters are the pretrained model's own.
        start: the trained weights that the training starts from; None where there are none.
    """

    spec: TrialSpec
    task: Task
    method: Method[Any]
    data: trial_data.TrialData
    features: dict[str, list[Features]]
    runner: ModelRunner
    counts: Parameters
    model: ModelInfo
    findings: tuple[Finding, ...]
    policy: PolicyName
    before: BaseIdentity
    start: Start | None = None


@dataclass(frozen=True)
class PretrainedModel:
    """The base model as loaded, and the precision policy in force."""

    loaded: trial_model.Loaded
    policy: Policy


@dataclass(frozen=True)
class AttachedMethod:
    """A method attached to the base model, on the device, its parameters counted, and what draws its dropout masks."""

    attached: Attached
    counts: Parameters
    before: BaseIdentity
    masks: DropoutMasks | None


def assemble(context: TrialContext, method: Method[Any]) -> Assembled:
    """Loads and tokenizes the data, loads the model and attaches the method.

    Raises:
        TuneoffError: whatever does not fit together.
    """
    spec, task = context.spec, context.task
    with context.phases("load"), loading("the model"):
        data = load_data(context)
        base = load_base(context, method)
        attachment = attach(context, method, base, data.splits["train"])
        start_info, start_findings = start.trace(spec, task, data.splits["test"], base.loaded.info)
    with context.phases("tokenize"), loading("the rows"):
        features = tokenize(context, method, data, base)
        for split, examples in data.splits.items():
            task.check_features(attachment.attached, examples, features[split])
    runner = _make_runner(context, base, attachment)
    runner, kernel_findings = _choose_attention(context, base, runner, features["train"])
    if method.trains:
        with context.phases("preflight"):
            runner = with_prefix(context, runner, features["train"], f"{base.loaded.info.checksum} {base.policy.name}")
            if spec.execution.engine == "fast":
                runner = scored_position.compute_where_equal(
                    runner, features["train"], partial(once, context, "scored-position")
                )
    info, findings = note_lengths(data.info, features, spec.protocol.max_length, task.target_room)
    findings += note_references(task, data.splits["test"], base.loaded.tokenizer)
    method_findings = [
        Finding(name=name, message=message) for name, message in attachment.attached.extra.get("findings", ())
    ]
    all_findings = (
        *base.loaded.findings,
        *data.findings,
        *findings,
        *method_findings,
        *start_findings,
        *kernel_findings,
    )
    context.report(all_findings)
    return Assembled(
        spec=spec,
        task=task,
        method=method,
        data=trial_data.TrialData(data.splits, info, data.findings),
        features=features,
        runner=runner,
        counts=attachment.counts,
        model=base.loaded.info.model_copy(
            update={"evaluation_attention": runner.attention, "dropout_generator": name_generator(spec, runner.masks)}
        ),
        findings=all_findings,
        policy=base.policy.name,
        before=attachment.before,
        start=start_info,
    )


def load_data(context: TrialContext) -> trial_data.TrialData:
    """Loads the rows and checks that they are those that were planned.

    Raises:
        SourceError, DataError: if the rows cannot be used.
        ContentChanged: if they are others than planned.
    """
    data = trial_data.load(context.task, context.spec.task, context.spec.protocol)
    contents.verify_rows(context.spec, data.info)
    return data


def load_base(context: TrialContext, method: Method[Any]) -> PretrainedModel:
    """Puts the precision policy in force, loads the base model and checks that it is the planned one with room for what
    the method reads.

    Raises:
        SourceError, UnsupportedModel, DataError: if the model cannot be fetched or does not fit.
        ContentChanged: if it is another than planned.
    """
    spec = context.spec
    policy = apply_policy(spec.protocol.precision, context.device)
    loaded = load_model(
        spec, context.task, context.device, policy.name, partial(once_for_files, context, "weights-checksum")
    )
    contents.verify_model(spec, loaded.info)
    check_length(loaded.model, context.task, spec.protocol.max_length, method, spec.label)
    return PretrainedModel(loaded, policy)


def load_model(
    spec: TrialSpec,
    task: Task,
    device: torch.device,
    policy: PolicyName,
    ask: trial_model.Ask = trial_model.compute_anew,
) -> trial_model.Loaded:
    """Loads the base model as the trial's protocol wants it on this device; `ask` as for `trial_model.load`."""
    protocol = spec.protocol
    attention = choose_attention(protocol.attention, device, protocol.max_length, policy)
    return trial_model.load(
        spec.model,
        task,
        seed=spec.seed,
        dropout=protocol.dropout,
        attention=attention.training,
        evaluation=attention.evaluation,
        ask=ask,
    )


def attach(
    context: TrialContext, method: Method[Any], base: PretrainedModel, train: Sequence[Example]
) -> AttachedMethod:
    """Attaches the method to the base model, moves both to the device and counts the parameters. Where it starts from
    training rows or trained weights, it does so from these.

    Raises:
        UnsupportedModel: if the method does not fit the model.
    """
    spec, sharded, model = context.spec, context.ranks.sharded, base.loaded.model
    view = trial_model.view(context.task, base.loaded)
    base_identity = BaseIdentity.of(model, view)
    head_values = head.values(model, view) if method.trains else {}
    seed_all(spec.seed)
    attached = method.attach(model, view)
    head.check(attached, head_values, spec.label)
    if spec.start_from is not None:
        start.load(spec, method, attached)
    elif method.starts_from_rows:
        refuse_several_devices(spec, method)
        _initialise(context, method, attached, base, train)
    masks = choose_masks(spec, context.device, context.ranks.rank)
    if base.policy.name == "bf16" and not sharded:
        keep_frozen_in_bf16(attached)
    if spec.protocol.gradient_checkpointing:
        checkpoint_activations(attached.model, masks.replay if masks is not None else nullcontext)
    if not sharded:
        attached.module.to(context.device)
    counts = parameters.count(attached.module, base_identity)
    if sharded:
        fsdp.shard(attached, context.device, context.ranks)
    return AttachedMethod(attached, counts, base_identity, masks)


def refuse_several_devices(spec: TrialSpec, method: Method[Any]) -> None:
    """Checks that a start which is computed from training rows is so on one device: those of several could differ.

    Raises:
        UnsupportedModel: if the trial has several.
    """
    if method.starts_from_rows and spec.start_from is None and spec.devices > 1:
        raise UnsupportedModel(
            f"{spec.label} computes its start from rows, which is done on one device", hint="Set its devices to 1."
        )


def _initialise(
    context: TrialContext, method: Method[Any], attached: Attached, base: PretrainedModel, train: Sequence[Example]
) -> None:
    """Computes a method's start from a few training rows, the same for every arm at a seed; counts as training.

    Raises:
        UnsupportedModel: if the method has no such start.
    """
    spec, task, device = context.spec, context.task, context.device
    protocol = spec.as_run().protocol
    size = math.ceil(protocol.batch_size / protocol.gradient_accumulation_steps)
    count = min(START_BATCHES * size, len(train))
    rows = [train[int(i)] for i in np.random.default_rng([spec.seed, 2]).choice(len(train), size=count, replace=False)]
    attached.module.to(device)
    features = task.encode(rows, base.loaded.tokenizer, protocol.max_length)
    with context.phases.clock("start"), _resting(attached.module):
        parts = [features[at : at + size] for at in range(0, count, size)]
        batches = [
            {name: tensor.to(device) for name, tensor in task.collate(part, base.loaded.pad_token_id).items()}
            for part in parts
        ]
        terms = {id(batch): task.loss_terms(part) for batch, part in zip(batches, parts, strict=True)}
        view = StartRows(
            batches,
            attached.module,
            lambda batch: task.forward(attached, batch),
            lambda batch: task.loss(task.forward(attached, batch), batch) / terms[id(batch)],
        )
        method.initialise(attached, view)


@contextmanager
def _resting(module: torch.nn.Module) -> Iterator[None]:
    """Puts a module into evaluation, without dropout, while open."""
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)


def tokenize(
    context: TrialContext, method: Method[Any], data: trial_data.TrialData, base: PretrainedModel
) -> dict[str, list[Features]]:
    """Encodes the examples of every split, with the solved examples that the method shows.

    Without such examples, they are the same for all trials of a run on the same rows: its first trial encodes them. The
    seconds that this took there count in every trial.

    Raises:
        DataError, UnsupportedModel: if they cannot be encoded for the task or the model.
    """
    spec, task, loaded = context.spec, context.task, base.loaded
    solved_examples = demonstrations(method, data.splits["train"], spec.seed)

    def encode() -> dict[str, list[Features]]:
        return {
            split: task.encode(rows, loaded.tokenizer, spec.protocol.max_length, solved_examples)
            for split, rows in data.splits.items()
        }

    features, earlier_seconds = tokens.shared(None if solved_examples else _tokens_file(context, data, base), encode)
    context.phases.watch.add_found("tokenize", earlier_seconds)
    check_tokens(chain(*features.values()), loaded.tokenizer, loaded.model.config, spec.model.source)
    return features


def _tokens_file(context: TrialContext, data: trial_data.TrialData, base: PretrainedModel) -> Path | None:
    """Returns where the trials of a run share tokens; None where this one shares nothing."""
    spec, info = context.spec, base.loaded.info
    if context.scratch is None or spec.execution.engine == "plain":
        return None
    key = {
        "task": spec.task.model_dump(mode="json"),
        "rows": {split: split_info.fingerprint for split, split_info in data.info.splits.items()},
        "model": [spec.model.model_dump(mode="json"), info.checksum, info.commit],
        "max_length": spec.protocol.max_length,
    }
    return context.scratch / "tokens" / f"{content_hash(key)}.npz"


def demonstrations(method: AnyMethod[Any], train: Sequence[Example], seed: int) -> list[Example]:
    """Draws the solved examples that a method shows from the training rows, by the trial's seed."""
    count = min(method.demonstrations, len(train))
    return [train[int(i)] for i in np.random.default_rng([seed, 1]).choice(len(train), size=count, replace=False)]


def _make_runner(context: TrialContext, base: PretrainedModel, attachment: AttachedMethod) -> ModelRunner:
    return ModelRunner(
        context.task,
        attachment.attached,
        context.device,
        base.policy.autocast,
        base.loaded.pad_token_id,
        context.spec.protocol.evaluation_batch_size,
        base.loaded.tokenizer,
        context.ranks,
        attention=base.loaded.info.evaluation_attention,
        masks=attachment.masks,
    )


def _choose_attention(
    context: TrialContext, base: PretrainedModel, runner: ModelRunner, features: Sequence[Features]
) -> tuple[ModelRunner, tuple[Finding, ...]]:
    """Returns a runner whose evaluations compute the same as training does, and a finding where they did not."""
    training = base.loaded.info.attention
    if runner.attention == training:
        return runner, ()
    with context.phases("preflight"):
        return kernels.choose_attention(runner, features, training, partial(once, context, "kernels"))
