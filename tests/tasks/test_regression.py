"""Regression: numbers read, standardised, scored as SciPy does, and given back in their own unit."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from tuneoff import registry
from tuneoff.config.data import TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.errors import DataError
from tuneoff.interfaces import Baseline, Example, Rows
from tuneoff.records.record import Prediction
from tuneoff.tasks.regression import Regression
from tuneoff.trial.data.load import load


def rows(values: list[Any]) -> Rows:
    return Rows({"text": [f"text {i}" for i in range(len(values))], "score": values}, "rows.csv")


def read(values: list[Any]) -> list[Example]:
    task = Regression({})
    return task.examples(rows(values), task.columns(rows(values)), "train")


def predictions(targets: Any, outputs: Any) -> list[Prediction]:
    return [
        Prediction(index=i, target=repr(float(target)), output=f"{output:.7g}")
        for i, (target, output) in enumerate(zip(targets, outputs, strict=True))
    ]


def scores(targets: Any, outputs: Any) -> dict[str, float]:
    return {metric.name: metric.value for metric in Regression({}).score(predictions(targets, outputs), "test")}


def test_numbers_are_read_from_numbers_and_text() -> None:
    assert [e.target for e in read([1, 2.5, " 3.0 ", "-4", "1e3"])] == ["1", "2.5", "3", "-4", "1000"]


@pytest.mark.parametrize("cell", ["good", "1,5", float("inf"), "nan", 10**400, "1_5"])
def test_what_is_no_finite_number_is_refused_with_its_place(cell: Any) -> None:
    with pytest.raises(DataError) as caught:
        read([1, cell, 3])
    assert "row 2" in str(caught.value)


def test_equal_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to learn"):
        Regression({}).fit({"train": read([2, 2.0, "2"])})


def test_the_head_is_trained_on_standardised_numbers_and_gives_them_back() -> None:
    task, examples = Regression({}), read([1, 2, 6])
    task.fit({"train": examples})
    assert task.fitted_options == {"center": 3.0, "scale": statistics.pstdev([1, 2, 6])}
    targets = [task.targets(example)[0] for example in examples]
    assert statistics.fmean(targets) == pytest.approx(0)
    assert statistics.pstdev(targets) == pytest.approx(1)
    logits = torch.tensor(targets)[:, None]
    assert [float(p.output) for p in task.outcome(logits, {}, examples)] == pytest.approx([1, 2, 6])
    again = Regression(task.fitted_options)
    assert [again.targets(example) for example in examples] == [task.targets(example) for example in examples]


def test_numbers_far_from_zero_keep_the_digits_that_vary() -> None:
    task, examples = Regression({}), read([1e9 + 1, 1e9 + 2, 1e9 + 3])
    task.fit({"train": examples})
    outputs = task.outcome(torch.tensor([[-1.0], [0.0], [1.0]]), {}, examples)
    scale = statistics.pstdev([1, 2, 3])
    assert [float(p.output) - 1e9 for p in outputs] == pytest.approx([2 - scale, 2, 2 + scale], abs=1e-5)


def test_rows_that_are_cut_off_for_tests_are_no_part_of_what_is_fitted(tmp_path: Path) -> None:
    values = [float(i * i) for i in range(40)]
    lines = [f"text number {i},{value}" for i, value in enumerate(values)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,score", *lines]))
    task = Regression({})
    spec = TaskSpec.model_validate({"name": "regression", "data": {"train": f"file:{tmp_path / 'rows.csv'}"}})
    data = load(task, spec, Protocol())
    train = [float(example.target) for example in data.splits["train"]]
    assert data.info.fitted == {"center": statistics.fmean(train), "scale": statistics.pstdev(train)}
    assert data.info.fitted["center"] != statistics.fmean(values)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError):
        Regression({"scale": 0})


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.round(rng.normal(1000, 5, 200), 1)  # with ties, far from zero
    outputs = np.round(0.5 * targets + rng.normal(0, 3, 200), 3)
    found = scores(targets, outputs)
    assert found["pearson"] == pytest.approx(stats.pearsonr(targets, outputs).statistic, abs=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(targets, outputs).statistic, abs=1e-9)
    assert found["rmse"] == pytest.approx(float(np.sqrt(np.mean((targets - outputs) ** 2))))
    assert found["mae"] == pytest.approx(float(np.mean(np.abs(targets - outputs))))


def test_outputs_that_do_not_vary_have_no_correlation() -> None:
    found = scores([1, 2, 3], [0.1, 0.1, 0.1])
    assert (found["pearson"], found["spearman"]) == (0, 0)


@pytest.mark.parametrize(("method", "expected"), [("mean", 4.0), ("median", 2.0)])
def test_baselines_predict_one_number_of_the_training_rows(method: str, expected: float) -> None:
    baseline = registry.methods()[method].create({})
    assert isinstance(baseline, Baseline)
    task = Regression({})
    examples = read([1, 2, 9])
    task.fit({"train": examples})
    assert {float(p.output) for p in baseline.predict(task, examples, examples)} == {expected}
