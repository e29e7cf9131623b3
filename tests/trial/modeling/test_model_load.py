from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import tiny_config
from tuneoff import architectures
from tuneoff.config.data import ModelSpec
from tuneoff.errors import SourceError, SourceNotFound, UnsupportedModel
from tuneoff.tasks.classification import Classification
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.load import Loaded
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

TASK = Classification({"labels": ["a", "b"]})
TEXT = "Plain, ünïcode, 日本 and 😀\ttabs  \n"


def shipped(name: str) -> Any:
    from transformers import AutoConfig

    found = architectures.find(name)
    assert found is not None
    return AutoConfig.for_model(**found)


def load(folder: Path, seed: int = 0, dropout: float | None = None, random_weights: bool = False) -> Loaded:
    spec = ModelSpec(source=str(folder), random_weights=random_weights)
    task = Classification({"labels": ["a", "b"]})
    return trial_model.load(spec, task, seed=seed, dropout=dropout, attention="eager")


def base(model: Any) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = model.base_model.state_dict()
    return tensors


def head(model: Any) -> dict[str, torch.Tensor]:
    task = Classification({"labels": ["a", "b"]})
    (name,) = task.view(model).head
    tensors: dict[str, torch.Tensor] = model.get_submodule(name).state_dict()
    return tensors


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- the tokenizer of bytes


@pytest.mark.parametrize("name", architectures.names())
def test_bytes_and_special_tokens_never_collide(name: str) -> None:
    config = shipped(name)
    tokenizer = byte_tokenizer(config)
    special = {
        token
        for kind in ("bos", "eos", "pad", "cls", "sep")
        if (token := getattr(config, f"{kind}_token_id", None)) is not None
    }
    plain = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert len(plain) == len(TEXT.encode())
    assert not special & set(plain)
    every = tokenizer("".join(map(chr, range(0x0400))), add_special_tokens=False)["input_ids"]
    assert not special & set(every)
    assert max(tokenizer.get_vocab().values()) < config.vocab_size
    assert len(set(tokenizer.get_vocab().values())) == len(tokenizer)
    assert tokenizer.decode(plain) == TEXT


@pytest.mark.parametrize(("name", "frame"), [("roberta-base", (0, 2)), ("minilm", (101, 102))])
def test_encoders_get_their_frame(name: str, frame: tuple[int, int]) -> None:
    tokenizer = byte_tokenizer(shipped(name))
    framed = tokenizer("ab")["input_ids"]
    assert (framed[0], framed[-1]) == frame
    assert framed[1:-1] == tokenizer("ab", add_special_tokens=False)["input_ids"]
    cut = tokenizer("abcdef", truncation=True, max_length=4)["input_ids"]
    assert (len(cut), cut[0], cut[-1]) == (4, *frame)


@pytest.mark.parametrize("name", ["gpt2", "gpt-neo-125m", "smollm2-135m"])
def test_decoders_get_none(name: str) -> None:
    tokenizer = byte_tokenizer(shipped(name))
    assert len(tokenizer("ab")["input_ids"]) == 2
    assert tokenizer.eos_token_id == shipped(name).eos_token_id


# --- weights and head


@pytest.mark.parametrize("folder", ["bert_folder", "gpt_folder"])
@pytest.mark.parametrize("random_weights", [False, True])
def test_base_is_the_same_at_every_seed_and_the_head_is_the_seeds(
    folder: str, random_weights: bool, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(folder)
    torch.manual_seed(5)
    first = load(path, seed=0, random_weights=random_weights)
    torch.manual_seed(6)
    again, other = (load(path, seed=seed, random_weights=random_weights) for seed in (0, 1))
    assert same(base(first.model), base(again.model))
    assert same(base(first.model), base(other.model))
    assert same(head(first.model), head(again.model))
    assert not same(head(first.model), head(other.model))
    assert first.info == other.info


def test_a_folder_is_loaded_as_it_is_but_for_its_head(bert_folder: Path) -> None:
    """The folder's head has three labels, the task two: only the base is used, whatever its head was."""
    from safetensors.torch import load_file

    stored = load_file(bert_folder / "model.safetensors")
    loaded = load(bert_folder)
    for name, tensor in base(loaded.model).items():
        assert torch.equal(tensor, stored[f"bert.{name}"]), name
    assert stored["classifier.weight"].shape[0] == 3
    assert head(loaded.model)["weight"].shape == (2, 32)
    assert torch.equal(head(loaded.model)["bias"], torch.zeros(2))
    assert loaded.findings == ()
    assert loaded.info.architecture == "BertForSequenceClassification"
    assert (loaded.info.hidden_size, loaded.info.layers, loaded.info.dtype) == (32, 2, "float32")
    config: Any = loaded.model.config
    assert config.id2label == {0: "a", 1: "b"}
    assert loaded.pad_token_id == loaded.tokenizer.pad_token_id == config.pad_token_id == 0


def test_a_head_of_the_right_size_is_drawn_anew_too(bert_folder: Path) -> None:
    """Else one trial would start from somebody's trained head and another, with one label more, would not."""
    three = Classification({"labels": ["a", "b", "c"]})
    loaded = trial_model.load(ModelSpec(source=str(bert_folder)), three, seed=0, dropout=None, attention="eager")
    assert torch.equal(loaded.model.get_submodule("classifier").bias, torch.zeros(3))  # type: ignore[arg-type]


def test_without_a_pad_token_the_end_token_pads(gpt_folder: Path) -> None:
    loaded = load(gpt_folder)
    assert loaded.tokenizer.pad_token_id is None
    assert loaded.pad_token_id == 299


def test_the_checksum_is_of_the_base_weights(bert_folder: Path, gpt_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    checksum = load(bert_folder).info.checksum
    assert checksum is not None
    assert len(checksum) == 64
    assert load(bert_folder, seed=3).info.checksum == checksum
    assert load(gpt_folder).info.checksum != checksum
    copy = shutil.copytree(bert_folder, tmp_path / "copy")
    assert load(copy).info.checksum == checksum
    weights = load_file(copy / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load(copy).info.checksum != checksum
    assert load(bert_folder, random_weights=True).info.checksum is None


def test_tensors_that_the_files_lack_are_named_and_start_from_the_seed(bert_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert_folder, tmp_path / "lacking")
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    weights["bert.pooler.dense.weight"] = torch.zeros(5, 5)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(5)
    first = load(folder, seed=0)
    torch.manual_seed(6)
    again, other = (load(folder, seed=seed) for seed in (0, 1))
    (finding,) = first.findings
    assert finding.name == "fresh_weights"
    assert "2 tensors" in finding.message
    assert "encoder.layer.1.output.dense.weight" in finding.message
    assert "pooler.dense.weight" in finding.message
    assert same(base(first.model), base(again.model))
    lacking = {"encoder.layer.1.output.dense.weight", "pooler.dense.weight"}
    moved = {name for name, tensor in base(first.model).items() if not torch.equal(tensor, base(other.model)[name])}
    assert moved == lacking
    assert first.info.checksum == other.info.checksum


@pytest.mark.parametrize("named", ["other.safetensors", "other.safetensors.index.json"])
def test_a_configuration_cannot_name_other_weights(bert_folder: Path, tmp_path: Path, named: str) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "named")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "transformers_weights": named}))
    with pytest.raises(UnsupportedModel, match="names other weights"):
        load(folder)


def test_random_weights_are_said_loudly(bert_folder: Path) -> None:
    loaded = load(bert_folder, random_weights=True)
    assert loaded.info.random_weights
    (finding,) = loaded.findings
    assert finding.name == "random_weights"
    assert "quality means nothing" in finding.message
    assert not same(base(loaded.model), base(load(bert_folder).model))


@pytest.mark.parametrize("folder", ["bert_folder", "gpt_folder"])
@pytest.mark.parametrize("dropout", [0.0, 0.35])
def test_dropout_is_set_everywhere_or_nowhere(folder: str, dropout: float, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(folder)
    rates = {m.p for m in load(path, dropout=dropout).model.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {dropout}
    unset = {m.p for m in load(path).model.modules() if isinstance(m, torch.nn.Dropout)}
    assert unset == {0.1}


@pytest.mark.parametrize("name", architectures.names())
def test_dropout_reaches_every_key_of_the_architectures_that_ship(name: str) -> None:
    config = shipped(name)
    trial_model._set_up(config, Classification({"labels": ["a", "b"]}), 0.35)
    rates = {key: value for key, value in vars(config).items() if "drop" in key or "pdrop" in key}
    assert rates
    assert set(rates.values()) == {0.35}


# --- what cannot be loaded


def test_a_folder_without_weights_says_what_would_do(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bert_folder / "config.json", tmp_path)
    with pytest.raises(SourceNotFound) as caught:
        load(tmp_path)
    assert "random-weights" in caught.value.hint


def test_an_architecture_that_nobody_knows(bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "odd")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "brandnew"}))
    with pytest.raises(UnsupportedModel, match="transformers cannot read its configuration") as caught:
        load(folder)
    assert "remote code is never run" in caught.value.hint


def test_a_broken_weights_file_is_one_clear_error(bert_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(SourceError, match=r"model\.safetensors is not safetensors: it is something else"):
        load(folder)


@pytest.mark.parametrize("folder", ["bert_folder", "gpt_folder"])
def test_a_folder_without_a_tokenizer_is_refused(folder: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """transformers would make an empty one, to which every text is unknown."""
    copy = shutil.copytree(request.getfixturevalue(folder), tmp_path / "copy")
    for file in copy.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(UnsupportedModel, match="holds no tokenizer"):
        load(copy)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(UnsupportedModel, match="its tokenizer cannot be loaded"):
        load(copy)


def test_the_empty_model_has_the_loaded_models_shapes(bert_folder: Path) -> None:
    task = Classification({"labels": ["a", "b"]})
    empty, _ = trial_model.build_empty(ModelSpec(source=str(bert_folder)), task)
    shapes = {name: parameter.shape for name, parameter in load(bert_folder).model.named_parameters()}
    assert {name: parameter.shape for name, parameter in empty.named_parameters()} == shapes
    assert all(parameter.is_meta for parameter in empty.parameters())


def test_a_tiny_vocabulary_still_holds_all_bytes() -> None:
    config = tiny_config("gpt2")
    assert len(byte_tokenizer(config)(TEXT)["input_ids"]) == len(TEXT.encode())


def test_the_activation_in_one_kernel_is_the_same_function() -> None:
    """GPT-2's own, made of six operations, keeps six tensors of the size of the feed-forward layer."""
    from transformers.activations import ACT2FN

    x = torch.linspace(-8, 8, 2001)
    torch.testing.assert_close(ACT2FN["gelu_pytorch_tanh"](x), ACT2FN["gelu_new"](x), atol=1e-6, rtol=1e-5)
    spec = ModelSpec(source="gpt2", random_weights=True)
    config: Any = trial_model.build_empty(spec, TASK)[0].config
    assert config.activation_function == "gelu_pytorch_tanh"
