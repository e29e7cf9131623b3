"""What a report and a recommendation say of what arms forget."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from page_helpers import page_store
from record_helpers import small_study
from retention_helpers import FORGOTTEN, held_store, retention_of
from tuneoff.analysis.axes import AXES
from tuneoff.analysis.decisions.pareto import cost_draws
from tuneoff.analysis.results import gather
from tuneoff.analysis.retention import change_sample, estimate_change, report_retention
from tuneoff.errors import StudyError
from tuneoff.planning.plan import plan
from tuneoff.records.record import TrialRecord
from tuneoff.report import columns, page_data
from tuneoff.report.advice import Criteria, advise
from tuneoff.report.builder import build_report
from tuneoff.report.charts.definitions import build_charts
from tuneoff.report.files import write_built
from tuneoff.report.markdown import render

AXIS = AXES["forgetting"]


def test_a_change_has_an_interval_over_seeds_and_rows(tmp_path: Path) -> None:
    results = gather(held_store(tmp_path))
    lora = results.arm("lora")
    sample, estimated = change_sample(lora), estimate_change(lora)
    assert sample is not None
    assert sample.contributions is not None
    assert sample.contributions.shape == (3, 60)
    assert estimated is not None
    assert estimated.interval is not None
    assert estimated.interval.over == "seeds and examples"
    assert estimated.interval.low < 0.1 < estimated.interval.high


def test_rows_that_differ_between_seeds_leave_the_seeds_alone(tmp_path: Path) -> None:
    store = held_store(tmp_path)
    place = store.trial(next(trial for trial in store.trial_ids() if trial.startswith("lora-s1")))
    record = place.record()
    assert record is not None
    held = {
        name: score.model_copy(update={"fingerprint": "others", "changes": score.changes[:5]})
        for name, score in record.retention.held.items()
    }
    place.record_path.unlink()
    place.write_record(record.model_copy(update={"retention": record.retention.model_copy(update={"held": held})}))
    estimated = estimate_change(gather(store).arm("lora"))
    assert estimated is not None
    assert estimated.interval is not None
    assert estimated.interval.over == "seeds"


def test_the_summary_tells_each_thing_that_is_held_by_arm(tmp_path: Path) -> None:
    summary = report_retention(gather(held_store(tmp_path)))
    assert summary is not None
    prose, sums = summary.held
    assert (prose.name, prose.metric, prose.rows, prose.before) == ("prose", "bits_per_byte", 60, 1.2)
    assert [arm.method for arm in sums.arms] == ["full", "lora", "prompt_tuning"]
    for arm in prose.arms:
        assert arm.change.mean == pytest.approx(FORGOTTEN[arm.method], abs=0.05)
        assert arm.after == pytest.approx(1.2 + arm.change.mean)
    full, lora, prompt = summary.rewind
    assert [step.fraction for step in full.steps] == [0, 0.5, 1]
    assert lora.steps[0].quality.interval_low is not None
    assert (prompt.steps, prompt.reason) == ((), "prompt_tuning cannot be merged")


def test_the_axis_may_be_below_0_and_a_baseline_forgets_nothing(tmp_path: Path) -> None:
    draws = cost_draws(gather(held_store(tmp_path)), AXIS)
    assert draws.means["zero_shot"] == 0
    assert draws.means["prompt_tuning"] < 0
    assert np.mean(draws.drawn["prompt_tuning"] < 0) > 0.1
    assert np.std(draws.drawn["lora"]) > 0
    assert draws.still == ()


def test_without_what_is_held_the_axis_is_not_known_of_any_arm(tmp_path: Path) -> None:
    results = gather(page_store(tmp_path))
    assert report_retention(results) is None
    assert cost_draws(results, AXIS).means == {}
    report = build_report(results)
    assert report.retention is None
    assert columns.FORGETTING_COLUMN not in columns.costs(report)
    assert "## Retention" not in render(report, [])
    with pytest.raises(StudyError, match="--max-forgetting needs something") as caught:
        advise(page_store(tmp_path / "again"), Criteria({"forgetting": "0.1"}))
    assert "retention: docstrings" in caught.value.hint
    with pytest.raises(StudyError, match="--prefer forgetting needs"):
        advise(page_store(tmp_path / "more"), Criteria({}, prefer="forgetting"))


def test_a_limit_moves_the_recommendation(tmp_path: Path) -> None:
    store = held_store(tmp_path, seeds=6, forgotten={"full": 0.3, "prompt_tuning": -0.02})
    assert advise(store, Criteria({})).answer == "full"
    tight = advise(store, Criteria({"forgetting": "0.1"}, pareto=("quality,forgetting",)))
    assert tight.answer == "prompt_tuning"
    assert "forgetting at most 0.1" in str(tight)
    data = tight.as_data()
    assert set(data["pareto"][0]["front"]) >= {"full", "prompt_tuning"}
    by_label = {arm["method"]: arm for arm in data["arms"]}
    assert by_label["full"]["forgetting"] == pytest.approx(0.3, abs=0.05)
    assert not by_label["full"]["fits"]


@pytest.mark.parametrize("text", ["-1", "much", "0.1bits", "", "9" * 400])
def test_a_limit_is_a_number_of_0_or_more(text: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="--max-forgetting"):
        advise(held_store(tmp_path), Criteria({"forgetting": text}))
    assert advise(held_store(tmp_path / "zero"), Criteria({"forgetting": "0"})).answer == "prompt_tuning"


def test_every_form_of_the_report_tells_it(tmp_path: Path) -> None:
    results = gather(held_store(tmp_path))
    report = build_report(results)
    full = report.arm("full").forgetting
    assert full.mean == pytest.approx(0.3, abs=0.05)
    assert full.interval_low is not None
    negative = report.arm("prompt_tuning").forgetting
    assert negative.interval_low is not None
    assert negative.interval_low < 0
    folder = write_built(results, report, plots=False).parent
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "Part of the trained change" in text
        assert "forgetting" in text
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "| base model | 1.200 | – | 0.400 | – |" in markdown
    assert "prompt_tuning cannot be merged" in markdown
    assert "forgetting_mean" in (folder / "methods.csv").read_text(encoding="utf-8")
    explorer = page_data.explorer(report, "")
    assert explorer is not None
    axis = next(axis for axis in explorer["axes"] if axis["key"] == "forgetting")
    assert not axis["log"]
    assert next(limit for limit in explorer["limits"] if limit["key"] == "forgetting")["option"] == "--max-forgetting"


def test_charts_show_it_against_quality_and_along_the_way(tmp_path: Path) -> None:
    report = build_report(gather(held_store(tmp_path)))
    charts = {chart.name: chart for chart in build_charts(report)}
    plane = charts["quality_forgetting"]
    assert plane.x.scale == "linear"
    assert {series.label for series in plane.series} == set(FORGOTTEN), "the one below 0 is there too"
    for name in ("rewind_quality", "rewind_retention"):
        assert [series.label for series in charts[name].series] == ["full", "lora"]
        assert charts[name].series[0].x == (0, 0.5, 1)


def test_a_record_without_retention_tells_none() -> None:
    record = TrialRecord.model_validate({"spec": plan(small_study("lora"))[0].model_dump(), "status": "completed"})
    assert record.retention.forgetting is None
    assert math.isfinite(retention_of(record.spec, 0.1).forgetting or math.nan)
