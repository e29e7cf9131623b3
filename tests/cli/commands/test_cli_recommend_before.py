"""`tuneoff recommend --before`, as a user types it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from forecast_helpers import arm_forecast
from tuneoff.cli.main import main
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import ExecutorError
from tuneoff.records.forecast import ArmForecast
from tuneoff.records.forecast_sums import study_forecast
from tuneoff.report import prior as words
from tuneoff.report.recommendation_schema import SCHEMA_VERSION_BEFORE
from tuneoff.store import StudyStore
from tuneoff.study import forecast_worth
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
Ask = Callable[..., str]
DOCS = Path(__file__).parents[3] / "docs"
pytest_plugins = ("cli_fixtures",)


@pytest.fixture(autouse=True)
def _costs(fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """`full` is dear, `lora` is not, and both are worth a forecast."""
    monkeypatch.setattr(forecast_worth, "SHORT_OPERATIONS", 0.0)
    monkeypatch.setattr(forecast_worth, "PAYS", 0.0)
    fake_executor.forecasting.arms = {
        "full": arm_forecast("full", train_seconds=30.0, peak_memory_bytes=900 << 20, stored_bytes=90 << 20),
        "lora": arm_forecast("lora", train_seconds=20.0),
    }


@pytest.fixture
def ask(small_study: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """What it says of the small study, or of another; spaces joined."""

    def run(*arguments: str, study: str = "small.yaml", code: int = 0) -> str:
        capsys.readouterr()
        assert main(["recommend", "--before", study, *arguments]) == code
        return " ".join(capsys.readouterr().out.split())

    return run


def test_it_says_first_that_nothing_was_measured_and_then_what_to_use(ask: Ask) -> None:
    said = ask()
    assert said.startswith("Caution: Nothing was measured for this answer")
    assert "Before a run: use lora; forecast: train time 20.0 s, peak memory 600.0 MiB, stored size 1.0 MiB." in said
    assert (
        "full has the best prior: 100 % of full fine-tuning's gain over the baseline. lora counts as equally good"
        in said
    )
    assert "before a run; of these lora trains fastest." in said
    assert re.search(r"Prior of lora: \d+ % to \d+ % \(.*Hu et al\. 2022", said)
    assert "Not weighed, for nothing is trained: majority." in said


def test_limits_are_kept_by_the_forecast(ask: Ask) -> None:
    said = ask("--max-memory", "700MiB", "--max-stored", "20MB")
    assert "use lora with peak memory at most 700MiB and stored size at most 20MB" in said
    assert "Kept out by the limits: full (stored size 90.0 MiB" in said
    none = ask("--max-memory", "500MiB", code=3)
    assert "None fits: no arm that trains and has a prior is expected to keep peak memory at most 500MiB." in none
    assert "The nearest is lora: peak memory 600.0 MiB, 100.0 MiB (20.0 %) over 500MiB." in none


def test_a_stated_prior_takes_the_place_of_the_methods(ask: Ask) -> None:
    said = ask("--prior", "lora=0.5..0.7")
    assert "Before a run: use full" in said
    assert "Prior of lora: 50 % to 70 % (stated on the command line)." in said


def test_a_row_without_a_prior_is_not_weighed_until_one_is_stated(small_study: Path, ask: Ask) -> None:
    text = small_study.read_text().replace("methods: [majority, full, lora]", "methods: [majority, 'peft:vera']")
    Path("other.yaml").write_text(text)
    said = ask(study="other.yaml", code=3)
    assert "Nothing can be said before a run: no arm that trains has a prior." in said
    assert "--prior 'peft:vera=0.5..1' states one" in said
    assert "Before a run: use peft:vera" in ask("--prior", "peft:vera=0.5..1", study="other.yaml")


def test_what_is_preferred_and_without_a_profile(ask: Ask, fake_executor: FakeExecutor) -> None:
    fake_executor.forecasting.arms["full"] = arm_forecast("full", train_seconds=30.0, peak_memory_bytes=1 << 20)
    assert "of these full needs the least memory" in ask("--prefer", "memory", "--no-profile")
    assert {profile for _, profile, _ in fake_executor.forecasting.asked} == {False}
    assert "Estimated and not profiled, so times are rough: majority, full, lora." in ask("--no-profile")


def test_the_json_is_documented_key_by_key(ask: Ask) -> None:
    body = json.loads(ask("--json", "--max-memory", "700MiB"))
    assert (body["answer"], body["before"], body["schema_version"]) == ("lora", True, SCHEMA_VERSION_BEFORE)
    assert body["notes"][0] == words.WARNING
    arms = {arm["method"]: arm for arm in body["arms"]}
    assert (arms["full"]["fits"], arms["lora"]["fits"]) == (False, True)
    assert arms["full"]["shortfalls"][0]["figure"] == "peak_memory_bytes"
    assert (arms["majority"]["prior_low"], arms["majority"]["reason"]) == (None, "nothing is trained")
    documented = set(re.findall(r"`([a-z_]+)`", (DOCS / "recommend.md").read_text(encoding="utf-8")))
    assert body.keys() | arms["full"].keys() | body["limits"][0].keys() <= documented


def test_it_proposes_values_by_published_rules_and_a_study_that_checks_them(ask: Ask) -> None:
    said = ask()
    assert "Proposed for lora: targets all-linear (now default), by rule all-linear (Biderman et al. 2024" in said
    assert "The smallest study that checks it: lora against lora-proposed" in said
    assert "tuneoff run small.yaml --set 'methods=" in said
    assert "has none of this call's options" not in said
    assert "has none of this call's options (--set and the like)" in ask("--set", "protocol.batch_size=4")
    body = json.loads(ask("--json"))["proposed"]
    assert {value["rule"] for value in body["values"]} == {"all-linear"}
    assert body["not_covered"][0].startswith("the rank of lora, because")
    documented = set(re.findall(r"`([a-z_]+)`", (DOCS / "recommend.md").read_text(encoding="utf-8")))
    assert body.keys() | body["values"][0].keys() | body["check"].keys() <= documented


def test_a_folder_with_results_says_how_to_use_them_and_its_forecast_is_kept(
    small_study: Path, ask: Ask, fake_executor: FakeExecutor
) -> None:
    Study(small_study).run("results")
    fake_executor.forecasting.asked.clear()
    said = ask(study="results")
    assert "results holds measured results (6 completed trials). They have no part in this answer" in said
    assert "`tuneoff recommend results` goes by them." in said
    assert "use lora" in said
    assert fake_executor.forecasting.asked == []


def test_a_folder_whose_forecast_lacks_a_row_gets_a_new_one(
    small_study: Path, ask: Ask, fake_executor: FakeExecutor
) -> None:
    Study(small_study).run("results")
    store = StudyStore.open("results")
    store.write_forecast(study_forecast({"lora": arm_forecast("lora")}, ["lora"]))
    fake_executor.forecasting.asked.clear()
    ask(study="results")
    assert [label for label, _, _ in fake_executor.forecasting.asked] == ["majority", "full", "lora"]


def test_rows_without_figures_are_named(ask: Ask, fake_executor: FakeExecutor) -> None:
    fake_executor.forecasting.arms["lora"] = ExecutorError("it vanished")
    assert "Kept out by the limits: lora (peak memory not known: it vanished)" in ask("--max-memory", "2GB")


def test_where_no_cost_is_forecast_of_all_it_says_why_none_decides(ask: Ask, fake_executor: FakeExecutor) -> None:
    fake_executor.forecasting.arms["lora"] = ExecutorError("it vanished")
    said = ask()
    assert "Before a run: use full; forecast: train time 30.0 s" in said
    assert "No cost is forecast of all of these, so none decides. Missing: lora (train time: it vanished" in said
    assert "No cost is forecast" not in ask("--max-memory", "2GB")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min", "accuracy=0.9"], "--min needs measured results"),
        (["--max", "loss=1"], "--max needs measured results"),
        (["--max-latency", "20ms"], "--max-latency needs measured results"),
        (["--metric", "accuracy"], "--metric needs measured results"),
        (["--pareto", "quality,time"], "--pareto needs measured results"),
        (["--prefer", "latency"], "A forecast knows time, memory, stored, money."),
        (["--max-memory", "2"], "has no unit"),
        (["--prior", "full"], "'full' is not NAME=LOW..HIGH"),
        (["--prior", "full=0.8"], "e.g. --prior 'full=0.8..1'"),
        (["--prior", "0.8..1"], "e.g. --prior 'lora=0.8..1'"),
        (["--prior", "lora=0.9..0.8"], "The lower end comes first."),
        (["--prior", "lroa=0.8..1"], "did you mean 'lora'"),
    ],
)
def test_what_needs_results_or_cannot_be_read_is_refused_before_anything_is_looked_at(
    arguments: list[str],
    message: str,
    small_study: Path,
    fake_executor: FakeExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["recommend", "--before", "small.yaml", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""
    assert fake_executor.forecasting.asked == []


@pytest.mark.parametrize("arguments", [["--prior", "lora=0.8..1"], ["--no-profile"]])
def test_what_is_for_before_is_refused_without_it(
    arguments: list[str], small_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", "results", *arguments]) == 2
    assert f"{arguments[0]} is for --before" in capsys.readouterr().err


def test_it_takes_what_run_takes(ask: Ask, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    make, trials = fake_executor.forecasting.make, []

    def remember(trial: TrialSpec, *others: Any) -> ArmForecast:
        trials.append(trial)
        return cast(ArmForecast, make(trial, *others))

    monkeypatch.setattr(fake_executor.forecasting, "make", remember)
    options = ["--set", "protocol.batch_size=4", "--methods", "full,lora", "--seeds", "3", "--device", "cpu"]
    said = ask(*options, "--random-weights", "--search", "2", "--devices", "1")
    assert "use lora" in said
    assert "majority" not in said
    assert {trial.label for trial in trials} == {"full", "lora"}
    assert {trial.protocol.batch_size for trial in trials} == {4}
    assert all(trial.model.random_weights for trial in trials)
    assert fake_executor.device == "cpu"


def test_a_misspelt_key_is_named_with_what_was_meant(small_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--before", "small.yaml", "--set", "protocol.batchsize=4"]) == 2
    assert "did you mean 'batch_size'" in capsys.readouterr().err


STUDY_OPTIONS = [
    ["--set", "protocol.epochs=2"],
    ["--methods", "lora"],
    ["--seeds", "3"],
    ["--search", "2"],
    ["--random-weights"],
    ["--tracker", "tensorboard"],
    ["--device", "cpu"],
    ["--device", "auto"],
    ["--devices", "2"],
]


@pytest.mark.parametrize("arguments", STUDY_OPTIONS, ids=" ".join)
def test_a_study_that_was_run_is_not_changed(
    arguments: list[str], small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    StudyStore.create("results", Study(small_study).spec, Study(small_study).plan())
    assert main(["recommend", "results", *arguments]) == 2
    said = capsys.readouterr().err
    assert f"{arguments[0]} is for --before" in said
    assert f"`tuneoff recommend --before STUDY {arguments[0]} …`" in said
    assert main(["recommend", "--before", "results", *arguments]) == 2
    said = capsys.readouterr().err
    assert f"{arguments[0]} does not change the study of a folder: results" in said
    assert "give a study file or a recipe" in said
    assert fake_executor.forecasting.asked == []


@pytest.mark.parametrize(
    ("study", "message"), [("nosuch", "no recipe called 'nosuch'"), (".", "is not a study folder")]
)
def test_what_is_no_study_is_named(
    study: str, message: str, small_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", "--before", study]) == 2
    assert message in capsys.readouterr().err
