from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tuneoff.config import base, data, execution, protocol, spec
from tuneoff.config.data import DataSpec, SourceSpec, TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.search import SearchSpec
from tuneoff.config.spec import StudySpec
from tuneoff.suffixes import DATA_SUFFIXES


def test_short_forms_say_the_same_as_long_ones() -> None:
    short = StudySpec.model_validate({"model": "m", "task": {"data": "d", "text": "t"}, "methods": ["lora", "full"]})
    long = StudySpec.model_validate(
        {
            "model": {"source": "m"},
            "task": {
                "name": "classification",
                "data": {"train": {"source": "d"}, "test": {"source": "d"}},
                "options": {"text": "t"},
            },
            "methods": {"lora": {"method": "lora"}, "full": {"method": "full"}},
        }
    )
    assert short == long


def test_data_named_by_role() -> None:
    data = DataSpec.model_validate({"train": "a.csv", "test": {"source": "org/name", "split": "validation"}})
    assert data.train == SourceSpec(source="a.csv")
    assert data.validation is None
    assert data.test == SourceSpec(source="org/name", split="validation")


@pytest.mark.parametrize(
    "reference",
    [*(f"rows{suffix}" for suffix in DATA_SUFFIXES), "names.CONLL.gz", "file:names.bio", "parts/*", "parts/*.iob"],
)
def test_the_short_form_of_files_tests_on_none_of_their_training_rows(reference: str) -> None:
    assert DataSpec.model_validate(reference) == DataSpec(train=SourceSpec(source=reference))


@pytest.mark.parametrize(
    ("methods", "labels"),
    [
        ("lora", ["lora"]),
        (["lora", "full"], ["lora", "full"]),
        ([{"lora": {"r": 4}}, "full"], ["lora", "full"]),
        ({"lora": None, "wide": {"method": "lora", "r": 64}}, ["lora", "wide"]),
    ],
)
def test_forms_of_methods(methods: Any, labels: list[str]) -> None:
    study = StudySpec.model_validate({"model": "m", "task": {"data": "d"}, "methods": methods})
    assert list(study.methods) == labels
    assert {arm.method for arm in study.methods.values()} <= {"lora", "full"}


def test_a_methods_own_keys_become_its_options() -> None:
    study = StudySpec.model_validate(
        {"model": "m", "task": {"data": "d"}, "methods": {"a": {"method": "lora", "r": 4, "learning_rate": 0.1}}}
    )
    arm = study.methods["a"]
    assert (arm.method, arm.learning_rate, arm.options) == ("lora", 0.1, {"r": 4})


def test_flat_and_nested_options_meet() -> None:
    task = TaskSpec.model_validate({"data": "d", "text": "t", "options": {"label": "l"}})
    assert task.options == {"text": "t", "label": "l"}


@pytest.mark.parametrize(("given", "seeds"), [(3, (0, 1, 2)), ([4, 2], (4, 2)), (1, (0,))])
def test_seeds_are_a_number_or_a_list(given: Any, seeds: tuple[int, ...]) -> None:
    assert Protocol.model_validate({"seeds": given}).seeds == seeds


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": []}, "at least 1 item"),
        ({"seeds": [1, 1]}, "the same seed twice"),
        ({"seeds": [-1]}, "0 or greater"),
        ({"seeds": True}, "not true or false"),
        ({"epochs": True}, "not true or false"),
        ({"gradient_checkpointing": "often"}, "boolean"),
        ({"batching": "sorted"}, "'length' or 'random'"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"epochs": 1.5}, "valid integer"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rate": float("nan")}, "finite number"),
        ({"learning_rate": float("inf")}, "finite number"),
        ({"dropout": 1}, "less than 1"),
        ({"schedule": "liner"}, "'linear', 'cosine' or 'constant'"),
        ({"precision": "fp16"}, "'auto', 'fp32', 'fp32-medium' or 'bf16'"),
        ({"gradient_accumulation_steps": 32, "batch_size": 16}, "more than batch_size"),
        ({"epoch": 3}, "Extra inputs"),
        ({"search": True}, "not true or false"),
        ({"search": 0}, "greater than or equal to 1"),
        ({"search": {"sampler": "grid"}}, "'tpe' or 'random'"),
        ({"seeds": [1000], "search": 4}, "never used for a final trial"),
        ({"search": {"train_rows": 9}, "train_rows": 8}, "search.train_rows 9 is more than train_rows 8"),
        ({"search": {"epochs": 4}}, "search.epochs 4 is more than epochs 3"),
        ({"search": {"max_steps": 4}, "max_steps": 3}, "search.max_steps 4 is more than max_steps 3"),
        ({"search": {"prune": "median"}}, "'none' or 'halving'"),
        ({"search": {"prune": "halving", "grow": True}}, "grow and prune: halving cannot be combined"),
    ],
)
def test_a_protocol_that_cannot_be(protocol: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Protocol.model_validate(protocol)


def test_studies_are_frozen_and_refuse_unknown_keys() -> None:
    modules = (base, data, execution, protocol, spec)
    models = {k for m in modules for k in vars(m).values() if isinstance(k, type) and issubclass(k, base.Frozen)}
    assert len(models) > 15
    assert all(m.model_config.get("frozen") and m.model_config.get("extra") == "forbid" for m in models)
    shared = Protocol()
    with pytest.raises(ValidationError, match="frozen"):
        shared.epochs = 5  # type: ignore[misc]


def test_every_protocol_key_is_described() -> None:
    named_for_adamw = {"adam_beta1", "adam_beta2", "adam_epsilon"}
    silent = {key for key, field in Protocol.model_fields.items() if not field.description}
    assert silent <= named_for_adamw


@pytest.mark.parametrize("name", ["", "-x", "a b", "../x", "a/b"])
def test_a_name_that_would_be_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="string"):
        StudySpec.model_validate({"name": name, "model": "m", "task": {"data": "d"}, "methods": "lora"})


def test_candidates_stand_where_a_value_would() -> None:
    arm = {"learning_rate": {"search": {"low": 1e-5, "high": 1e-3}}, "r": {"search": [4, 8]}, "alpha": 16}
    study = StudySpec.model_validate({"model": "m", "task": {"data": "d"}, "methods": {"lora": arm}})
    found = study.methods["lora"]
    assert found.learning_rate is None
    assert found.options == {"alpha": 16}
    assert found.search["r"].choices == (4, 8)
    assert (found.search["learning_rate"].low, found.search["learning_rate"].high) == (1e-5, 1e-3)
    assert StudySpec.model_validate(study.model_dump(mode="json")) == study
    assert Protocol.model_validate({"search": 5}).search == SearchSpec(trials=5)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([4], "two or more values"),
        ([], "two or more values"),
        ([4, 4], "no two alike"),
        (4, "a list of values or a range"),
        ({"low": 4}, "needs low and high"),
        ({"low": 4, "high": 4}, "is not below high"),
        ({"low": 0, "high": 4, "log": True}, "begins above 0"),
        ({"low": False, "high": 4}, "not true or false"),
        ({"low": 4, "high": 8, "choices": [1, 2]}, "has no low, high or log"),
        ({"low": 1, "high": float("inf")}, "finite number"),
        ({"low": 1, "high": 10**400}, "finite number"),
        ({"lo": 4, "high": 8}, "Extra inputs"),
    ],
)
def test_candidates_that_cannot_be(candidates: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec.MethodSpec.model_validate({"method": "lora", "r": {"search": candidates}})


def test_a_variant_of_a_family_has_one_spelling() -> None:
    arms = [spec.MethodSpec.model_validate({"method": name}) for name in ("peft:VeRA", "peft:vera")]
    assert arms[0] == arms[1]
