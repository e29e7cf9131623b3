"""What a run shows while it runs."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from forecast_helpers import arm_forecast
from tuneoff.cli.live import view
from tuneoff.cli.live.arm_progress import ArmProgress
from tuneoff.cli.live.run_progress import PREPARING, RunProgress
from tuneoff.cli.live.trial_wording import outcome
from tuneoff.cli.wording import seconds
from tuneoff.config.spec import TrialSpec
from tuneoff.executors.base import Progress
from tuneoff.records.forecast_sums import study_forecast
from tuneoff.records.record import Status, TrialRecord
from tuneoff.study.study import Study

pytest_plugins = ("cli_fixtures",)

RecordOf = Callable[..., TrialRecord]
STEP = {"kind": "step", "step": 10, "steps": 40, "epoch": 0.5, "epochs": 2, "loss": 0.71234}
STEP |= {"examples_per_second": 45.2, "elapsed_seconds": 5.0}


class Clock:
    """Time that passes when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def board(small_trials: list[TrialSpec], lines: list[str], clock: Clock) -> RunProgress:
    return RunProgress(small_trials, lines.append, interval=10.0, clock=clock)


def hear(board: RunProgress, trial: TrialSpec, **event: Any) -> None:
    board.update(Progress("event", trial, event))


def test_start_and_end_are_one_line_each(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], clock: Clock, fake_record: RecordOf
) -> None:
    board.update(Progress("started", small_trials[1]))
    clock.now += 12
    board.update(Progress("ended", small_trials[1], record=fake_record(small_trials[1])))
    assert lines[0] == "[2/6] full seed 0: started"
    assert lines[1].startswith("[2/6] full seed 0: completed in 12 s, test accuracy 0.900")


def test_lines_between_come_once_an_interval(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], clock: Clock
) -> None:
    board.update(Progress("started", small_trials[1]))
    for _ in range(50):
        clock.now += 0.5
        hear(board, small_trials[1], **STEP)
    assert len(lines) == 1 + 2
    hear(board, small_trials[1], kind="phase", phase="train")
    for part in ("epoch 0.5/2", "step 10/40", "loss 0.712", "45 examples/s"):
        assert part in lines[-1]


def test_validation_metric_and_phase_are_described(board: RunProgress, small_trials: list[TrialSpec]) -> None:
    board.update(Progress("started", small_trials[1]))
    hear(board, small_trials[1], kind="phase", phase="train")
    hear(board, small_trials[1], **STEP)
    hear(board, small_trials[1], kind="validation", step=10, metrics={"accuracy": 0.8125, "loss": 0.3})
    place = ["train", "epoch 0.5/2", "0.0 s", "about 15 s left"]
    figures = ["step 10/40", "loss 0.712", "validation accuracy 0.812", "45 examples/s"]
    assert list(board.describe(board.running[small_trials[1].id]).values()) == [*place, *figures]


@pytest.fixture
def writing_board(writing_study: Path, lines: list[str], clock: Clock) -> RunProgress:
    return RunProgress(Study(writing_study).plan(), lines.append, interval=10.0, clock=clock)


def test_the_validation_metric_shown_is_the_one_that_selects(writing_board: RunProgress) -> None:
    lora = writing_board.trials[1]
    writing_board.update(Progress("started", lora))
    hear(writing_board, lora, kind="validation", step=10, metrics={"perplexity": 21.3, "loss": 3.06})
    assert writing_board.describe(writing_board.running[lora.id])["validation"] == "validation loss 3.060"
    chosen = lora.model_copy(update={"protocol": lora.protocol.model_copy(update={"select_metric": "perplexity"})})
    board = RunProgress([chosen], lambda _: None)
    board.update(Progress("started", chosen))
    hear(board, chosen, kind="validation", step=10, metrics={"loss": 3.06, "perplexity": 21.3})
    assert board.describe(board.running[chosen.id])["validation"] == "validation perplexity 21.300"


def test_writing_the_tests_texts_is_told_when_it_begins(
    writing_board: RunProgress, lines: list[str], board: RunProgress, small_trials: list[TrialSpec]
) -> None:
    lora = writing_board.trials[1]
    writing_board.update(Progress("started", lora))
    for phase in ("train", "validation", "test"):
        hear(writing_board, lora, kind="phase", phase=phase)
    assert len(lines) == 2
    assert lines[1].startswith("[2/2] lora seed 0: test: writing texts, 0.0 s")
    hear(writing_board, lora, kind="finding", name="empty_outputs", message="3 texts are empty")
    assert lines[2] == "[2/2] lora seed 0: note: 3 texts are empty"
    # Classes are scored in a moment: no line for that.
    lines.clear()
    board.update(Progress("started", small_trials[1]))
    hear(board, small_trials[1], kind="phase", phase="test")
    assert len(lines) == 1


def test_event_without_figures_is_described_all_the_same(board: RunProgress, small_trials: list[TrialSpec]) -> None:
    board.update(Progress("started", small_trials[0]))
    hear(board, small_trials[0], kind="step", step=1, loss=None)
    hear(board, small_trials[0], kind="something new")
    assert list(board.describe(board.running[small_trials[0].id]).values()) == ["starting", "0.0 s", "step 1"]


def test_a_trial_that_continues_says_from_where_and_its_time_left_counts_what_was_done(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], clock: Clock
) -> None:
    full = small_trials[1]
    board.update(Progress("started", full))
    hear(board, full, kind="phase", phase="checkpoint")
    spent = {"earlier_seconds": 70.0, "train_seconds": 60.0, "validation_seconds": 5.0}
    hear(board, full, kind="resumed", step=30, steps=40, **spent)
    hear(board, full, kind="validation", step=20, metrics={"accuracy": 0.8})
    hear(board, full, **{**STEP, "step": 30, "validations": 2})
    hear(board, full, kind="phase", phase="train")
    assert lines[-1].endswith("full seed 0: continues from step 30 of 40 (a checkpoint after 1 min 10 s)")
    # 60 s for thirty steps are 20 s for ten more; one validation of two took 5 s
    assert board.left_of(board.running[full.id]) == pytest.approx(20 + 5)
    clock.now += 4
    hear(board, full, **{**STEP, "step": 32, "validations": 2})
    assert board.left_of(board.running[full.id]) == pytest.approx(16 + 5)


def test_same_finding_is_told_once(board: RunProgress, small_trials: list[TrialSpec], lines: list[str]) -> None:
    for trial in small_trials[:2]:
        board.update(Progress("started", trial))
        hear(board, trial, kind="finding", name="overlap", message="7 arms stand in train and test")
    assert sum("7 arms stand" in line for line in lines) == 1


def test_failure_is_told_with_its_cause(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], fake_record: RecordOf
) -> None:
    board.update(Progress("started", small_trials[1]))
    board.update(Progress("ended", small_trials[1], record=fake_record(small_trials[1], Status.DIVERGED)))
    assert "diverged after 0.0 s: the loss is not finite at step 3" in lines[-1]
    assert (board.failed, board.finished, board.waiting) == (1, 0, 5)


def test_skipped_trials_count_as_done_but_not_as_begun(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], fake_record: RecordOf
) -> None:
    board.update(Progress("skipped", small_trials[0], record=fake_record(small_trials[0])))
    assert lines == ["[1/6] majority seed 0: finished earlier, test accuracy 0.900"]
    assert (board.finished, board.began) == (1, False)


def test_time_left_goes_by_the_pace_of_the_first_trial_until_one_is_finished(
    board: RunProgress, small_trials: list[TrialSpec], clock: Clock, fake_record: RecordOf
) -> None:
    board.update(Progress("skipped", small_trials[0], record=fake_record(small_trials[0])))
    board.update(Progress("started", small_trials[1]))
    clock.now += 7
    hear(board, small_trials[1], **STEP)
    # it has 15 s left and will have taken 22 s, as three more may; the baseline took 2 s before
    assert board.seconds_left() == pytest.approx(15 + 3 * 22 + 2)


def test_trials_that_run_at_once_share_the_time_left_and_the_machine(
    board: RunProgress, small_trials: list[TrialSpec], clock: Clock
) -> None:
    full, lora = [next(trial for trial in small_trials if trial.label == label) for label in ("full", "lora")]
    for trial in (full, lora):
        board.update(Progress("started", trial))
        board.update(Progress("event", trial, {"kind": "phase", "phase": "train"}))
    clock.now += 10.0
    for trial, steps in ((full, 2), (lora, 3)):
        step = {"kind": "step", "step": 1, "steps": steps, "elapsed_seconds": 10.0}
        board.update(Progress("event", trial, step))
        used = {"kind": "machine", "cpu_percent": 90.0, "resident_bytes": 1 << 20, "other_cpu_percent": 5.0}
        board.update(Progress("event", trial, used))
    # 10 s and 20 s are left of the two, and four more are expected to take the mean of both, 25 s
    alone = 10.0 + 20.0 + 25.0 * 4
    assert board.seconds_left() == pytest.approx(alone / 2)
    assert {board.name(running.trial) for running in board.running.values()} == {board.name(full), board.name(lora)}
    assert (board.machine["cpu_percent"], board.machine["resident_bytes"]) == (180.0, 2 << 20)
    assert board.machine["other_cpu_percent"] == 5.0


def test_time_left_is_unknown_until_a_trial_that_trains_has_begun(
    board: RunProgress, small_trials: list[TrialSpec], clock: Clock, fake_record: RecordOf
) -> None:
    assert board.seconds_left() is None
    for trial, spent in ((small_trials[0], 2.0), (small_trials[1], 20.0)):
        board.update(Progress("started", trial))
        clock.now += spent
        board.update(Progress("ended", trial, record=fake_record(trial)))
        if trial is small_trials[0]:
            assert board.seconds_left() is None
    # lora twice like full (20 s), majority 2 s and full 20 s again
    assert board.seconds_left() == pytest.approx(62)
    board.update(Progress("started", small_trials[2]))
    clock.now += 8
    assert board.seconds_left() == pytest.approx(54)
    hear(board, small_trials[2], **STEP)
    assert board.seconds_left() == pytest.approx(20 + 2 + 20 + 15)


def test_time_left_counts_what_comes_after_training_where_it_is_known(
    small_trials: list[TrialSpec], clock: Clock, fake_record: RecordOf
) -> None:
    full = [trial for trial in small_trials if trial.label == "full"]
    board = RunProgress(full, lambda _: None, clock=clock)
    board.update(Progress("started", full[0]))
    clock.now += 40
    board.update(Progress("ended", full[0], record=fake_record(full[0])))
    board.update(Progress("started", full[1]))
    clock.now += 5
    hear(board, full[1], **STEP)
    assert board.seconds_left() == pytest.approx(35)


WRITER = {"load": 2.0, "train": 60.0, "validation": 10.0, "test": 100.0, "inference": 8.0}


@pytest.fixture
def forecast_progress(writing_board: RunProgress) -> RunProgress:
    """A baseline and an arm that trains, both of which write, with their forecast."""
    baseline = {"load": 2.0, "test": 40.0}
    arms = {"lead": arm_forecast("lead", seconds=baseline), "lora": arm_forecast("lora", seconds=WRITER)}
    writing_board.forecast = study_forecast(arms, ["lead", "lora"])
    return writing_board


def test_live_view_and_forecast_agree_before_anything_is_known(forecast_progress: RunProgress) -> None:
    assert forecast_progress.forecast is not None
    assert forecast_progress.seconds_left() == forecast_progress.forecast.total_seconds == 42 + 180


def test_time_left_knows_of_the_writing_to_come(forecast_progress: RunProgress, clock: Clock) -> None:
    lora = forecast_progress.trials[1]
    forecast_progress.update(Progress("started", lora))
    hear(forecast_progress, lora, kind="phase", phase="train")
    clock.now += 15
    hear(forecast_progress, lora, **{**STEP, "validations": 4})
    # 45 s of training by its pace; validation, test and singles as forecast
    assert forecast_progress.seconds_left() == pytest.approx(45 + 10 + 100 + 8 + 42)
    assert forecast_progress.describe(forecast_progress.running[lora.id])["left"] == "about 2 min 43 s left"
    hear(forecast_progress, lora, kind="phase", phase="validation")
    clock.now += 4
    hear(forecast_progress, lora, kind="validation", step=10, metrics={"loss": 3.0})
    # one of four validations took 4 s
    assert forecast_progress.seconds_left() == pytest.approx(45 + 12 + 100 + 8 + 42)


def test_time_left_of_a_test_goes_by_the_texts_that_are_written(forecast_progress: RunProgress, clock: Clock) -> None:
    lora = forecast_progress.trials[1]
    forecast_progress.update(Progress("started", lora))
    hear(forecast_progress, lora, kind="phase", phase="test")
    clock.now += 20
    assert forecast_progress.seconds_left() == pytest.approx(80 + 8 + 42), "training is over"
    hear(forecast_progress, lora, kind="writing", texts=10, of=40, elapsed_seconds=20.0)
    assert forecast_progress.seconds_left() == pytest.approx(60 + 8 + 42)
    told = forecast_progress.describe(forecast_progress.running[lora.id])
    assert (told["phase"], told["left"]) == ("test: writing texts, 10/40", "about 1 min 08 s left")
    clock.now += 5
    assert forecast_progress.seconds_left() == pytest.approx(55 + 8 + 42)
    hear(forecast_progress, lora, kind="writing", texts=0, of=40, elapsed_seconds=20.0)
    assert forecast_progress.seconds_left() == pytest.approx(75 + 8 + 42), "a log that tells of no texts is no pace"


def test_a_finished_row_corrects_the_forecast_of_the_others(
    forecast_progress: RunProgress, clock: Clock, fake_record: RecordOf
) -> None:
    baseline = forecast_progress.trials[0]
    forecast_progress.update(Progress("started", baseline))
    clock.now += 21
    forecast_progress.update(Progress("ended", baseline, record=fake_record(baseline)))
    assert forecast_progress.seconds_left() == pytest.approx(90), "half of what was forecast, as the baseline took"


def test_stream_that_cannot_be_written_does_not_stop_the_run(
    small_trials: list[TrialSpec], fake_record: RecordOf
) -> None:
    def refuse(line: str) -> None:
        raise BrokenPipeError(line)

    board = RunProgress(small_trials, refuse, interval=0.0)
    board.update(Progress("started", small_trials[0]))
    board.update(Progress("ended", small_trials[0], record=fake_record(small_trials[0])))
    assert board.finished == 1


def test_what_a_stream_waits_for_may_read_the_board(small_trials: list[TrialSpec]) -> None:
    """A live view draws from another thread while a line is said; each must not wait for the other."""
    seen: list[int] = []

    def say(line: str) -> None:
        def read() -> None:
            with drawn_board.lock:
                seen.append(drawn_board.waiting)

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(timeout=10)
        assert not reader.is_alive()

    drawn_board = RunProgress(small_trials, say, interval=0.0)
    drawn_board.update(Progress("started", small_trials[0]))
    assert seen == [5]


def test_rows_so_far(board: RunProgress, small_trials: list[TrialSpec], fake_record: RecordOf) -> None:
    assert board.arms() == ([ArmProgress(label, planned=2) for label in ("majority", "full", "lora")], "", "")
    for trial, accuracy in ((small_trials[0], 0.5), (small_trials[1], 0.8), (small_trials[3], 0.9)):
        board.update(Progress("ended", trial, record=fake_record(trial, accuracy=accuracy)))
    board.update(Progress("ended", small_trials[2], record=fake_record(small_trials[2], Status.DIVERGED)))
    arms, tested, searched = board.arms()
    assert (tested, searched) == ("accuracy", "")
    assert [(arm.label, arm.done, arm.failed) for arm in arms] == [("majority", 1, 0), ("full", 2, 0), ("lora", 0, 1)]
    assert [arm.score for arm in arms] == [0.5, pytest.approx(0.85), None]


def test_a_trial_that_is_repeated_runs_again(
    board: RunProgress, small_trials: list[TrialSpec], fake_record: RecordOf
) -> None:
    board.update(Progress("ended", small_trials[1], record=fake_record(small_trials[1], Status.FAILED)))
    board.update(Progress("started", small_trials[1]))
    assert (board.failed, len(board.running), board.waiting) == (0, 1, 5)
    board.lose(small_trials[1])
    assert (len(board.running), board.waiting) == (0, 6)


def test_what_was_interrupted_waits(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], fake_record: RecordOf
) -> None:
    board.update(Progress("started", small_trials[1]))
    board.update(Progress("ended", small_trials[1], record=fake_record(small_trials[1], Status.CANCELLED)))
    assert (board.failed, len(board.running), board.waiting) == (0, 0, 6)
    assert lines[-1].startswith("[2/6] full seed 0: cancelled after")


def test_a_view_without_a_study_is_empty() -> None:
    board = RunProgress([], lambda _: None, state="")
    assert "".join(drawn(board, 60)) == ""


def test_what_happened_a_while_ago_is_timed_from_then(
    board: RunProgress, small_trials: list[TrialSpec], lines: list[str], fake_record: RecordOf
) -> None:
    board.update(Progress("started", small_trials[1]), ago=30)
    board.update(Progress("ended", small_trials[1], record=fake_record(small_trials[1])), ago=10)
    assert lines[-1].startswith("[2/6] full seed 0: completed in 20 s")


def test_a_new_plan_keeps_what_was_heard(
    board: RunProgress, small_trials: list[TrialSpec], fake_record: RecordOf
) -> None:
    board.update(Progress("skipped", small_trials[1], record=fake_record(small_trials[1])))
    board.update(Progress("skipped", small_trials[2], record=fake_record(small_trials[2])))
    more = small_trials[3].model_copy(update={"seed": 2, "id": "full-s2"})
    board.plan([*small_trials[:2], *small_trials[3:], more])
    assert (len(board.trials), board.finished, board.waiting) == (6, 1, 5)
    assert board.name(small_trials[1]) == "[2/6] full seed 0"
    assert board.name(more) == "[6/6] full seed 2"


def drawn(board: RunProgress, width: int) -> list[str]:
    """The view as a terminal of that width shows it, line by line."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
    shown = console.render_lines(view.view(board, width), pad=False)
    assert all(sum(segment.cell_length for segment in line) <= width for line in shown)
    return ["".join(segment.text for segment in line).rstrip() for line in shown]


@pytest.fixture
def busy(board: RunProgress, small_trials: list[TrialSpec], clock: Clock, fake_record: RecordOf) -> RunProgress:
    """A board in the middle of a study."""
    board.update(Progress("skipped", small_trials[0], record=fake_record(small_trials[0], accuracy=0.5)))
    board.update(Progress("ended", small_trials[1], record=fake_record(small_trials[1], Status.DIVERGED)))
    board.update(Progress("started", small_trials[2]))
    clock.now += 7
    hear(board, small_trials[2], kind="phase", phase="train")
    hear(board, small_trials[2], **STEP)
    hear(board, small_trials[2], kind="validation", metrics={"accuracy": 0.8})
    machine = {"cpu_percent": 185.0, "other_cpu_percent": 12.0, "resident_bytes": 3 << 29}
    hear(board, small_trials[2], kind="machine", **machine, gpu_percent=93.0, gpu_memory_bytes=5 << 30)
    return board


def test_live_view_shows_study_trial_machine_and_rows(busy: RunProgress) -> None:
    assert drawn(busy, 100)[0] == "2/6 done · 1 failed · 1 running · 3 waiting"
    assert drawn(busy, 100)[1].endswith("7.0 s, about 1 min 01 s left")
    assert drawn(busy, 100)[2:] == [
        "[3/6] lora seed 0  train · epoch 0.5/2 · 7.0 s · about 15 s left",
        "  step 10/40 · loss 0.712 · validation accuracy 0.800 · 45 examples/s",
        "machine: 1.85 CPU cores (others 0.12) · memory 1.5 GiB · GPU 93 %, 5.0 GiB",
        "best so far  trials         test accuracy",
        "majority     1/2                    0.500",
        "full         0/2, 1 failed              –",
        "lora         0/2                        –",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_live_view_fits_its_terminal(width: int, busy: RunProgress) -> None:
    busy.title = "small: a base model with quite a long name, classification"
    shown = drawn(busy, width)
    assert len(shown) <= 11
    assert any("lora seed 0" in line for line in shown)
    assert not [line for line in shown if line.startswith("best so far") and "…" in line]
    if width >= 60:
        assert "2/6 done · 1 failed · 1 running · 3 waiting" in shown
        assert any(line.startswith("majority     1/2") and line.endswith("0.500") for line in shown)


LONG = "lora_attention_and_mlp_rank_64_no_bias"


@pytest.mark.parametrize(
    ("width", "label", "first", "second"),
    [
        (40, "lora", "lora seed 0  about 1 h 10 min left", "step 10/40 · loss 0.712"),
        (
            60,
            "lora",
            "lora seed 0  train · about 1 h 10 min left",
            "step 10/40 · loss 0.712 · validation accuracy 0.800",
        ),
        (40, LONG, "lora_attention_and_mlp_rank_64_no…", "about 1 h 10 min left · loss 0.712"),
        (60, LONG, f"{LONG} seed 0  train", "about 1 h 10 min left · step 10/40 · loss 0.712"),
        (
            80,
            LONG,
            f"{LONG} seed 0  train · epoch 0.5/2",
            "about 1 h 10 min left · step 10/40 · loss 0.712 · validation accuracy 0.800",
        ),
        (
            120,
            LONG,
            f"{LONG} seed 0  train · epoch 0.5/2 · 1 h 00 min · about 1 h 10 min left",
            "step 10/40 · loss 0.712 · validation accuracy 0.800 · 45 examples/s",
        ),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most(
    width: int, label: str, first: str, second: str, small_trials: list[TrialSpec], clock: Clock
) -> None:
    trial = small_trials[2].model_copy(update={"label": label})
    board = RunProgress([*small_trials[:2], trial], lambda _: None, clock=clock)
    board.title = "methods_for_short_news_and_reports_of_many_kinds_in_one_study: a-base-model, classification"
    board.update(Progress("started", trial))
    clock.now += 3600
    hear(board, trial, kind="phase", phase="train")
    hear(board, trial, **{**STEP, "elapsed_seconds": 1410.0})
    hear(board, trial, kind="validation", metrics={"accuracy": 0.8})
    assert drawn(board, width)[-2:] == [f"[3/3] {first}", f"  {second}"]


def test_in_a_narrow_terminal_a_trial_that_does_not_train_shows_its_phase(writing_board: RunProgress) -> None:
    lora = writing_board.trials[1].model_copy(update={"label": LONG})
    writing_board.update(Progress("started", lora))
    hear(writing_board, lora, **STEP)
    hear(writing_board, lora, kind="phase", phase="test")
    assert drawn(writing_board, 40)[-1] == "  test: writing texts · loss 0.712"


def test_live_view_says_what_is_the_matter_while_nothing_runs(board: RunProgress) -> None:
    assert drawn(board, 80)[-1] == PREPARING
    board.active, board.state = False, "stopped: nobody runs it"
    shown = drawn(board, 80)
    assert shown[-1] == "stopped: nobody runs it"
    assert not any("left" in line for line in shown)


def test_terminal_gets_a_live_view_and_permanent_lines(small_trials: list[TrialSpec], fake_record: RecordOf) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True)
    with view.show(small_trials, console) as board:
        board.update(Progress("started", small_trials[0]))
        board.update(Progress("ended", small_trials[0], record=fake_record(small_trials[0])))
    shown = stream.getvalue()
    assert "preparing" in shown
    assert "majority seed 0: completed in" in shown
    assert ": started" not in shown


def test_elsewhere_plain_lines_without_control_codes(small_trials: list[TrialSpec], fake_record: RecordOf) -> None:
    stream = io.StringIO()
    with view.show(small_trials, Console(file=stream, width=40)) as board:
        board.update(Progress("started", small_trials[0]))
        board.update(Progress("ended", small_trials[0], record=fake_record(small_trials[0])))
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [PREPARING, "[1/6] majority seed 0: started"]
    assert len(lines) == 3
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.44, "0.4 s"), (12.4, "12 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_durations_for_a_person(value: float | None, text: str) -> None:
    assert seconds(value) == text


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    small_trials: list[TrialSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO()
    with view.show(small_trials, Console(file=stream, width=80, force_terminal=True)) as board:
        board.update(Progress("started", small_trials[0]))
    assert stream.getvalue().splitlines() == [PREPARING, "[1/6] majority seed 0: started"]


# --- a search


@pytest.fixture
def searching() -> Study:
    raw = {"model": "minilm", "task": {"data": "reuters-r8"}, "methods": ["majority", "lora"]}
    return Study({**raw, "protocol": {"seeds": 1, "search": 2}})


def at(trial: TrialSpec, rate: float) -> TrialSpec:
    """The trial with another rate, and so with another id."""
    return trial.model_copy(update={"learning_rate": rate, "id": f"{trial.id}-{rate}"})


def test_a_search_is_counted_though_its_trials_are_not_known_before(
    searching: Study, lines: list[str], clock: Clock, fake_record: RecordOf
) -> None:
    search, verdict = searching.plan_search(), searching.plan()
    board = RunProgress([*search, *verdict], lines.append, interval=10.0, clock=clock)
    assert board.waiting == 4
    for trial in (at(search[0], 2e-3), at(search[1], 4e-4), verdict[0], at(verdict[1], 4e-4)):
        board.update(Progress("started", trial))
        clock.now += 5
        board.update(Progress("ended", trial, record=fake_record(trial)))
    told = [line.split(":")[0] for line in lines if "completed" in line]
    assert told == [
        "[1/4] search lora, rate 0.002",
        "[2/4] search lora, rate 0.0004",
        "[3/4] majority seed 0",
        "[4/4] lora seed 0",
    ]
    assert (board.finished, board.waiting, len(board.trials)) == (4, 0, 4)
    assert not board.seconds_left()


def test_a_search_that_grows_adds_to_the_total(searching: Study, lines: list[str], fake_record: RecordOf) -> None:
    search = searching.plan_search()
    board = RunProgress([*search, *searching.plan()], lines.append)
    for rate in (1e-3, 2e-3, 3e-3):
        board.update(Progress("ended", at(search[0], rate), record=fake_record(at(search[0], rate))))
    assert (len(board.trials), board.waiting) == (5, 2)
    assert lines[-1].startswith("[5/5] search lora")


def test_a_search_trial_tells_its_validation_score(searching: Study, fake_record: RecordOf) -> None:
    record = fake_record(searching.plan_search()[0])
    score = record.metrics[0].model_copy(update={"split": "validation", "value": 0.625})
    searched = record.model_copy(update={"metrics": (score,)})
    assert outcome(searched, 3.0, earlier=False) == "completed in 3.0 s, validation accuracy 0.625"


def test_the_best_of_a_search_is_shown_while_it_goes_on(searching: Study, fake_record: RecordOf) -> None:
    search, verdict = searching.plan_search(), searching.plan()
    board = RunProgress([*search, *verdict], lambda _: None)
    for rate, value in ((1e-3, 0.5), (2e-3, 0.625)):
        trial = at(search[0], rate)
        record = fake_record(trial)
        score = record.metrics[0].model_copy(update={"split": "validation", "value": value})
        board.update(Progress("ended", trial, record=record.model_copy(update={"metrics": (score,)})))
    arms, tested, searched = board.arms()
    assert (tested, searched) == ("", "accuracy")
    assert [(arm.label, arm.tried, arm.to_try, arm.best) for arm in arms] == [
        ("majority", 0, 0, None),
        ("lora", 2, 2, 0.625),
    ]
    assert [line.split() for line in drawn(board, 60)[-3:]] == [
        ["best", "so", "far", "trials", "search:", "accuracy"],
        ["majority", "0/1", "–"],
        ["lora", "0/1", "0.625", "(2/2)"],
    ]
