"""Loading models that write text: their tokenizers, tied weights, dropout and generation settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import save_writer, tiny_config
from tuneoff.config.data import ModelSpec
from tuneoff.tasks.generation import Generation
from tuneoff.trial.data.lengths import max_positions
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.load import Loaded
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


def load(folder: Path, dropout: float | None = None, attention: Any = "eager") -> Loaded:
    return trial_model.load(ModelSpec(source=str(folder)), Generation({}), seed=0, dropout=dropout, attention=attention)


def test_encoder_decoders_get_their_frame_of_bytes() -> None:
    t5, bart = byte_tokenizer(tiny_config("t5")), byte_tokenizer(tiny_config("bart"))
    assert t5("ab")["input_ids"] == [*t5("ab", add_special_tokens=False)["input_ids"], 1]
    assert bart("ab")["input_ids"] == [0, *bart("ab", add_special_tokens=False)["input_ids"], 2]
    assert t5.decode(t5("é 日")["input_ids"], skip_special_tokens=True) == "é 日"


@pytest.mark.parametrize(("architecture", "limit"), [("t5", None), ("bart", 64), ("gpt2", 64)])
def test_what_the_record_says_of_the_model(architecture: str, limit: int | None, tmp_path: Path) -> None:
    loaded = load(save_writer(tmp_path, architecture))
    assert (loaded.info.hidden_size, loaded.info.layers, loaded.info.max_positions) == (32, 2, limit)
    assert max_positions(loaded.model) == limit
    assert loaded.pad_token_id == {"t5": 0, "bart": 1, "gpt2": 299}[architecture]


@pytest.mark.parametrize("architecture", ["bart", "gpt2", "gpt_neo", "t5"])
def test_tied_weights_are_not_missing(architecture: str, tmp_path: Path) -> None:
    loaded = load(save_writer(tmp_path, architecture))
    model: Any = loaded.model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert loaded.findings == ()


def test_what_the_architecture_holds_fixed_stays_so(tmp_path: Path) -> None:
    """Else full fine-tuning would train Pegasus's positions, which get no gradient."""
    loaded = load(save_writer(tmp_path, "pegasus"))
    fixed = {name for name, parameter in loaded.model.named_parameters() if not parameter.requires_grad}
    assert fixed == {f"model.{part}.embed_positions.weight" for part in ("encoder", "decoder")}


def test_an_output_layer_that_the_files_lack_is_reported(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = save_writer(tmp_path, "gpt2", tie_word_embeddings=False) / "model.safetensors"
    tensors = load_file(weights)
    assert "lm_head.weight" in tensors
    before = load(tmp_path).info.checksum
    save_file({**tensors, "lm_head.weight": tensors["lm_head.weight"] + 1}, weights, metadata={"format": "pt"})
    # The output layer is part of what was pretrained, and so of what is checked.
    assert load(tmp_path).info.checksum != before
    save_file({n: t for n, t in tensors.items() if n != "lm_head.weight"}, weights, metadata={"format": "pt"})
    (finding,) = load(tmp_path).findings
    assert finding.name == "fresh_weights"
    assert "lm_head.weight" in finding.message


@pytest.mark.parametrize("architecture", ["t5", "bart"])
def test_dropout_reaches_every_layer(architecture: str, tmp_path: Path) -> None:
    folder = save_writer(tmp_path, architecture)
    for wanted in (0.0, 0.3):
        model = load(folder, dropout=wanted).model
        assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} <= {wanted}
        inside = [m.dropout for m in model.modules() if isinstance(getattr(m, "dropout", None), float)]
        assert set(inside) <= {wanted}
        assert inside or architecture == "t5"


def test_settings_of_the_models_authors_are_put_aside(tmp_path: Path) -> None:
    folder = save_writer(tmp_path, "bart")
    theirs = {"num_beams": 4, "min_length": 10, "no_repeat_ngram_size": 3, "forced_bos_token_id": 0}
    kept = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps({**kept, **theirs}), encoding="utf-8")
    model: Any = load(folder).model
    own = {k: v for k, v in model.generation_config.to_dict().items() if v is not None}
    assert {k: v for k, v in own.items() if k.endswith("token_id")} == {
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "decoder_start_token_id": 2,
    }
    assert not set(theirs) & set(own)
    model.save_pretrained(str(tmp_path / "out"))


def test_attention_that_an_architecture_lacks_gives_way(tmp_path: Path) -> None:
    assert load(save_writer(tmp_path / "neo", "gpt_neo"), attention="sdpa").info.attention == "eager"
    assert load(save_writer(tmp_path / "gpt2", "gpt2"), attention="sdpa").info.attention == "sdpa"
