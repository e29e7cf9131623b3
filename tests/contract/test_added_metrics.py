"""Every metric of the registry keeps a metric's promises."""

from __future__ import annotations

from tuneoff import registry
from tuneoff.testing import MetricContract


class TestKappa(MetricContract):
    metric = "kappa"


class TestAuc(MetricContract):
    metric = "auc"


class TestBrier(MetricContract):
    metric = "brier"


class TestCalibrationError(MetricContract):
    metric = "calibration_error"


class TestWeightedKappa(MetricContract):
    metric = "weighted_kappa"


class TestRankError(MetricContract):
    metric = "rank_error"


class TestBleu(MetricContract):
    metric = "bleu"


class TestChrf(MetricContract):
    metric = "chrf"


class TestExactNumber(MetricContract):
    metric = "exact:number"
    target = "so it is {}"
    wrong = "it may be {}.5"


class TestExactLetter(MetricContract):
    metric = "exact:letter"
    target = "The answer is (B), as {} says."
    wrong = "C. {}"


class TestExactJson(MetricContract):
    metric = "exact:json.answer"
    target = 'Here: {{"answer": "{}"}}'
    wrong = '{{"answer": "no {}"}}'


def test_all_are_tested() -> None:
    tested = {suite.metric for suite in MetricContract.__subclasses__()}
    assert tested >= set(registry.metrics())
    assert {name.partition(":")[0] for name in tested} >= set(registry.metrics().families())
