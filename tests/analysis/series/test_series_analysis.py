"""What the members of a series say together: sizes, bases, data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from record_helpers import World, small_study
from series_helpers import add_member, based_series, set_series, sized_series, write_series
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.series.bases import join_bases
from tuneoff.analysis.series.members import NOT_RUN, NOTHING_COMPLETED, gather_series
from tuneoff.analysis.series.sets import rank_over_sets
from tuneoff.analysis.series.sizes import OTHER_EXAMPLES, find_sizes
from tuneoff.errors import StoreError
from tuneoff.records.record import Metric

SIZES = {250: 0.60, 500: 0.70, 1000: 0.77, 2000: 0.82}
CROSSED = {250: 0.72, 500: 0.73, 1000: 0.735, 2000: 0.74}


def test_members_without_a_result_are_left_out_and_named(tmp_path: Path) -> None:
    skipped = frozenset(("lora", seed) for seed in range(2)) | {("majority", 0), ("majority", 1)}
    add_member(tmp_path, "250", small_study("majority", "lora"), World())
    add_member(tmp_path, "500", small_study("majority", "lora"), World(skip=skipped))
    series = gather_series(write_series(tmp_path, "train_rows", {"250": 250, "500": 500, "1000": 1000}))
    assert [member.name for member in series.members] == ["250"]
    assert series.left_out == {"500": NOTHING_COMPLETED, "1000": NOT_RUN}
    with pytest.raises(StoreError, match="is completed yet"):
        gather_series(write_series(tmp_path / "empty", "model", {"minilm": "minilm"}))


def test_a_member_that_cannot_be_read_takes_no_other_with_it(tmp_path: Path) -> None:
    store = sized_series(tmp_path, {"lora": SIZES})
    (tmp_path / "members" / "250" / "study.json").write_text("{", encoding="utf-8")
    store.note_problem("500", "the disk is full.\nMake room.")
    (tmp_path / "members" / "500" / "study.json").unlink()
    series = gather_series(store)
    assert [member.name for member in series.members] == ["1000", "2000"]
    assert "study.json" in series.left_out["250"]
    assert series.left_out["500"] == "the disk is full. Make room", "one line, without the stop of a sentence"


def test_every_arm_that_trains_has_a_curve_over_the_rows_that_trials_saw(tmp_path: Path) -> None:
    series = gather_series(sized_series(tmp_path, {"lora": SIZES, "head": CROSSED, "full": {1000: 0.8, 2000: 0.85}}))
    sizes = find_sizes(series)
    assert [(arm.label, arm.curve.rows) for arm in sizes.arms] == [
        ("lora", (250, 500, 1000, 2000)),
        ("head", (250, 500, 1000, 2000)),
        ("full", (1000, 2000)),
    ]
    assert [len(arm.curve.laws) for arm in sizes.arms] == [2, 2, 0]
    assert sizes.arms[0].members == ("250", "500", "1000", "2000")
    assert sizes.notes == ()
    gain = sizes.arms[0].curve.gains[1].gain
    assert 0 < gain.low < gain.value < 0.12


def test_a_crossing_is_shown_where_both_are_significantly_ahead_in_turn(tmp_path: Path) -> None:
    sizes = find_sizes(gather_series(sized_series(tmp_path, {"lora": SIZES, "head": CROSSED})))
    crossing = sizes.crossings[0]
    assert (crossing.crossing.first, crossing.crossing.second, crossing.shown) == ("head", "lora", True)
    assert 500 < crossing.crossing.rows < 1000
    few = find_sizes(gather_series(sized_series(tmp_path / "few", {"lora": SIZES, "head": CROSSED}, seeds=2)))
    assert [each.shown for each in few.crossings] == [False], "two seeds show nothing"


def test_sizes_that_were_tested_on_other_examples_are_compared_by_seeds_alone(tmp_path: Path) -> None:
    sized_series(tmp_path, {"lora": {250: 0.6, 500: 0.7}})
    sized_series(tmp_path / "others", {"lora": {1000: 0.8}}, test_rows=300)
    (tmp_path / "others/members/1000").rename(tmp_path / "members/1000")
    series = gather_series(write_series(tmp_path, "train_rows", {"250": 250, "500": 500, "1000": 1000}))
    sizes = find_sizes(series)
    assert sizes.notes == (OTHER_EXAMPLES,)
    assert len(sizes.arms[0].curve.laws) == 2


def test_the_arms_of_all_bases_are_compared_as_arms_of_one_study(tmp_path: Path) -> None:
    series = gather_series(based_series(tmp_path, {"minilm": {"lora": 0.7, "full": 0.8}, "other": {"lora": 0.9}}))
    joined = join_bases(series)
    labels = [arm.label for arm in joined.results.arms]
    assert labels == ["majority", "lora [minilm]", "lora [other]", "full"]
    assert joined.studies["lora [other]"] == "other"
    assert joined.results.study.name == "made up"
    metric = joined.results.primary
    assert metric is not None
    outcomes = Outcomes(joined.results)
    verdict = outcomes.verdict(metric)
    assert verdict is not None
    pair = verdict.pair("lora [other]", "lora [minilm]")
    assert (pair.relation, pair.examples, pair.test) == ("ahead", 400, "seeds and examples")
    assert len(verdict.pairs) == 6, "one correction over all pairs of all bases"


def test_losses_per_token_are_left_out_between_bases_and_bits_per_byte_take_their_place(tmp_path: Path) -> None:
    series = gather_series(based_series(tmp_path, {"gpt": {"lora": 0.3}, "other": {"lora": 0.35}}, writes=True))
    joined = join_bases(series)
    names = {metric.name for record in joined.results.records for metric in record.metrics}
    assert names.isdisjoint({"loss", "perplexity"})
    assert "rouge_l" in names
    assert any("loss and perplexity are left out" in note for note in joined.notes)
    own = {metric.name for record in series.members[0].results.records for metric in record.metrics}
    assert {"loss", "perplexity"} <= own, "a base's own report keeps them"


def test_arms_are_ranked_over_data_sets_by_each_set_s_own_metric(tmp_path: Path) -> None:
    scores = {
        name: {"lora": 0.8 + shift, "full": 0.75 + shift, "head": 0.6 + shift}
        for name, shift in (("a", 0.0), ("b", 0.1), ("c", -0.1), ("d", 0.05))
    }
    series = gather_series(set_series(tmp_path, scores))
    sets = rank_over_sets(series)
    assert sets.ranking is not None
    assert list(sets.ranking.ranks) == ["lora", "full", "head", "majority"]
    assert sets.few
    assert sets.left_out == ()
    assert ("lora", "majority") in sets.ranking.different
    assert list(rank_over_sets(series, ["full", "head"]).ranking.ranks) == ["full", "head"]  # type: ignore[union-attr]
    assert rank_over_sets(series, ["full"]).ranking is None


def test_arms_are_ranked_by_the_metric_that_is_named(tmp_path: Path) -> None:
    scores = {name: {"lora": 0.8 + shift, "full": 0.75 + shift} for name, shift in (("a", 0.0), ("b", 0.1))}
    series = gather_series(set_series(tmp_path, scores))
    least = {member.name: member.metric.model_copy(update={"direction": "lower"}) for member in series.members}
    ranking = rank_over_sets(series, metrics=least).ranking
    assert ranking is not None
    assert list(ranking.ranks) == ["majority", "full", "lora"]


def test_arms_that_a_set_lacks_are_not_ranked(tmp_path: Path) -> None:
    series = gather_series(set_series(tmp_path, {"a": {"lora": 0.8, "full": 0.7}, "b": {"lora": 0.8}}))
    sets = rank_over_sets(series)
    assert sets.left_out == ("full",)
    assert sets.ranking is not None
    assert set(sets.ranking.ranks) == {"lora", "majority"}


def test_a_metric_of_which_less_is_better_is_ranked_the_other_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = gather_series(set_series(tmp_path, {"a": {"lora": 0.8, "full": 0.7}}))
    member = series.members[0]
    loss = next(m for m in member.results.completed[0].metrics if (m.name, m.split) == ("loss", "test"))
    monkeypatch.setattr(type(member), "metric", property(lambda _: loss))
    ranking = rank_over_sets(series).ranking
    assert isinstance(loss, Metric)
    assert ranking is not None
    assert next(iter(ranking.ranks)) == "lora"
