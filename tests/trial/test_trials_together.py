"""Records of trials that shared a process: those of separate runs but for what the process took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import MakePlace
from tuneoff.analysis.figures import why_missing
from tuneoff.errors import CannotTrainTogether, Diverged
from tuneoff.records.record import Memory, Timing, TrialRecord
from tuneoff.store import TrialStore
from tuneoff.trial.run import run
from tuneoff.trial.together import run_together

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

PROTOCOL = {"epochs": 2, "learning_rate": 0.01, "max_length": 40}


def places(make_place: MakePlace, method: str, count: int = 3, **protocol: Any) -> list[TrialStore]:
    return [make_place(method, seed=seed, protocol={**PROTOCOL, **protocol}) for seed in range(count)]


def run_group(group: list[TrialStore], scratch: Path | None = None) -> dict[TrialStore, Exception]:
    failures: dict[TrialStore, Exception] = {}
    run_together(group, "cpu", time.perf_counter(), failures.__setitem__, scratch=scratch)
    return failures


def sealed(place: TrialStore) -> TrialRecord:
    record = place.record()
    assert record is not None
    return record


@pytest.mark.parametrize(("method", "precision"), [("lora", "fp32"), ("head", "bf16"), ("bitfit", "fp32")])
def test_records_are_those_of_separate_runs_without_costs(
    method: str, precision: str, make_place: MakePlace, tmp_path: Path
) -> None:
    """With a frozen prefix that is kept (`head`), under bf16, and with a scored position computed alone."""
    together, alone = (places(make_place, method, precision=precision, batch_size=6) for _ in range(2))
    assert not run_group(together, tmp_path)
    tolerance = 1e-4 if precision == "fp32" else 0.05
    for place, separate in zip(together, alone, strict=True):
        expected = run(separate, "cpu", time.perf_counter(), scratch=tmp_path)
        record = sealed(place)
        assert record.spec == expected.spec
        assert record.gradient_norm.per_step == pytest.approx(expected.gradient_norm.per_step, rel=tolerance)
        assert [m.name for m in record.metrics] == [m.name for m in expected.metrics]
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in expected.metrics], rel=tolerance)
        for name in ("steps", "selected_step", "parameters", "data", "model", "precision", "stored_bytes"):
            assert getattr(record, name) == getattr(expected, name), name
        # Whether the machine was busy is told of a trial that is timed.
        assert record.findings == tuple(f for f in expected.findings if f.name != "contended")
        assert record.throughput.padding_share == expected.throughput.padding_share
        for one, other in zip(place.predictions() or [], separate.predictions() or [], strict=True):
            assert one.scores == pytest.approx(other.scores, rel=tolerance, abs=tolerance)
        assert place.weights.is_dir()
        place.verify(record)

        assert record.timing == Timing(first_steps=expected.timing.first_steps)
        assert record.memory == Memory()
        assert (record.utilisation, record.energy_joules) == (None, None)
        assert record.inference.latency_seconds_median is None
        figures = ("timing.train_seconds", "memory.peak_memory_bytes", "utilisation", "energy_joules")
        assert record.inference.batch_size is None
        inference = ("inference.latency_seconds_median", "inference.batch_size")
        for figure in (*figures, *inference, "throughput.tokens_per_second"):
            assert why_missing(record, figure) == "trained together with 2 others", figure
        assert expected.timing.train_seconds


def test_one_that_diverges_is_told_and_the_others_have_records(make_place: MakePlace) -> None:
    group = places(make_place, "lora")
    group[1] = make_place("lora", seed=1, protocol={**PROTOCOL, "learning_rate": 1e30})
    failures = run_group(group)
    assert list(failures) == [group[1]]
    assert isinstance(failures[group[1]], Diverged)
    assert [place.record() is None for place in group] == [False, True, False]


def test_what_cannot_be_trained_together_leaves_no_record(make_place: MakePlace) -> None:
    group = places(make_place, "full")
    with pytest.raises(CannotTrainTogether):
        run_group(group)
    assert all(place.record() is None for place in group)


def test_one_whose_evaluation_fails_is_told_and_the_others_have_records(
    make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = places(make_place, "head", 2)
    write = TrialStore.write_predictions

    def refuse(self: TrialStore, *args: Any) -> Any:
        if self.folder == group[0].folder:
            raise OSError("no space left")
        return write(self, *args)

    monkeypatch.setattr(TrialStore, "write_predictions", refuse)
    failures = run_group(group)
    assert list(failures) == [group[0]]
    assert group[1].record() is not None


def test_why_a_trial_was_trained_apart_is_a_finding(make_place: MakePlace) -> None:
    (place,) = places(make_place, "head", 1)
    record = run(place, "cpu", time.perf_counter(), apart="vmap has no such operation")
    (finding,) = [finding for finding in record.findings if finding.name == "trained_apart"]
    assert finding.message == "not trained together with others: vmap has no such operation"
