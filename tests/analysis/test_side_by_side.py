"""Studies side by side: arms next to each other, one verdict, and different questions refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, data, small_study
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.racing import joined_looks
from tuneoff.analysis.results import gather
from tuneoff.analysis.side_by_side import join
from tuneoff.config.protocol import RaceSpec
from tuneoff.config.spec import StudySpec
from tuneoff.errors import StoreError, StudyError
from tuneoff.records.record import ModelInfo
from tuneoff.report.builder import build_report
from tuneoff.store import StudyStore

LEVELS = {"majority": Level(0.5), "full": Level(0.95, 30.0), "lora": Level(0.9, 8.0), "head": Level(0.6, 3.0)}


def build(folder: Path, *labels: str, study: StudySpec | None = None, **world: Any) -> Path:
    made = study or small_study(*labels, seeds=6)
    return build_store(folder, made, World(**{"levels": LEVELS, **world})).root


def test_rows_of_one_label_stand_next_to_each_other_and_are_compared(tmp_path: Path) -> None:
    first = build(tmp_path / "a", "majority", "lora", "full")
    second = build(tmp_path / "b", "lora", "head", levels={**LEVELS, "lora": Level(0.7, 4.0)})
    joined = join([first, second])
    assert [arm.label for arm in joined.results.arms] == ["majority", "lora [a]", "lora [b]", "full", "head"]
    assert joined.studies == {"majority": "a", "lora [a]": "a", "lora [b]": "b", "full": "a", "head": "b"}
    metric = joined.results.primary
    assert metric is not None
    found = Outcomes(joined.results).verdict(metric)
    assert found is not None
    # The same trial ids, but each study's own predictions.
    pair = found.pair("lora [a]", "lora [b]")
    assert pair.relation == "ahead"
    assert pair.examples == 400
    assert found.estimate("lora [b]").mean < found.estimate("lora [a]").mean
    assert found.pair("full", "head").relation == "ahead"


def test_the_merged_summary_is_a_whole_report(tmp_path: Path) -> None:
    joined = join([build(tmp_path / "a", "lora", "full"), build(tmp_path / "b", "head")])
    body = build_report(joined.results).as_data()
    assert body["trials"] == {"planned": 18, "recorded": 18, "completed": 18}
    assert body["answer"]["best"] == "full"
    assert joined.notes == ()


def test_more_seeds_and_other_methods_are_the_same_question(tmp_path: Path) -> None:
    joined = join([build(tmp_path / "a", "lora"), build(tmp_path / "b", study=small_study("lora", seeds=2))])
    assert [len(arm.completed) for arm in joined.results.arms] == [6, 2]


def test_a_search_or_a_shared_rate_is_noted_not_refused(tmp_path: Path) -> None:
    shared = small_study("lora", seeds=2)
    shared = shared.model_copy(update={"protocol": shared.protocol.model_copy(update={"learning_rate": 1e-3})})
    joined = join([build(tmp_path / "a", study=small_study("lora", seeds=2)), build(tmp_path / "b", study=shared)])
    assert "a: every arm's own rate; b: one rate for all, 0.001" in joined.notes[0]


def test_another_protocol_is_refused_with_the_difference(tmp_path: Path) -> None:
    other = small_study("lora", seeds=2)
    other = other.model_copy(update={"protocol": other.protocol.model_copy(update={"epochs": 7})})
    with pytest.raises(StudyError, match=r"do not answer the same question.*protocol.epochs: 3 there, 7 here"):
        join([build(tmp_path / "a", "lora"), build(tmp_path / "b", study=other)])


def test_other_rows_are_refused_though_the_study_reads_alike(tmp_path: Path) -> None:
    seen = data(0, 400)
    splits = {**seen.splits, "test": seen.splits["test"].model_copy(update={"fingerprint": "another"})}
    changed = {"lora": {"data": seen.model_copy(update={"splits": splits})}}
    with pytest.raises(StudyError, match="their test rows are not the same"):
        join([build(tmp_path / "a", "lora"), build(tmp_path / "b", "lora", changes=changed)])


def test_the_same_rows_under_another_name_are_the_same(tmp_path: Path) -> None:
    other = small_study("lora", seeds=2)
    renamed = other.task.data.model_copy(update={"train": other.task.data.train.model_copy(update={"source": "copy"})})
    other = other.model_copy(update={"task": other.task.model_copy(update={"data": renamed})})
    join([build(tmp_path / "a", "lora"), build(tmp_path / "b", study=other)])
    unseen = {"lora": {"data": None}}
    with pytest.raises(StudyError, match=r"task.data.train.source: reuters-r8 there, copy here"):
        join([build(tmp_path / "c", "lora", changes=unseen), build(tmp_path / "d", study=other, changes=unseen)])


def test_rows_that_nobody_recorded_are_noted(tmp_path: Path) -> None:
    joined = join([build(tmp_path / "a", "lora"), build(tmp_path / "b", "full", changes={"full": {"data": None}})])
    assert joined.notes == ("Which rows were read is not recorded in b, so it could not be checked.",)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    other = {"lora": {"model": ModelInfo(source="minilm", checksum="other")}}
    with pytest.raises(StudyError, match="different weights of the base model"):
        join([build(tmp_path / "a", "lora"), build(tmp_path / "b", "lora", changes=other)])


def test_folders_of_one_name_are_told_apart_by_their_parents(tmp_path: Path) -> None:
    joined = join([build(tmp_path / "x" / "s", "lora"), build(tmp_path / "y" / "s", "full")])
    assert list(joined.studies.values()) == ["x-s", "y-s"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one = build(tmp_path / "a", "lora")
    with pytest.raises(StudyError, match="nothing to be compared with"):
        join([one])
    with pytest.raises(StudyError, match="is named twice"):
        join([one, tmp_path / "." / "a"])
    with pytest.raises(StoreError, match="is not there"):
        join([one, tmp_path / "nowhere"])
    empty = build(tmp_path / "b", "lora", skip=frozenset(("lora", seed) for seed in range(6)))
    with pytest.raises(StudyError, match="b has no completed trial"):
        join([one, empty])


def raced(folder: Path, first: str, second: str, seeds: tuple[int, ...] = tuple(range(8))) -> Path:
    """A race of two equal arms, 6 to 8 seeds, that the second left at 6."""
    study = small_study(first, second)
    changes = {"seeds": seeds, "race": RaceSpec(min=6, max=8)}
    study = study.model_copy(update={"protocol": study.protocol.model_copy(update=changes)})
    skip = frozenset((second, seed) for seed in seeds[6:])
    return build(folder, study=study, levels={label: Level(0.9) for label in (first, second)}, skip=skip)


def test_arms_of_races_of_their_own_are_compared_at_the_looks_that_both_had(tmp_path: Path) -> None:
    joined = join([raced(tmp_path / "a", "lora", "head"), raced(tmp_path / "b", "full", "ia3")])
    outcomes, metric = Outcomes(joined.results), joined.results.primary
    assert metric is not None
    found = outcomes.verdict(metric)
    assert found is not None
    assert [found.pair("lora", other).seeds for other in ("full", "ia3", "head")] == [8, 6, 6]
    report = build_report(joined.results)
    assert report.race is None, "no race goes on in several studies together"
    assert "unequal_seeds" in {warning.name for warning in report.warnings}


def test_the_looks_of_a_race_count_wherever_its_study_stands(tmp_path: Path) -> None:
    seeds = (9, 8, 7, 0, 1, 2, 3, 4)
    race = raced(tmp_path / "race", "full", "ia3", seeds)
    joined = join([build(tmp_path / "fixed", "lora"), race])
    protocol = joined.results.study.protocol
    assert protocol.race == RaceSpec(min=6, max=8)
    assert protocol.seeds == (*seeds, 5)
    looks = joined_looks(joined.results)
    assert looks is not None
    assert looks.done == {"lora": 0, "full": 2, "ia3": 1}
    assert joined_looks(gather(StudyStore(race))) is None


def test_the_numbers_of_seeds_of_other_studies_are_no_looks(tmp_path: Path) -> None:
    folders = [build(tmp_path / str(seeds), study=small_study("lora", seeds=seeds)) for seeds in (6, 8)]
    for folder in folders:
        store = StudyStore(folder)
        store.note_look(store.study())
    assert "unplanned_looks" not in {warning.name for warning in build_report(join(folders).results).warnings}
    StudyStore(folders[1]).note_look(StudyStore(folders[0]).study())
    assert "unplanned_looks" in {warning.name for warning in build_report(join(folders).results).warnings}
