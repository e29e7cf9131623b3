from __future__ import annotations

import pytest

from tuneoff import architectures, registry
from tuneoff.config.spec import StudySpec
from tuneoff.interfaces import Method, TaskView
from tuneoff.planning.loading import load, recipe_names
from tuneoff.planning.plan import plan, task_options

PUBLISHED = {
    "gpt2-ag-news",
    "gpt2-cnn-dailymail",
    "gpt-neo-cnn-dailymail",
    "roberta-base-binary",
    "llama-metamath-gsm8k",
}

STATED = {
    ("gpt2-ag-news", "prompt_tuning"): (93.88, 2345, 3577, 12.88, 63.96, 0.2193),
    ("gpt2-ag-news", "adapter"): (91.32, 732, 4259, 7.77, 163.73, 0.2644),
    ("gpt2-ag-news", "lora"): (90.73, 725, 3753, 9.43, 165.42, 0.27),
    ("gpt2-cnn-dailymail", "prompt_tuning"): (0.9863, 5, 0.056, 0.031, 0.049, 89.43, 7.52),
    ("gpt2-cnn-dailymail", "lora"): (1.0006, 7, 0.056, 0.031, 0.049, 94.24, 7.62),
    ("gpt2-cnn-dailymail", "last_block"): (0.9998, 4, 0.056, 0.031, 0.049, 94.24, 7.74),
    ("gpt-neo-cnn-dailymail", "zero_shot"): (0.14673, 0.04199, 0.09026),
    ("gpt-neo-cnn-dailymail", "prompt_tuning"): (0.14673, 0.05966, 0.11326),
    ("gpt-neo-cnn-dailymail", "lora"): (0.19654, 0.10004, 0.13453),
    ("gpt-neo-cnn-dailymail", "full"): (0.20254, 0.10904, 0.14153),
    ("roberta-base-binary", "full"): (0.8980, 124_647_170, 428.9, 3.24),
    ("roberta-base-binary", "lora"): (0.9415, 1_181_954, 327.4, 2.41),
    ("roberta-base-binary", "qlora"): (0.9385, 1_181_954, 1694.9, 10.20),
    ("roberta-base-binary", "ia3"): (0.9010, 656_642, 397.3, 3.24),
    ("llama-metamath-gsm8k", "lora"): (47.84, 9_175_040),
    ("llama-metamath-gsm8k", "rslora"): (51.33, 18_350_080),
    ("llama-metamath-gsm8k", "ia3"): (39.80, 286_720),
    ("llama-metamath-gsm8k", "prompt_tuning"): (23.43, 614_400),
    ("llama-metamath-gsm8k", "p_tuning"): (34.95, 28_382_208),
    ("llama-metamath-gsm8k", "vera"): (35.41, 129_024),
    ("llama-metamath-gsm8k", "full"): (47.16, 3_212_749_824),
}

CNN = {
    **{f"task.data.{split}.source": "abisee/cnn_dailymail" for split in ("train", "validation", "test")},
    **{f"task.data.{split}.config": "3.0.0" for split in ("train", "validation", "test")},
    **{f"task.data.{split}.split": split for split in ("train", "validation", "test")},
    "task.name": "generation",
    "task.options.source": "article",
    "task.options.target": "highlights",
    "protocol.batch_size": 8,
    "protocol.max_length": 512,
}

SETTINGS: dict[str, dict[str, object]] = {
    "gpt2-ag-news": {
        "model.source": "openai-community/gpt2",
        "task.name": "classification",
        "task.data.train.source": "fancyzhx/ag_news",
        "task.data.train.split": "train",
        "task.data.test.source": "fancyzhx/ag_news",
        "task.data.test.split": "test",
        "protocol.train_rows": None,
        "protocol.max_steps": None,
        "protocol.epochs": 1,
        "protocol.select": "last",
    },
    "roberta-base-binary": {
        "model.source": "FacebookAI/roberta-base",
        "task.name": "classification",
        "protocol.epochs": 5,
        "protocol.train_rows": None,
        "protocol.max_steps": None,
        "methods.lora.options.r": 16,
        "methods.lora.options.targets": ["query", "value"],
        "methods.qlora.options.r": 16,
        "methods.qlora.options.targets": ["query", "value"],
        "methods.ia3.options.targets": ["key", "value", "output.dense"],
        "methods.ia3.options.feedforward": ["output.dense"],
    },
    "llama-metamath-gsm8k": {
        "model.source": "meta-llama/Llama-3.2-3B",
        "task.data.train.source": "meta-math/MetaMathQA",
        "task.data.test.source": "openai/gsm8k",
        "task.options.template": "Question: {source} Think step by step.\nAnswer: ",
        "protocol.max_steps": 5000,
        "protocol.batch_size": 4,
        "protocol.schedule": "cosine",
        "protocol.warmup_ratio": 0.1,
        "protocol.weight_decay": 0.1,
        "protocol.validation_rows": 50,
        "methods.lora.learning_rate": 1e-4,
        "methods.full.learning_rate": 1e-5,
    },
    "gpt2-cnn-dailymail": {
        **CNN,
        "model.source": "openai-community/gpt2",
        "task.options.max_target_length": 128,
        "protocol.train_rows": 287_113 // 10,
        "protocol.epochs": 20,
        "protocol.learning_rate": 1e-4,
        "protocol.schedule": "linear",
        "protocol.warmup_steps": 100,
        "protocol.select": "best",
        "protocol.select_metric": "loss",
        "methods.prompt_tuning.options": {"tokens": 20, "init": "uniform", "init_range": 0.5},
        "methods.lora.options.r": 8,
        "methods.lora.options.alpha": 32,
        "methods.lora.options.targets": "attention",
        "methods.last_block.options.lm_head": True,
    },
    "gpt-neo-cnn-dailymail": {
        **CNN,
        "model.source": "EleutherAI/gpt-neo-125m",
        "task.options.template": "SUMMARIZE: {source}\n",
        "protocol.epochs": 10,
        "protocol.learning_rate": 5e-5,
        "methods.zero_shot.options": {},
        "methods.prompt_tuning.options.init": "text",
        "methods.prompt_tuning.options.init_text": "SUMMARIZE",
        "methods.lora.options.r": 16,
        "methods.lora.options.alpha": 32,
        "methods.lora.options.dropout": 0.1,
        "methods.full.options": {},
    },
}
"""Settings that the comparisons state, or that follow from what they state, by their places in a study."""


def test_the_published_comparisons_ship() -> None:
    assert set(recipe_names()) >= PUBLISHED


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_loads_and_plans_without_a_network(name: str) -> None:
    study = load(name)
    assert study.name == name
    assert study.description
    trials = plan(study)
    assert len(trials) == len(study.methods) * len(study.protocol.seeds)
    assert len({trial.id for trial in trials}) == len(trials)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipes_learning_rates_lie_within_the_methods_ranges(name: str) -> None:
    study = load(name)
    if name in PUBLISHED:
        return  # its rates are those of the comparison
    assert study.protocol.learning_rate is None
    for trial in plan(study):
        allowed = registry.methods()[trial.method].learning_rate
        if trial.learning_rate is not None:
            assert allowed.low <= trial.learning_rate <= allowed.high, trial.label


@pytest.mark.parametrize("name", recipe_names())
def test_published_figures_belong_to_rows(name: str) -> None:
    study = load(name)
    if study.published is None:
        assert name not in PUBLISHED
        return
    assert set(study.published.figures) == set(study.methods)
    assert study.published.citation
    assert study.published.model == study.model.source
    assert study.published.notes


@pytest.mark.parametrize(("name", "label"), STATED)
def test_figures_are_as_published(name: str, label: str) -> None:
    published = load(name).published
    assert published is not None
    assert tuple(published.figures[label].values()) == STATED[name, label]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_comparisons_can_be_timed_without_weights_and_planned_without_data(name: str) -> None:
    study = load(name)
    assert architectures.find(study.model.source) is not None
    task = registry.create_task(study.task.model_copy(update={"options": task_options(study)}))
    assert task.fitted, "classes declared, so that the head's size is known without the data"


def test_gpt2_trains_all_rows_of_ag_news_but_one_percent() -> None:
    assert round(120_000 * (1 - load("gpt2-ag-news").protocol.validation_fraction)) == 118_800


@pytest.mark.parametrize(
    ("name", "key", "value"), [(name, key, value) for name, keys in SETTINGS.items() for key, value in keys.items()]
)
def test_settings_are_as_published(name: str, key: str, value: object) -> None:
    found = load(name).model_dump(mode="json")
    for step in key.split("."):
        found = found[step]
    assert found == value


@pytest.mark.parametrize("name", sorted(PUBLISHED - {"llama-metamath-gsm8k"}))
def test_rows_are_the_methods_that_they_are_called(name: str) -> None:
    assert all(label == arm.method for label, arm in load(name).methods.items())


@pytest.mark.parametrize("name", ["gpt2-cnn-dailymail", "gpt-neo-cnn-dailymail"])
def test_one_published_rate_serves_all_rows(name: str) -> None:
    study = load(name)
    assert {trial.learning_rate for trial in plan(study)} <= {study.protocol.learning_rate, None}


@pytest.mark.parametrize("name", sorted({*recipe_names()} - PUBLISHED - {"quickstart"}))
def test_further_quickstarts_need_no_hub_and_mix_no_module(name: str) -> None:
    study = load(name)
    data = study.task.data
    assert {spec.source if spec else None for spec in (data.train, data.validation, data.test)} == {"docstrings"}


def test_the_summarising_quickstart_has_its_methods() -> None:
    study = load("quickstart-summarize")
    assert {"zero_shot", "lead", "lora", "prompt_tuning", "ia3", "last_block", "qlora"} == set(study.methods)


def _trainable(study: StudySpec) -> dict[str, int]:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    labels = task_options(study)["labels"]
    shape = architectures.find(study.model.source)
    assert shape is not None
    counts = {}
    for label, arm in study.methods.items():
        config = AutoConfig.for_model(**shape)
        config.num_labels = len(labels)
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config)
            method = registry.methods()[arm.method].create(arm.options)
            assert isinstance(method, Method)
            attached = method.attach(model, TaskView(("classifier",), "SEQ_CLS"))
        counts[label] = sum(p.numel() for p in attached.module.parameters() if p.requires_grad)
    return counts


def test_roberta_trains_as_many_parameters_as_published() -> None:
    study = load("roberta-base-binary")
    assert study.published is not None
    stated = {label: figures["trainable_parameters"] for label, figures in study.published.figures.items()}
    assert _trainable(study) == stated
