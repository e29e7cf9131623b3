"""What a task adds to a model starts from the seed and is trained, counted and kept alike by every method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.errors import UnsupportedModel
from tuneoff.interfaces import Attached, Method
from tuneoff.measure.parameters import BaseIdentity, count, running
from tuneoff.tasks.classification import Classification
from tuneoff.testing.models import pretraining_model, random_model, shape
from tuneoff.testing.settings import LABELS, SIZES, Setting, features, logits, step
from tuneoff.trial.modeling import head as trial_head
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.load import Loaded
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

TASK = Classification({"labels": LABELS})
HEADS = {
    "bert": ("bert.pooler", "classifier"),
    "albert": ("albert.pooler", "classifier"),
    "roberta": ("classifier",),
    "distilbert": ("pre_classifier", "classifier"),
    "deberta-v2": ("pooler", "classifier"),
    "electra": ("classifier",),
    "mpnet": ("classifier",),
    # Its layer before the classifier comes pretrained.
    "modernbert": ("classifier",),
    "xlnet": ("sequence_summary", "logits_proj"),
    "gpt2": ("score",),
    "opt": ("score",),
    "t5": ("classification_head",),
    "bart": ("classification_head",),
}
"""What is fresh in a classifier that is loaded from a pretrained model's files."""
TRAINABLE = [name for name in registry.methods() if registry.methods()[name].trains]

Pretrained = Callable[[str], Path]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """A folder as pretraining leaves it: the transformer with its output layer over the vocabulary, and no head."""
    root = tmp_path_factory.mktemp("pretrained")

    def get(architecture: str) -> Path:
        folder = root / architecture
        if not folder.is_dir():
            config = AutoConfig.for_model(architecture, **{"vocab_size": 300, **(SIZES | OTHERS)[architecture]})
            model: Any = pretraining_model(config)
            model.save_pretrained(str(folder))
            byte_tokenizer(config).save_pretrained(str(folder))
        return folder

    return get


OTHERS = {name: shape(name, 64) for name in HEADS if name not in SIZES}


def load(folder: Path, seed: int = 0, random_weights: bool = False) -> Loaded:
    spec = ModelSpec(source=str(folder), random_weights=random_weights)
    return trial_model.load(spec, TASK, seed=seed, dropout=None, attention="eager")


def attach(name: str, loaded: Loaded) -> tuple[Method[Any], Attached]:
    method = registry.methods()[name].create({})
    assert isinstance(method, Method)
    torch.manual_seed(1)
    return method, method.attach(loaded.model, trial_model.view(TASK, loaded))


# --- what is fresh is found by loading


@pytest.mark.parametrize("architecture", HEADS)
def test_the_head_is_what_the_files_lack(architecture: str, pretrained: Pretrained) -> None:
    loaded = load(pretrained(architecture))
    assert loaded.head == HEADS[architecture]
    _, view = trial_model.build_empty(ModelSpec(source=str(pretrained(architecture))), TASK)
    assert view.head == loaded.head
    inside = [name for name in loaded.head if name.startswith(f"{loaded.model.base_model_prefix}.")]
    assert [finding.name for finding in loaded.findings] == ["fresh_weights"] * bool(inside)


@pytest.mark.parametrize("architecture", HEADS)
def test_the_head_is_drawn_from_the_seed_and_the_rest_is_the_files(architecture: str, pretrained: Pretrained) -> None:
    first, again, other = (load(pretrained(architecture), seed) for seed in (0, 0, 1))
    started, same, different = (
        trial_head.values(loaded.model, trial_model.view(TASK, loaded)) for loaded in (first, again, other)
    )
    assert started.keys() == same.keys() == different.keys()
    for name, tensor in started.items():
        assert torch.equal(tensor, same[name])
        assert tensor.ndim < 2 or not torch.equal(tensor, different[name])
    others = dict(other.model.named_parameters())
    for name, tensor in first.model.named_parameters():
        assert name in started or torch.equal(tensor, others[name]), name


class Biased(Classification):
    """A task whose outputs start at numbers of its own."""

    @property
    def initial_bias(self) -> tuple[float, ...]:
        return (-2.0, 0.5, 1.0)


@pytest.mark.parametrize("architecture", HEADS)
def test_outputs_start_at_the_biases_that_the_task_gives_and_all_else_as_ever(
    architecture: str, pretrained: Pretrained
) -> None:
    spec = ModelSpec(source=str(pretrained(architecture)))
    biased = trial_model.load(spec, Biased({"labels": LABELS}), seed=0, dropout=None, attention="eager")
    usual = dict(load(pretrained(architecture)).model.named_parameters())
    moved = {name: p.tolist() for name, p in biased.model.named_parameters() if not torch.equal(p, usual[name])}
    without_bias = ("gpt2", "opt")
    assert [*moved.values()] == ([] if architecture in without_bias else [[-2.0, 0.5, 1.0]])
    assert all(name.startswith(HEADS[architecture][-1]) for name in moved)


def test_a_head_that_was_trained_before_is_drawn_anew_with_all_its_layers(tmp_path: Path) -> None:
    config = AutoConfig.for_model("modernbert", **{"vocab_size": 300, **(SIZES | OTHERS)["modernbert"]})
    model: Any = random_model(config, TASK)
    model.save_pretrained(str(tmp_path))
    byte_tokenizer(config).save_pretrained(str(tmp_path))
    loaded = load(tmp_path)
    assert loaded.head == ("head", "classifier")
    known: Any = loaded.model
    assert not torch.equal(known.head.dense.weight, model.head.dense.weight)
    assert torch.equal(known.head.norm.weight, torch.ones(32))
    assert torch.equal(known.classifier.bias, torch.zeros(3))


def test_random_weights_have_the_head_that_the_class_has(pretrained: Pretrained) -> None:
    assert load(pretrained("deberta-v2"), random_weights=True).head == ("pooler", "classifier")
    assert load(pretrained("bert"), random_weights=True).head == ("classifier",)


def test_a_part_of_the_transformer_that_is_missing_is_trained_by_all_and_one_of_no_layer_is_refused(
    pretrained: Pretrained, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    def without(architecture: str, *keys: str) -> Path:
        import shutil

        folder = Path(shutil.copytree(pretrained(architecture), tmp_path / architecture, dirs_exist_ok=True))
        tensors = {n: t for n, t in load_file(pretrained(architecture) / "model.safetensors").items() if n not in keys}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    layer = "bert.encoder.layer.1.output.dense"
    loaded = load(without("bert", f"{layer}.weight"))
    assert loaded.head == (layer, "bert.pooler", "classifier")
    for name in ("lora", "bitfit"):
        _, attached = attach(name, load(tmp_path / "bert"))
        assert all(p.requires_grad for n, p, _ in running(attached.model) if n.startswith(layer))
    with pytest.raises(UnsupportedModel, match="mask_emb, which belongs to no layer"):
        load(without("xlnet", "transformer.mask_emb"))
    with pytest.raises(UnsupportedModel, match="hold none of this model's tensors"):
        load(without("roberta", *load_file(pretrained("roberta") / "model.safetensors")))


# --- every method


ENCODERS = {name for name in HEADS if name not in ("bart", "gpt2", "opt", "t5")}
REFUSED = {
    *(("prefix_tuning", name) for name in ENCODERS),
    *(("bitfit", name) for name in ("modernbert", "t5")),
    *((name, "xlnet") for name in ("lora", "ia3")),
}
"""Other tests say why."""
CASES = [
    pytest.param(name, architecture, marks=() if quick else pytest.mark.slow)
    for architecture in HEADS
    for name in TRAINABLE
    for quick in [architecture in ("bert", "deberta-v2") or name in ("lora", "prompt_tuning")]
    if (name, architecture) not in REFUSED
]


@pytest.mark.parametrize(("name", "architecture"), CASES)
def test_every_method_has_the_same_head(name: str, architecture: str, pretrained: Pretrained, tmp_path: Path) -> None:
    setting = Setting("class", architecture)
    loaded = load(pretrained(architecture))
    view = trial_model.view(TASK, loaded)
    started, before = trial_head.values(loaded.model, view), BaseIdentity.of(loaded.model, view)
    method, attached = attach(name, loaded)
    trial_head.check(attached, started, name)
    counts = count(attached.module, before)
    assert counts.trainable.head == counts.total.head == sum(tensor.numel() for tensor in started.values())

    step(setting, method, attached)
    expected = logits(TASK, attached, TASK.collate(features(), 0))
    method.save(attached, tmp_path)
    again, fresh = attach(name, load(pretrained(architecture), seed=5))
    again.load(fresh, tmp_path)
    assert torch.equal(logits(TASK, fresh, TASK.collate(features(), 0)), expected)


def test_a_method_that_leaves_out_a_part_or_draws_its_own_is_refused(pretrained: Pretrained) -> None:
    loaded = load(pretrained("deberta-v2"))
    started = trial_head.values(loaded.model, trial_model.view(TASK, loaded))
    _, attached = attach("lora", loaded)
    pooler: Any = attached.model.get_submodule("pooler")
    trained = pooler.modules_to_save["default"].dense.weight
    trained.requires_grad_(False)
    with pytest.raises(UnsupportedModel, match=r"lora does not train pooler.dense.weight, which this task adds"):
        trial_head.check(attached, started, "lora")
    trained.requires_grad_(True).data.add_(1)
    with pytest.raises(UnsupportedModel, match=r"does not start pooler.dense.weight from the trial's seed"):
        trial_head.check(attached, started, "lora")
    with pytest.raises(UnsupportedModel, match=r"trains pooler.dense.* like a head, which this task does not add"):
        trial_head.check(attached, {n: t for n, t in started.items() if "classifier" in n}, "lora")
