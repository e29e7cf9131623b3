"""What is counted without memory is what real tensors take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from trial_helpers import make_study, news, save_folder, save_writer, write_csv
from tuneoff import registry
from tuneoff.config.execution import ExecutionSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.interfaces import Batch, Features, Method, Task
from tuneoff.planning.plan import plan
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.trial.estimate.fake_model import FakeModel
from tuneoff.trial.estimate.process import EstimateFailed, FakeModelProcess
from tuneoff.trial.estimate.step_cost import MemoryTracker, Setup
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.activation_checkpointing import checkpoint_activations
from tuneoff.trial.modeling.frozen_bf16 import keep_frozen_in_bf16
from tuneoff.trial.modeling.precision import PolicyName, apply_policy
from tuneoff.trial.training.dropout import choose_masks
from tuneoff.trial.training.scored_position import compute_first_position

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

TRAINED = [name for name in registry.methods() if registry.methods()[name].trains]
CLASSIFIERS, WRITERS = ("bert", "gpt2"), ("gpt2", "t5", "llama")
UNFIT = {("prefix_tuning", "bert"), ("bitfit", "t5"), ("bitfit", "llama")}
CPU = torch.device("cpu")


def classes(lengths: tuple[int, ...] = (5, 17, 30, 22)) -> list[Features]:
    return [Features(list(range(105, 105 + n)), i % 2, n) for i, n in enumerate(lengths)]


def texts() -> list[Features]:
    return [
        Features(list(range(5, 5 + n)), 0, n, target_ids=list(range(40, 40 + t)))
        for n, t in ((5, 3), (17, 9), (30, 2), (22, 7))
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model folder of each architecture and kind of task, large enough that activations matter."""
    made = {
        name: save_folder(tmp_path_factory.mktemp("models") / name, name, ["sport", "trade"]) for name in CLASSIFIERS
    }
    for name in WRITERS:
        made[f"{name}-writer"] = save_writer(tmp_path_factory.mktemp("models") / f"{name}-writer", name)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "news.csv", news(24))


def trial_of(
    folder: Path, data: Path, method: str, options: dict[str, Any] | None = None, **protocol: Any
) -> TrialSpec:
    settings = {"seeds": 1, "batch_size": 8, "max_length": 32, "precision": "fp32", **protocol}
    (spec,) = plan(make_study(folder, data, {method: options or {}}, protocol=settings))
    return spec


def real_step(spec: TrialSpec, task: Task, batch: Batch, loss_terms: int, setup: Setup) -> tuple[MemoryTracker, int]:
    """The ledger of the same step on real tensors, and the bytes of gradients."""
    method = registry.methods()[spec.method].create(spec.options)
    assert isinstance(method, Method)
    loaded = trial_model.load(spec.model, task, seed=0, dropout=spec.protocol.dropout, attention=setup.attention)
    attached = method.attach(loaded.model, trial_model.view(task, loaded))
    masks = choose_masks(spec, CPU)
    if task.produces == "class":
        compute_first_position(attached.model)
    assert masks is not None
    if setup.policy == "bf16":
        keep_frozen_in_bf16(attached)
    if spec.protocol.gradient_checkpointing:
        checkpoint_activations(attached.model, masks.replay)
    attached.module.train()
    trained = [p for group in method.parameter_groups(attached, 0.0) for p in group["params"]]
    autocast = apply_policy(setup.policy, CPU).autocast
    states = [*attached.module.parameters(), *attached.module.buffers(), *batch.values()]
    with masks.drawing(0, 0), MemoryTracker(states) as ledger:
        with autocast():
            logits = task.forward(attached, batch)
        (task.loss(logits, batch) / loss_terms).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, spec.protocol.clip_norm or math.inf)
    return ledger, sum(p.numel() * p.element_size() for p in trained)


def compared(spec: TrialSpec, task: Task, rows: list[Features], setup: Setup) -> tuple[float, float]:
    """Counted and real: bytes above gradients, with the operations checked to be the same."""
    twin = FakeModel(spec, task, setup)
    batch, loss_terms = task.collate(rows, 0), task.loss_terms(rows)
    step = twin.step(batch, loss_terms)
    ledger, gradients = real_step(spec, task, batch, loss_terms, setup)
    # The kernel for weights in four bits is one call; what it computes is seen in the backward pass alone.
    assert step.operations == ledger.operations > 0 or (step.operations > ledger.operations and spec.method == "qlora")
    return step.activations, max(0, ledger.peak - gradients)


# --- the ledger


def test_operations_are_those_that_pytorch_counts() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.ones(2, 5, 8)
    with FlopCounterMode(display=False) as counter, MemoryTracker([]) as ledger:
        attention(x, x, x)[0].sum().backward()
    assert ledger.operations == counter.get_total_flops() > 0


def test_a_ledger_counts_each_storage_once_and_as_long_as_it_lives() -> None:
    x = torch.ones(1000)
    with MemoryTracker([x]) as ledger:
        y = x * 2
        view = y[:10]
        assert ledger.live == 4000
        y.add_(1)
        assert ledger.live == 4000
        z = y + x
        assert ledger.live == ledger.peak == 8000
        del y, z
        # The view keeps its storage.
        assert ledger.live == 4000
        del view
    assert ledger.live == 0
    assert ledger.peak == 8000


def test_a_ledger_knows_what_the_backward_pass_keeps() -> None:
    layer = nn.Linear(100, 100, bias=False)
    x = torch.ones(50, 100)
    with MemoryTracker([layer.weight, x]) as ledger:
        made = layer(x).sigmoid()
        # The sigmoid keeps its result and not what it was given.
        assert ledger.live == 50 * 100 * 4
        made.sum().backward()
    assert layer.weight.grad is not None
    assert ledger.operations == 2 * 2 * 50 * 100 * 100


def test_a_table_is_read_at_the_rows_that_are_looked_up() -> None:
    table, rows = torch.ones(1000, 10), torch.tensor([1, 2, 3])
    with MemoryTracker([table, rows]) as ledger:
        nn.functional.embedding(rows, table)
    # Read and written, and the numbers of the rows.
    assert ledger.traffic == 2 * 3 * 10 * 4 + 3 * 8


def test_a_gpu_gives_memory_in_blocks() -> None:
    with MemoryTracker([], granule=512) as ledger:
        kept = [torch.zeros(1), torch.zeros(129)]
        assert ledger.live == 512 + 1024
    assert len(kept) == 2


# --- the same as real tensors


@pytest.mark.parametrize("architecture", CLASSIFIERS)
@pytest.mark.parametrize("method", TRAINED)
def test_a_step_of_every_method_takes_what_real_tensors_take(
    method: str, architecture: str, folders: dict[str, Path], data: Path
) -> None:
    if (method, architecture) in UNFIT:
        pytest.skip("the method does not take this model")
    spec = trial_of(folders[architecture], data, method)
    counted, real = compared(spec, Classification({"labels": ["sport", "trade"]}), classes(), Setup("fp32", "eager"))
    # A layer in four bits unpacks its weight inside one kernel, where no ledger sees it.
    assert counted == pytest.approx(real, rel=0.1 if method == "qlora" else 0.01)


@pytest.mark.parametrize("architecture", WRITERS)
@pytest.mark.parametrize("method", [name for name in TRAINED if name not in {"head", "qlora"}])
def test_so_does_one_that_writes(method: str, architecture: str, folders: dict[str, Path], data: Path) -> None:
    if (method, architecture) in UNFIT:
        pytest.skip("the method does not take this model")
    spec = trial_of(folders[f"{architecture}-writer"], data, method)
    counted, real = compared(spec, Generation({}), texts(), Setup("fp32", "sdpa"))
    assert counted == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize(
    "setup",
    [Setup("bf16", "eager"), Setup("bf16", "sdpa"), Setup("fp32", "sdpa")],
    ids=lambda s: f"{s.policy}-{s.attention}",
)
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_precision_attention_padding_and_dropout_are_those_of_the_trial(
    setup: Setup, padded: bool, dropout: float, folders: dict[str, Path], data: Path
) -> None:
    spec = trial_of(folders["bert"], data, "lora", dropout=dropout)
    rows = classes() if padded else classes((30, 30, 30, 30))
    counted, real = compared(spec, Classification({"labels": ["sport", "trade"]}), rows, setup)
    assert counted == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("policy", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["full", "lora", "prefix_tuning", "last_block"])
def test_activations_that_are_computed_again_are_counted_so(
    method: str, policy: PolicyName, folders: dict[str, Path], data: Path
) -> None:
    folder, setup = folders["gpt2-writer"], Setup(policy, "sdpa")
    spec = trial_of(folder, data, method, dropout=0.1, gradient_checkpointing=True)
    counted, real = compared(spec, Generation({}), texts(), setup)
    assert counted == pytest.approx(real, rel=0.01)
    kept = FakeModel(trial_of(folder, data, method, dropout=0.1), Generation({}), setup).states
    assert FakeModel(spec, Generation({}), setup).states == kept


@pytest.mark.parametrize("gpu", [False, True])
def test_gradient_checkpointing_takes_less_memory_and_one_more_forward_pass(
    gpu: bool, folders: dict[str, Path], data: Path
) -> None:
    task, setup = Classification({"labels": ["sport", "trade"]}), Setup("bf16", "sdpa", gpu)
    batch = task.collate(classes((30, 30, 30, 30) * 8), 0)
    # The fast engine computes next to nothing in one of the two blocks.
    execution = ExecutionSpec(engine="plain")
    specs = [trial_of(folders["bert"], data, "lora", dropout=0.1, gradient_checkpointing=on) for on in (False, True)]
    twins = [FakeModel(spec.model_copy(update={"execution": execution}), task, setup) for spec in specs]
    plain, again = (twin.step(batch, 32) for twin in twins)
    assert again.activations < 0.8 * plain.activations
    forward = twins[0].evaluation(batch)
    assert plain.operations < again.operations <= plain.operations + forward.operations
    assert twins[1].evaluation(batch) == forward


def test_likelihood_and_options_of_methods_are_counted(folders: dict[str, Path], data: Path) -> None:
    likely = Classification({"labels": ["sport", "trade"], "scoring": "likelihood"})
    folder = folders["gpt2-writer"]
    spec = trial_of(folder, data, "lora", {"dora": True, "targets": "attention"})
    tokenizer = trial_model.load_tokenizer(spec.model, likely)
    from tuneoff.interfaces import Example

    rows = likely.encode([Example(f"word {i}", "sport", i, "row") for i in range(4)], tokenizer, 32)
    counted, real = compared(spec, likely, rows, Setup("fp32", "sdpa"))
    assert counted == pytest.approx(real, rel=0.01)
    for method, options in (("p_tuning", {"type": "lstm"}), ("prefix_tuning", {"projection": True})):
        spec = trial_of(folder, data, method, options)
        counted, real = compared(spec, Generation({}), texts(), Setup("fp32", "eager"))
        # The kernel of an LSTM keeps a workspace of its own.
        assert counted == pytest.approx(real, rel=0.2 if "type" in options else 0.01)


# --- model states


def test_states_are_the_bytes_of_the_real_model(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    for method in ("full", "lora", "head"):
        spec = trial_of(folders["bert"], data, method)
        states = FakeModel(spec, task, Setup("fp32", "eager")).states
        chosen = registry.methods()[method].create(spec.options)
        assert isinstance(chosen, Method)
        loaded = trial_model.load(spec.model, task, seed=0, dropout=None, attention="eager")
        module = chosen.attach(loaded.model, trial_model.view(task, loaded)).module
        tensors = [*module.parameters(), *module.buffers()]
        assert states.weights == sum(t.numel() * t.element_size() for t in tensors)
        assert states.gradients == sum(4 * p.numel() for p in module.parameters() if p.requires_grad)
        assert states.optimizer == 2 * states.gradients


@pytest.mark.parametrize("method", ["full", "lora", "last_block"])
def test_so_are_they_where_frozen_weights_are_narrow(method: str, folders: dict[str, Path], data: Path) -> None:
    spec = trial_of(folders["gpt2-writer"], data, method)
    states = FakeModel(spec, Generation({}), Setup("bf16", "eager")).states
    wide = FakeModel(spec, Generation({}), Setup("fp32", "eager")).states
    chosen = registry.methods()[method].create(spec.options)
    assert isinstance(chosen, Method)
    loaded = trial_model.load(spec.model, Generation({}), seed=0, dropout=None, attention="eager")
    attached = chosen.attach(loaded.model, trial_model.view(Generation({}), loaded))
    keep_frozen_in_bf16(attached)
    module = attached.module
    assert states.weights == sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
    assert states.parameters == wide.parameters == sum(p.numel() for p in module.parameters())
    assert (states.gradients, states.optimizer) == (wide.gradients, wide.optimizer)
    assert (states.weights < wide.weights) == (method != "full")


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_an_evaluation_is_counted_with_its_own_attention(
    kernel: Literal["eager", "sdpa"], folders: dict[str, Path], data: Path
) -> None:
    task, spec = Generation({}), trial_of(folders["gpt2-writer"], data, "lora")
    batch = task.collate(texts(), 0)
    counted = FakeModel(spec, task, Setup("fp32", "eager", evaluation=kernel)).evaluation(batch)
    assert counted == FakeModel(spec, task, Setup("fp32", kernel)).evaluation(batch)
    other = FakeModel(spec, task, Setup("fp32", "sdpa" if kernel == "eager" else "eager")).evaluation(batch)
    assert counted.activations != other.activations


def test_tied_weights_count_once(folders: dict[str, Path], data: Path) -> None:
    spec = trial_of(folders["gpt2-writer"], data, "full")
    states = FakeModel(spec, Generation({}), Setup("fp32", "eager")).states
    loaded = trial_model.load(spec.model, Generation({}), seed=0, dropout=None, attention="eager")
    assert states.gradients == sum(4 * p.numel() for p in loaded.model.parameters())


def test_weights_in_four_bits_take_an_eighth(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    setup = Setup("fp32", "eager")
    spec = trial_of(folders["bert"], data, "qlora")
    packed = FakeModel(spec, task, setup).states
    method = registry.methods()["qlora"].create(spec.options)
    assert isinstance(method, Method)
    loaded = trial_model.load(spec.model, task, seed=0, dropout=None, attention="eager")
    module = method.attach(loaded.model, trial_model.view(task, loaded)).module
    real = sum(t.numel() * t.element_size() for t in [*module.parameters(), *module.buffers()])
    for state in (p.quant_state for p in module.parameters() if hasattr(p, "quant_state")):
        real += sum(t.numel() * t.element_size() for t in (state.absmax, state.state2.absmax))
    assert packed.weights == real


# --- accumulation, evaluation, GPU


def test_gradients_of_earlier_micro_batches_leave_no_room(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    twin = FakeModel(trial_of(folders["bert"], data, "full"), task, Setup("fp32", "eager"))
    batch = task.collate(classes(), 0)
    first, later = twin.step(batch, 4), twin.step(batch, 4, accumulates=True)
    assert later.activations > first.activations
    assert later.operations == first.operations


def test_an_evaluation_takes_less_than_a_step(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    twin = FakeModel(trial_of(folders["bert"], data, "full"), task, Setup("fp32", "eager"))
    batch = task.collate(classes(), 0)
    step, forward = twin.step(batch, 4), twin.evaluation(batch)
    assert 0 < forward.operations < step.operations / 2
    assert 0 < forward.activations < step.activations + twin.states.gradients


def test_a_gpu_keeps_less_of_dropout_and_attention(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    spec = trial_of(folders["bert"], data, "full", dropout=0.1)
    batch = task.collate(classes((30, 30, 30, 30) * 8), 0)
    there, here = (FakeModel(spec, task, Setup("fp32", "sdpa", gpu=gpu)).step(batch, 32) for gpu in (True, False))
    assert 0.2 * here.activations < there.activations < 0.9 * here.activations


# --- in a process of its own


def test_what_another_process_counts_is_the_same(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    spec, setup = trial_of(folders["bert"], data, "lora"), Setup("fp32", "eager")
    batch = task.collate(classes(), 0)
    twin = FakeModel(spec, task, setup)
    with FakeModelProcess() as aside:
        assert aside.build(spec, task, setup) == twin.states
        assert aside.step(batch, 4) == twin.step(batch, 4)
        assert aside.evaluation(batch) == twin.evaluation(batch)


def test_what_cannot_be_counted_says_why_and_the_process_lives_on(folders: dict[str, Path], data: Path) -> None:
    task = Classification({"labels": ["sport", "trade"]})
    good, bad = trial_of(folders["bert"], data, "lora"), trial_of(folders["bert"], data, "prefix_tuning")
    with FakeModelProcess() as aside:
        with pytest.raises(EstimateFailed, match="is an encoder"):
            aside.build(bad, task, Setup("fp32", "eager"))
        assert aside.build(good, task, Setup("fp32", "eager")).weights > 0
        with pytest.raises(EstimateFailed):
            aside.step({"nonsense": torch.zeros(1)}, 1)
        assert aside.step(task.collate(classes(), 0), 4).calls > 0


def test_a_process_that_has_ended_is_an_error_and_no_hang(folders: dict[str, Path], data: Path) -> None:
    with FakeModelProcess() as aside:
        aside._process.kill()
        aside._process.join()
        with pytest.raises(EstimateFailed, match="has ended"):
            aside.step({}, 1)
