"""Several studies that differ in one thing: run, broken off, gone on with, and read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import tuneoff
from tuneoff.config.spec import StudySpec, TrialSpec
from tuneoff.errors import CorruptRecord, SourceNotFound, StoreError, StudyError
from tuneoff.executors.base import Inspection, Progress
from tuneoff.store import SeriesStore, StudyStore
from tuneoff.store.lock import hold
from tuneoff.study.series import Series
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)

SIZES = ["protocol.train_rows=[8, 4]"]
BASES = ["model=[minilm, org/other]"]


@pytest.fixture(autouse=True)
def sizes_go_with_the_rows(fake_executor: FakeExecutor) -> None:
    fake_executor.answers["check_sizes"] = None


@pytest.fixture
def without_other(fake_executor: FakeExecutor) -> None:
    """The second of the base models cannot be had."""
    inspect: Callable[..., Inspection] = fake_executor.inspect

    def refuse(study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        if study.model.source == "org/other":
            raise SourceNotFound("no model org/other")
        return inspect(study, trials, require_data)

    fake_executor.inspect = refuse


def manifest(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "series.json").read_text(encoding="utf-8"))
    return found


def test_a_series_runs_every_member_in_a_folder_of_its_own(small_study: Path, fake_executor: FakeExecutor) -> None:
    series = tuneoff.Series(small_study, overrides=SIZES).run("sizes")
    assert [(entry["name"], entry["value"], entry["folder"]) for entry in manifest("sizes")["members"]] == [
        ("4", 4, "members/4"),
        ("8", 8, "members/8"),
    ]
    assert (manifest("sizes")["version"], manifest("sizes")["axis"]) == (1, "train_rows")
    for name, size in (("4", 4), ("8", 8)):
        member = Study.open(f"sizes/members/{name}")
        assert (member.spec.name, member.spec.protocol.train_rows) == (f"small-{name}", size)
        assert len(member.records()) == 6
        assert [trial.id for trial in member.plan()] == [
            trial.id for trial in Study(small_study, overrides=[f"protocol.train_rows={size}"]).plan()
        ]
    assert list(series.results()["member"]) == ["4"] * 6 + ["8"] * 6
    assert (fake_executor.closed, fake_executor.calls) == (True, [])


def test_an_interrupted_series_goes_on_where_it_was(small_study: Path, fake_executor: FakeExecutor) -> None:
    fake_executor.raise_at = 2
    with pytest.raises(KeyboardInterrupt):
        Series(small_study, overrides=SIZES).run("out")
    assert len(StudyStore(Path("out/members/4")).records()) == 2
    assert not StudyStore(Path("out/members/8")).is_there
    fake_executor.raise_at = None
    heard: list[Progress] = []
    series = Series.open("out").run("out", heard.append)
    assert series.problems == {}
    assert [p.kind for p in heard if p.kind in ("skipped", "ended")] == ["skipped"] * 2 + ["ended"] * 10
    again: list[Progress] = []
    Series.open("out").run("out", again.append)
    assert {p.kind for p in again} == {"skipped"}


def test_a_member_that_cannot_be_run_loses_nothing_of_the_others(
    small_study: Path, without_other: None, fake_executor: FakeExecutor
) -> None:
    series = Series(small_study, overrides=["model=[org/other, minilm]"]).run("bases")
    assert {name: str(error) for name, error in series.problems.items()} == {"other": "no model org/other"}
    other, minilm = SeriesStore.open("bases").members
    assert (other.name, other.problem, other.store.is_there) == ("other", "no model org/other", False)
    assert (minilm.problem, len(minilm.store.records())) == ("", 6)
    assert set(series.results()["member"]) == {"minilm"}


def test_a_problem_that_has_gone_is_no_longer_told(
    small_study: Path, without_other: None, fake_executor: FakeExecutor
) -> None:
    Series(small_study, overrides=BASES).run("bases")
    assert SeriesStore("bases").find("other").problem
    del fake_executor.inspect
    Series.open("bases").run("bases")
    assert not SeriesStore("bases").find("other").problem


def test_a_series_of_which_nothing_can_be_run_raises_the_one_reason(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    fake_executor.inspect_error = SourceNotFound("no rows", hint="Name others.")
    with pytest.raises(SourceNotFound, match="no rows"):
        Series(small_study, overrides=BASES).run("bases")


def test_reasons_that_differ_are_told_of_each_member(small_study: Path, fake_executor: FakeExecutor) -> None:
    def refuse(study: StudySpec, trials: Sequence[TrialSpec], require_data: bool) -> Inspection:
        raise SourceNotFound(f"no model {study.model.source}")

    fake_executor.inspect = refuse
    with pytest.raises(StudyError) as caught:
        Series(small_study, overrides=BASES).run("bases")
    assert [problem.where for problem in caught.value.problems] == ["minilm", "other"]


def test_sizes_that_do_not_go_with_the_rows_leave_nothing(small_study: Path, fake_executor: FakeExecutor) -> None:
    with pytest.raises(StudyError, match=r"5,000 is more than the 14 training rows that there are"):
        Series(small_study, overrides=["protocol.train_rows=[4, 5000]"]).run("sizes")
    assert not Path("sizes").exists()


def test_rows_that_are_not_small_files_are_looked_at_in_a_child_while_there_is_something_to_train(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneoff.trial.early.SMALL_BYTES", 10)
    for _ in range(2):
        Series(small_study, overrides=SIZES).run("sizes")
    assert [(verb, payload["sizes"]) for verb, payload in fake_executor.calls] == [("check_sizes", [4, 8])]


def test_further_sizes_join_a_folder_and_stay_in_order(small_study: Path, fake_executor: FakeExecutor) -> None:
    Series(small_study, overrides=SIZES).run("sizes")
    heard: list[Progress] = []
    Series(small_study, overrides=["protocol.train_rows=[4, 6]"]).run("sizes", heard.append)
    assert [member.name for member in SeriesStore("sizes").members] == ["4", "6", "8"]
    assert [p.kind for p in heard if p.kind in ("skipped", "ended")] == ["skipped"] * 6 + ["ended"] * 6
    assert list(Series.open("sizes").members) == ["4", "6"], "what was asked for last"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("protocol.epochs=2", "protocol.epochs: 1 there, 2 here"),
        ("methods.full.learning_rate=0.5", "other options of full"),
    ],
)
def test_further_members_that_differ_in_more_than_the_list_are_refused(
    change: str, told: str, small_study: Path, fake_executor: FakeExecutor
) -> None:
    Series(small_study, overrides=SIZES).run("sizes")
    with pytest.raises(
        StoreError, match=r"member 4, which differs from these in more than protocol\.train_rows"
    ) as caught:
        Series(small_study, overrides=["protocol.train_rows=[5, 6]", change]).run("sizes")
    assert told in caught.value.message
    assert [member.name for member in SeriesStore("sizes").members] == ["4", "8"]
    Series(small_study, overrides=["protocol.train_rows=[5, 6]"], seeds=1).run("sizes")


def test_further_models_and_data_sets_join_those_of_an_equal_protocol(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    Series(small_study, overrides=BASES).run("bases")
    Series(small_study, overrides=["model=[org/third, org/fourth]"]).run("bases")
    assert [member.name for member in SeriesStore("bases").members] == ["minilm", "other", "third", "fourth"]
    with pytest.raises(StoreError, match="differs from these in more than model"):
        Series(small_study, overrides=["model=[org/a, org/b]", "protocol.epochs=2"]).run("bases")


def test_a_folder_of_something_else_is_refused(small_study: Path, fake_executor: FakeExecutor) -> None:
    Series(small_study, overrides=SIZES).run("sizes")
    Study(small_study).run("one")
    (Path("full") / "of").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"a series over protocol\.train_rows, and this one is over model"):
        Series(small_study, overrides=BASES).run("sizes")
    with pytest.raises(StoreError, match="asks something else"):
        Series(small_study, overrides=[*SIZES, "protocol.epochs=2"]).run("sizes")
    with pytest.raises(StoreError, match="holds one study, not a series"):
        Series(small_study, overrides=SIZES).run("one")
    with pytest.raises(StoreError, match="is not empty and not a series"):
        Series(small_study, overrides=SIZES).run("full")
    with pytest.raises(StoreError, match="is not empty and not a study"):
        Study(small_study).run("sizes")


def test_one_study_of_a_series_is_asked_for_by_its_members_folder(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    Series(small_study, overrides=SIZES).run("sizes")
    with pytest.raises(StoreError, match="holds a series of studies") as caught:
        Study.open("sizes")
    assert "sizes/members/4, sizes/members/8" in caught.value.hint
    with pytest.raises(StoreError, match="is not a series' folder"):
        Series.open("sizes/members/4")
    with pytest.raises(StoreError, match="is not there"):
        Series.open("nowhere")
    with pytest.raises(StoreError, match="has no member '5'"):
        SeriesStore("sizes").find("5")


def test_a_new_folder_takes_over_what_others_beside_it_have_finished(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    Series(small_study, overrides=SIZES).run()
    Study(small_study, overrides=["protocol.train_rows=6"]).run()
    heard: list[Progress] = []
    series = Series(small_study, overrides=["protocol.train_rows=[4, 6, 7]"]).run(None, heard.append)
    assert series.folder is not None
    assert series.folder != Series(small_study, overrides=SIZES).default_folder
    assert [p.kind for p in heard if p.kind in ("skipped", "ended")] == ["skipped"] * 12 + ["ended"] * 6


def test_a_series_beside_it_that_cannot_be_read_stops_no_run(small_study: Path, fake_executor: FakeExecutor) -> None:
    first = Series(small_study, overrides=SIZES).run()
    assert first.folder is not None
    (first.folder / "series.json").write_text("{", encoding="utf-8")
    assert Series(small_study, overrides=["protocol.train_rows=[4, 6]"]).run().problems == {}


def test_two_runs_of_one_series_at_once_are_refused(small_study: Path, fake_executor: FakeExecutor) -> None:
    with hold(Path("sizes/lock")), pytest.raises(StoreError, match="another run is writing"):
        Series(small_study, overrides=SIZES).run("sizes")


def test_a_damaged_manifest_is_made_anew_by_a_run(small_study: Path, fake_executor: FakeExecutor) -> None:
    Series(small_study, overrides=SIZES).run("sizes")
    path = Path("sizes/series.json")
    path.write_text(path.read_text(encoding="utf-8").replace("members/4", "../4"), encoding="utf-8")
    with pytest.raises(CorruptRecord):
        Series.open("sizes")
    heard: list[Progress] = []
    Series(small_study, overrides=SIZES).run("sizes", heard.append)
    assert {p.kind for p in heard} == {"skipped"}
    assert [member.name for member in Series.open("sizes").store.members] == ["4", "8"]


def test_a_series_made_by_hand_without_a_checksum_is_read(small_study: Path, fake_executor: FakeExecutor) -> None:
    Series(small_study, overrides=SIZES).run("sizes")
    body = manifest("sizes")
    del body["sha256"]
    for entry in body["members"]:
        del entry["problem"]
    Path("sizes/series.json").write_text(json.dumps(body), encoding="utf-8")
    assert [member.problem for member in SeriesStore.open("sizes").members] == ["", ""]
    assert SeriesStore.open("sizes").name == "small"


def test_methods_seeds_and_an_executor_are_those_of_all_members(small_study: Path, fake_executor: FakeExecutor) -> None:
    series = Series(small_study, overrides=SIZES, methods=["full"], seeds=3, executor=fake_executor, device="cuda")
    assert {len(trials) for trials in series.run("sizes").plan().values()} == {3}
    assert (fake_executor.closed, fake_executor.device) == (False, "")
    assert repr(series) == "<Series 'small': protocol.train_rows 4, 8, folder 'sizes'>"
    named = Series(series.spec, executor="local")
    assert named.spec == series.spec
    assert Series(small_study, overrides=SIZES).results().empty


def test_a_series_without_a_list_and_a_study_with_one_are_refused(small_study: Path) -> None:
    with pytest.raises(StudyError, match="no list makes this a series"):
        Series(small_study)
    with pytest.raises(StudyError, match="a list of sizes is a series"):
        Study(small_study, overrides=SIZES)


@pytest.mark.parametrize(
    "override",
    ["protocol.seeds=race", "protocol.splits=per_seed", "protocol.search={trials: 24, per_seed: true}"],
)
def test_races_draws_and_searches_are_those_of_each_member(
    override: str, small_study: Path, fake_executor: FakeExecutor
) -> None:
    series = Series(small_study, overrides=[*SIZES, override]).run("sizes")
    alone = {size: Study(small_study, overrides=[f"protocol.train_rows={size}", override]) for size in ("4", "8")}
    assert series.problems == {}
    for name, study in alone.items():
        study.run(f"alone-{name}")
        ids = [StudyStore(Path(folder)).trial_ids() for folder in (f"sizes/members/{name}", f"alone-{name}")]
        assert ids[0] == ids[1]
