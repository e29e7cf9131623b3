"""What a look at data, model and methods refuses before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from trial_helpers import make_study, save_writer
from tuneoff.config.data import ModelSpec
from tuneoff.config.retention import RetentionSpec
from tuneoff.config.spec import StudySpec
from tuneoff.errors import DataError, StudyError
from tuneoff.interfaces import Attached, Example
from tuneoff.planning.plan import plan
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.testing.models import shape
from tuneoff.trial.inspection import inspect_study
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.tokenizer import byte_tokenizer

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of 64 positions."""
    return save_writer(tmp_path_factory.mktemp("models") / "writer", "gpt2")


def study_of(folder: Path, data: Path, methods: Any, length: int) -> StudySpec:
    task = {"data": str(data), "name": "generation", "source": "text", "target": "label", "max_target_length": 8}
    return make_study(folder, data, methods, task=task, protocol={"max_length": length})


def test_rows_whose_own_options_do_not_fit_leave_the_others_theirs(writer: Path, news_csv: Path) -> None:
    study = study_of(writer, news_csv, ["lead", "zero_shot", "few_shot", "lora", "prompt_tuning"], 40)
    with pytest.raises(StudyError) as caught:
        inspect_study(study, plan(study), require_data=False)
    shots, prompts = caught.value.problems
    assert shots.where == "methods.few_shot"
    assert "3 × 48 tokens of few_shot's examples is more than the model's 64 positions" in shots.message
    assert prompts.where == "methods.prompt_tuning"
    assert "Set prompt_tuning's virtual tokens to 16 or less" in prompts.message
    assert caught.value.hint == "The others can run: --methods lead,zero_shot,lora"


def test_a_length_that_fits_no_row_is_told_at_once(writer: Path, news_csv: Path) -> None:
    study = study_of(writer, news_csv, ["lead", "few_shot", "lora"], 60)
    with pytest.raises(DataError, match=r"max_length 60 \+ 8 tokens of target is more than the model's 64 positions"):
        inspect_study(study, plan(study), require_data=False)


def test_a_model_of_several_parts_is_refused_once_for_all_rows(tmp_path: Path, news_csv: Path) -> None:
    """Gemma 3 from 4B on reads images too, and has its sizes in a part of its configuration."""
    from transformers import AutoConfig

    AutoConfig.for_model("gemma3").save_pretrained(tmp_path)
    for methods in (["lora", "full"], ["majority", "head", "lora"]):
        study = make_study(tmp_path, news_csv, methods, model={"random_weights": True})
        with pytest.raises(StudyError, match="a gemma3 model is put together of several") as caught:
            inspect_study(study, plan(study), require_data=False)
        (problem,) = caught.value.problems
        assert problem.where == "methods." + ", ".join(name for name in methods if name != "majority")
        assert "Use a model of text alone" in problem.message
    assert caught.value.hint == "The others can run: --methods majority"


def test_the_text_model_of_gemma_3_is_taken(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    special = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    config = AutoConfig.for_model("gemma3_text", vocab_size=300, **shape("gemma2", 64), **special)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    byte_tokenizer(config).save_pretrained(tmp_path)
    for task in (Generation({}), Classification({"labels": ["a", "b"]})):
        loaded = trial_model.load(ModelSpec(source=str(tmp_path)), task, seed=0, dropout=None, attention="sdpa")
        assert (loaded.info.hidden_size, loaded.info.layers, loaded.info.max_positions) == (32, 2, 64)
        assert loaded.findings == ()
        features = task.encode([Example("some words", "a", 0, "row")], loaded.tokenizer, 20)
        logits = task.forward(Attached(loaded.model, loaded.model), task.collate(features, 0))
        assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("rows", "column", "reason"),
    [
        ("body\none line alone\n", None, "prose: it has one row"),
        ("body\n", None, "has a header .* but no rows"),
        ("body\none line\nanother\n", "bdy", r"no column 'bdy' .*Set retention\.held\.prose\.column"),
    ],
)
def test_a_text_that_cannot_be_held_is_refused(
    rows: str, column: str | None, reason: str, writer: Path, news_csv: Path, tmp_path: Path
) -> None:
    (tmp_path / "prose.csv").write_text(rows)
    held = {"text": str(tmp_path / "prose.csv"), **({"column": column} if column else {})}
    study = study_of(writer, news_csv, ["lora"], 40)
    study = study.model_copy(update={"retention": RetentionSpec.model_validate({"held": {"prose": held}})})
    for required in (False, True):
        with pytest.raises((StudyError, DataError), match=rf"(?s)^retention, .*{reason}"):
            inspect_study(study, plan(study), require_data=required)


def test_a_start_from_rows_on_several_devices_is_refused(writer: Path, news_csv: Path) -> None:
    study = study_of(writer, news_csv, {"lora": {}, "eva": {"method": "lora", "init": "eva", "devices": 2}}, 40)
    with pytest.raises(StudyError, match=r"methods\.eva: eva computes its start from rows, .* on one device"):
        inspect_study(study, plan(study), require_data=False)
