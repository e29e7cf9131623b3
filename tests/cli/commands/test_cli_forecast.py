"""The forecast in `tuneoff plan` and before `tuneoff run`, with an executor that makes it up."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from forecast_helpers import arm_forecast
from tuneoff.cli.commands import forecast
from tuneoff.cli.live.run_progress import RunProgress
from tuneoff.cli.main import main
from tuneoff.errors import ExecutorError, OutOfMemory
from tuneoff.executors.base import Inspection
from tuneoff.records.forecast import ArmForecast, Remedy, StudyForecast
from tuneoff.records.forecast_sums import study_forecast
from tuneoff.store import StudyStore
from tuneoff.study import forecast_worth
from tuneoff.study.forecast_planner import ForecastProgress

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
Said = Callable[..., tuple[str, str]]
pytest_plugins = ("cli_fixtures",)


@pytest.fixture(autouse=True)
def _long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small study is taken for one that is worth a forecast."""
    monkeypatch.setattr(forecast_worth, "SHORT_OPERATIONS", 0.0)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs a command line that must do; what it printed on stdout and stderr, spaces joined."""
    from tuneoff.report import files

    monkeypatch.setenv("COLUMNS", "200")
    draw = files.write_built
    monkeypatch.setattr(files, "write_built", lambda results, report, plots=True: draw(results, report, plots=False))

    def run(*arguments: str) -> tuple[str, str]:
        capsys.readouterr()
        assert main(list(arguments)) == 0
        shown = capsys.readouterr()
        return " ".join(shown.out.split()), " ".join(shown.err.split())

    return run


def unfit(label: str, **changes: Any) -> ArmForecast:
    remedies = (
        Remedy(change="protocol.gradient_accumulation_steps=4", peak_memory_bytes=5 << 30, same_result=True),
        Remedy(change="protocol.max_length=64", peak_memory_bytes=4 << 30, same_result=False),
    )
    body = {"fits": False, "peak_memory_bytes": 9 << 30, "available_bytes": 6 << 30, "remedies": remedies, **changes}
    return arm_forecast(label, **body)


# --- plan


def test_plan_shows_rows_sums_and_how_they_were_had(small_study: Path, fake_executor: FakeExecutor, said: Said) -> None:
    fake_executor.forecasting.arms = {"lora": arm_forecast("lora", train_seconds=7.5, stored_bytes=None)}
    out, err = said("plan", str(small_study))
    assert "lora 600.0 MiB 7.5 s 15.0 s – yes profile" in out
    assert "full 600.0 MiB 10.0 s 15.0 s 1.0 MiB yes profile" in out
    assert "All trials, one after another: about 1 min 30 s." in out
    assert "on disk" not in out
    assert "Profiled in" in out
    assert "a few real steps of each arm on this machine (cpu)" in out
    assert err == "profiling majority (1/3) profiling full (2/3) profiling lora (3/3)"
    assert {profile for _, profile, _ in fake_executor.forecasting.asked} == {True}


def test_plan_without_probing_says_that_times_are_rough(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    out, err = said("plan", str(small_study), "--no-profile")
    assert "about 1 min 30 s (a rough estimate); on disk: 6.0 MiB of weights and predictions." in out
    assert "without running a step" in out
    assert "estimating 3 arms" in err
    assert {profile for _, profile, _ in fake_executor.forecasting.asked} == {False}


def test_plan_says_what_will_not_fit_and_what_would_help(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    fake_executor.forecasting.arms = {"full": unfit("full"), "lora": unfit("lora", remedies=())}
    out, _ = said("plan", str(small_study))
    assert (
        "full will not fit: it needs 9.0 GiB of memory, there are 6.0 GiB. It would with --set "
        "protocol.gradient_accumulation_steps=4 (5.0 GiB, same result), or with --set protocol.max_length=64 (4.0 GiB, "
        "another result)."
    ) in out
    assert "lora will not fit: it needs 9.0 GiB of memory, there are 6.0 GiB. No change that was tried" in out


def test_plan_asks_about_a_named_gpu(small_study: Path, fake_executor: FakeExecutor, said: Said) -> None:
    fake_executor.forecasting.arms = {"full": unfit("full")}
    out, _ = said("plan", str(small_study), "--gpu-memory", "8GB", "--json")
    found = json.loads(out)["forecast"]
    assert found["memory_limit_bytes"] == 8_000_000_000
    assert {limit for _, _, limit in fake_executor.forecasting.asked} == {8_000_000_000}
    assert found["arms"]["full"]["remedies"][0]["change"] == "protocol.gradient_accumulation_steps=4"
    out, _ = said("plan", str(small_study), "--gpu-memory", "8GiB")
    assert "Peak memory is that on a GPU of 8.0 GiB" in out
    assert "there are 8.0 GiB. It would" in out


def test_plan_says_of_which_batch_sizes_memory_and_times_are(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    searched = ("--set", "protocol.search=3", "--set", "protocol.batch_size={search: [8, 64]}")
    out, _ = said("plan", str(small_study), *searched)
    assert "a searched number of examples per step" in out
    assert ", with batches of 8, the least that may be chosen; on disk" in out
    assert "times are those of 8 examples a step, memory is that of 64, the most that either may be." in out


@pytest.mark.parametrize(("size", "hint"), [("8", "has no unit"), ("8gb", "did you mean 'GB'"), ("big", "not a size")])
def test_a_wrong_size_is_refused_before_anything_is_looked_at(
    size: str, hint: str, small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(small_study), "--gpu-memory", size]) == 2
    said = capsys.readouterr()
    assert hint in said.err
    assert "--gpu-memory" in said.err
    assert fake_executor.forecasting.asked == []


def test_plan_tells_why_arms_were_not_profiled_or_have_no_figures(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    fake_executor.forecasting.unprofiled = {"full": OutOfMemory("out of memory")}
    fake_executor.forecasting.arms = {"lora": ExecutorError("it vanished")}
    out, _ = said("plan", str(small_study))
    assert "full: no profile (out of memory)" in out
    assert "lora: no profile, peak memory, train time, time of a trial, stored size, size of predictions (it van" in out
    assert "lora – – – – – estimate" in out
    assert "The total time is not known, because no time is known of lora." in out


def test_plan_has_a_column_for_search_trials_where_there_are_some(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    assert "search trial" not in said("plan", str(small_study))[0]
    out, _ = said("plan", str(small_study), "--search", "5")
    assert "full 600.0 MiB 10.0 s 15.0 s 4.0 s 1.0 MiB yes" in out
    assert "majority 600.0 MiB 10.0 s 15.0 s – 1.0 MiB yes" in out
    assert "about 2 min 10 s" in out  # 6 × 15 s and 10 × 4 s


def test_plan_without_data_has_no_forecast(
    small_study: Path, fake_executor: FakeExecutor, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Inspection({}, ("bad", "good"), None, ({"name": "data_not_seen", "message": "the hub does not answer"},))
    monkeypatch.setattr(fake_executor, "inspect", lambda *_: seen)
    out, _ = said("plan", str(small_study), "--json")
    assert json.loads(out)["forecast"] is None
    out, _ = said("plan", str(small_study))
    assert "the data was not read" in out
    assert "Profiled" not in out
    assert fake_executor.forecasting.asked == []


def test_an_interrupted_plan_is_a_plain_interrupt(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.forecasting.unprofiled = {"full": KeyboardInterrupt()}
    assert main(["plan", str(small_study)]) == 130
    assert "Interrupted." in capsys.readouterr().err
    assert fake_executor.closed


def test_progress_in_a_terminal_is_one_line_that_changes() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    with forecast.progress(console) as listener:
        listener(ForecastProgress("lora", 3, 9, "profile"))
    assert "\r" in stream.getvalue() or "\x1b[" in stream.getvalue()


# --- run


def test_run_tells_how_long_it_will_take_and_keeps_the_forecast(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    fake_executor.forecasting.arms = {
        label: arm_forecast(label, seconds={"train": 100.0}) for label in ("majority", "full", "lora")
    }
    _, err = said("run", str(small_study), "--out", "results")
    assert "forecast: about 10 min 00 s for all trials to come" in err
    assert err.index("forecast:") < err.index("[1/6]")
    made = StudyStore.open("results").forecast()
    assert made is not None
    assert (made.total_seconds, set(made.arms)) == (600.0, {"majority", "full", "lora"})


def test_prices_tell_what_it_will_cost(
    small_study: Path, fake_executor: FakeExecutor, said: Said, tmp_path: Path
) -> None:
    (tmp_path / "prices.yaml").write_text("currency: EUR\ndevice_hour: {cpu: 36.0}\n")
    fake_executor.forecasting.arms = {
        label: arm_forecast(label, seconds={"train": 90.0, "test": 10.0}, test_examples=500)
        for label in ("majority", "full", "lora")
    }
    prices = ("--set", f"prices={tmp_path / 'prices.yaml'}")
    out, _ = said("plan", str(small_study), *prices)
    assert "EUR" in next(line for line in out.splitlines() if "peak memory" in line and "stored" in line)
    assert "All trials, one after another: about 10 min 00 s, 6 EUR" in out
    assert "EUR: the price of a whole trial at the study's prices." in out
    assert "Of 1,000 predictions: majority 0.2, full 0.2, lora 0.2." in " ".join(out.split())
    _, err = said("run", str(small_study), "--out", "results", *prices)
    assert "forecast: about 10 min 00 s, 6 EUR for all trials to come" in err


def test_run_profiles_where_that_pays_and_not_when_told_not_to(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    fake_executor.forecasting.arms = {"lora": arm_forecast("lora", seconds={"train": 3600.0})}
    _, err = said("run", str(small_study), "--out", "results")
    assert "forecast: a few real steps of full first (--no-profile leaves them out)" in err
    assert "forecast: a few real steps of 2 arms first" in err
    assert "forecast: about 2 h 01 min for all trials to come" in err
    fake_executor.forecasting.asked.clear()
    _, err = said("run", str(small_study), "--out", "others", "--no-profile")
    assert "a few real steps" not in err
    assert {profile for _, profile, _ in fake_executor.forecasting.asked} == {False}


def test_run_warns_of_rows_that_will_not_fit_and_runs_them(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    fake_executor.forecasting.arms = {"lora": unfit("lora")}
    _, err = said("run", str(small_study), "--out", "results")
    assert "warning: lora will not fit: it needs 9.0 GiB of memory, there are 6.0 GiB. It would with --set" in err
    assert len(StudyStore.open("results").records()) == 6


def test_run_again_forecasts_nothing_and_with_a_new_row_that_row_alone(
    small_study: Path, fake_executor: FakeExecutor, said: Said
) -> None:
    fake_executor.forecasting.arms = {
        label: arm_forecast(label, seconds={"train": 200.0}) for label in ("majority", "full", "lora", "ia3")
    }
    said("run", str(small_study), "--out", "results")
    fake_executor.forecasting.asked.clear()
    _, err = said("run", str(small_study), "--out", "results")
    assert "forecast" not in err
    _, err = said("run", str(small_study), "--out", "results", "--methods", "full,ia3")
    assert {label for label, _, _ in fake_executor.forecasting.asked} == {"ia3"}
    assert "forecast: about 6 min 40 s for all trials to come" in err
    made = StudyStore.open("results").forecast()
    assert made is not None
    assert made.arms.keys() == {"majority", "full", "lora", "ia3"}


def test_run_goes_on_where_nothing_can_be_forecast(small_study: Path, fake_executor: FakeExecutor, said: Said) -> None:
    fake_executor.forecasting.arms = dict.fromkeys(("majority", "full", "lora"), ExecutorError("it vanished"))
    _, err = said("run", str(small_study), "--out", "results")
    assert "forecast: the time is not known, because no time is known of majority, full, lora" in err
    assert len(StudyStore.open("results").records()) == 6


def test_an_interrupt_while_forecasting_ends_the_run_and_leaves_a_study(
    small_study: Path, fake_executor: FakeExecutor, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.forecasting.arms = {"lora": arm_forecast("lora", seconds={"train": 3600.0})}
    fake_executor.forecasting.unprofiled = {"full": KeyboardInterrupt()}
    assert main(["run", str(small_study), "--out", "results"]) == 130
    assert "0 of 6 trials are finished" in capsys.readouterr().err
    fake_executor.forecasting.unprofiled = {}
    said("run", str(small_study), "--out", "results")
    assert StudyStore.open("results").forecast() is not None


def test_a_listener_whose_stream_is_closed_lets_the_run_go_on() -> None:
    def say(_: str) -> None:
        raise BrokenPipeError

    hear = forecast.run_listener(RunProgress([], say))
    hear(ForecastProgress("lora", 1, 1, "profile"))
    hear(study_forecast({"lora": arm_forecast("lora")}, ["lora"]))


def test_a_run_says_how_its_forecast_was_had() -> None:
    estimated = arm_forecast("full", how="estimate")
    made = study_forecast({"lora": arm_forecast("lora"), "full": estimated}, ["lora", "full"])
    assert forecast.run_lines(made) == ["forecast: about 30.0 s for all trials to come"]
    rough = study_forecast({"full": estimated}, ["full"])
    assert forecast.run_lines(rough) == ["forecast: about 15.0 s (a rough estimate) for all trials to come"]
    by = estimated.model_copy(update={"corrected_by": "lora"})
    corrected = study_forecast({"lora": arm_forecast("lora"), "full": by}, ["lora", "full"])
    text = "forecast: about 30.0 s (an estimate, corrected by real steps of lora) for all trials to come"
    assert forecast.run_lines(corrected) == [text]


def test_words_for_a_forecast_that_is_partly_known() -> None:
    made = StudyForecast(
        arms={"lora": unfit("lora", peak_memory_bytes=None, available_bytes=None, remedies=())},
        missing={"total_seconds": "no time is known of lora"},
    )
    assert forecast.fit_lines(made) == ["lora will not fit. No change that was tried would make it fit."]
    assert forecast.run_lines(made)[0] == "forecast: the time is not known, because no time is known of lora"


def test_a_baseline_that_was_run_makes_no_forecast_a_profile() -> None:
    baseline = arm_forecast("majority", train_seconds=None)
    made = study_forecast({"majority": baseline, "lora": arm_forecast("lora", how="estimate")}, ["majority", "lora"])
    assert forecast.lines(made)[1].startswith("Estimated in")
    both = study_forecast({"majority": baseline, "lora": arm_forecast("lora")}, ["majority", "lora"])
    assert forecast.lines(both)[1].startswith("Profiled in")


def test_checkpoints_are_counted_where_a_trial_trains_for_long() -> None:
    memory = {"process": 9 << 30, "gradients": 1 << 20, "optimizer": 2 << 20}
    arms = {
        "long": arm_forecast("long", train_seconds=601.0, memory=memory),
        "short": arm_forecast("short", train_seconds=1.0, memory={"gradients": 1 << 30}),
    }
    made = study_forecast(arms, list(arms))
    line = "While a trial trains, its checkpoints take up to 9.0 MiB more."
    assert line in forecast.lines(made, 10.0)
    assert line not in [*forecast.lines(made, 11.0), *forecast.lines(made)]
