"""`tuneoff run`, `plan` and `report` with an executor that trains nothing."""

from __future__ import annotations

import errno
import io
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tuneoff.analysis.results import Results
from tuneoff.cli.commands import plan
from tuneoff.cli.main import main
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import DataError, ExecutorError, StoreError
from tuneoff.executors.base import Listener
from tuneoff.executors.local import LocalExecutor
from tuneoff.executors.ray import RayExecutor
from tuneoff.report import files
from tuneoff.report.schema import Report
from tuneoff.store import StudyStore
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds and is tested where it is made."""
    draw = files.write_built
    monkeypatch.setattr(files, "write_built", lambda results, report, plots=True: draw(results, report, plots=False))


def test_an_address_of_ray_names_executor_and_cluster(
    small_study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create(device: str, options: Mapping[str, Any]) -> None:
        raise ExecutorError(f"asked for on {device}: {dict(options)}")

    monkeypatch.setattr(RayExecutor, "create", create)
    assert main(["run", str(small_study), "--out", "results", "--device", "cpu", "--ray-address", "10.0.0.1:1"]) == 2
    assert "asked for on cpu: {'address': '10.0.0.1:1'}" in capsys.readouterr().err
    elsewhere = ["--executor", "slurm", "--ray-address", "10.0.0.1:1"]
    assert main(["run", str(small_study), "--out", "results", *elsewhere]) == 2
    assert "executor.address: unknown key 'address'" in capsys.readouterr().err


def test_run_announces_runs_and_reports(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study), "--out", "results", "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    assert "study small: minilm, classification on rows.csv" in shown.err
    assert "3 arms × 2 seeds = 6 trials, device cpu, results in results" in shown.err
    assert shown.err.index("preparing") < shown.err.index("[1/6] majority seed 0: started")
    assert "[6/6] majority seed 1: completed in" in shown.err
    assert "test accuracy 0.900" in shown.err
    assert "lora" in shown.out
    assert str(Path("results/report/report.md")) in shown.out
    assert Path("results/report/report.md").is_file()
    assert (fake_executor.device, fake_executor.closed) == ("cpu", True)
    assert len(StudyStore.open("results").records()) == 6


def test_run_json_streams_events_and_ends_with_the_report(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study), "--out", "results", "--json"]) == 0
    ran = capsys.readouterr()
    streamed = [json.loads(line) for line in ran.out.splitlines()]
    assert [event["event"] for event in streamed] == [
        "study_started",
        *(["trial_started", "phase", "step", "trial_ended"] * 6),
        "study_ended",
    ]
    assert (streamed[0]["arms"], streamed[0]["trials"]) == (["majority", "full", "lora"], {"search": 0, "final": 6})
    assert "[1/6]" in ran.err
    assert main(["report", "results", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == streamed[-1]["report"]
    assert streamed[-1]["outcome"] == "completed"


@pytest.mark.parametrize(
    ("changes", "code", "outcome", "error"),
    [
        ({"fail": {"full"}}, 1, "failed_trials", None),
        ({"raise_at": 2}, 130, "interrupted", None),
        ({"raise_at": 1, "error": StoreError("disk full")}, 1, "error", "disk full"),
        ({"inspect_error": DataError("one label")}, 2, "error", "one label"),
    ],
    ids=["failed", "interrupted", "broken off", "impossible"],
)
def test_the_last_event_says_how_it_ended(
    changes: dict[str, Any],
    code: int,
    outcome: str,
    error: str | None,
    small_study: Path,
    fake_executor: FakeExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in changes.items():
        setattr(fake_executor, name, value)
    assert main(["run", str(small_study), "--out", "results", "--json"]) == code
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["outcome"], last["error"]) == ("study_ended", outcome, error)
    assert (last["report"] is None) == (outcome != "failed_trials")


def test_rows_that_cannot_be_used_end_the_stream_too(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    (small_study.parent / "rows.csv").write_text("text,label\n", encoding="utf-8")
    assert main(["run", str(small_study), "--out", "results", "--json"]) == 2
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["event"], last["event"], last["outcome"]) == ("study_started", "study_ended", "error")
    assert "no rows" in last["error"]


def test_a_stdout_that_nobody_reads_does_not_stop_the_training(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Gone())
    assert main(["run", str(small_study), "--out", "results", "--json"]) == 0
    assert len(StudyStore.open("results").records()) == 6
    assert main(["run", str(small_study), "--out", "results", "--seeds", "3"]) == 0
    assert len(StudyStore.open("results").records()) == 9
    assert Path("results/report/report.md").is_file()


def test_an_earlier_run_goes_on_by_its_folder(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.raise_at = 2
    assert main(["run", str(small_study), "--out", "results", "--set", "protocol.epochs=2"]) == 130
    fake_executor.raise_at = None
    small_study.unlink()
    capsys.readouterr()
    assert main(["run", "results"]) == 0
    assert capsys.readouterr().err.count("finished earlier") == 2
    records = StudyStore.open("results").records()
    assert len(records) == 6
    assert {record.spec.protocol.epochs for record in records} == {2}
    assert main(["run", "results", "--set", "protocol.epochs=3"]) == 2
    assert "asks something else" in capsys.readouterr().err
    assert main(["run", "results", "--set", "protocol.epochs=3", "--out", "others", "--seeds", "1"]) == 0
    assert len(StudyStore.open("others").records()) == 3


def test_a_recipe_is_a_recipe_whatever_folders_there_are(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study), "--out", "quickstart"]) == 0
    capsys.readouterr()
    assert main(["plan", "quickstart", "--json", "--methods", "lora", "--no-profile"]) == 0
    assert json.loads(capsys.readouterr().out)["study"]["name"] == "quickstart"


def test_run_again_keeps_what_is_finished(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study), "--out", "results", "--methods", "full"]) == 0
    capsys.readouterr()
    assert main(["run", str(small_study), "--out", "results"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("finished earlier") == 2
    assert shown.count(": started") == 4


def folders() -> list[Path]:
    return sorted(Path("runs").iterdir())


def shown_rows(folder: Path) -> tuple[list[str], list[int]]:
    """The rows and seeds of a report."""
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return [entry["method"] for entry in found["methods"]], found["study"]["seeds"]


@pytest.mark.parametrize(
    ("narrowed", "arms", "seeds", "new"),
    [
        (["--methods", "lora,full"], ["lora", "full"], [0, 1], 0),
        (["--seeds", "3"], ["majority", "full", "lora"], [0, 1, 2], 3),
        (["--methods", "head,lora", "--seeds", "1"], ["head", "lora"], [0], 1),
        (["--set", "methods.lora.r=2"], ["majority", "full", "lora"], [0, 1], 2),
    ],
    ids=["methods", "seeds", "both", "options"],
)
def test_a_run_of_other_rows_or_seeds_has_a_folder_of_its_own_and_trains_nothing_twice(
    narrowed: list[str],
    arms: list[str],
    seeds: list[int],
    new: int,
    small_study: Path,
    fake_executor: FakeExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", str(small_study)]) == 0
    (first,) = folders()
    before = (first / "report/report.json").read_bytes()
    capsys.readouterr()
    for again in (False, True):
        assert main(["run", str(small_study), *narrowed]) == 0
        assert capsys.readouterr().err.count(": started") == (0 if again else new)
    (second,) = set(folders()) - {first}
    assert shown_rows(second / "report") == (arms, seeds)
    assert (first / "report/report.json").read_bytes() == before
    assert len(StudyStore(second).records()) == len(arms) * len(seeds)


def test_a_damaged_trial_of_another_folder_is_run_again(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study)]) == 0
    for record in next(Path("runs").glob("*/trials/full-s0-*")).glob("record.json"):
        record.write_text(record.read_text(encoding="utf-8").replace("0.9", "1.0"), encoding="utf-8")
    capsys.readouterr()
    assert main(["run", str(small_study), "--methods", "full"]) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if ": started" in line] == [
        "[1/2] full seed 0: started"
    ]


def test_a_search_goes_on_in_a_folder_of_other_rows(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", str(small_study), "--search", "2", "--methods", "lora"])
    capsys.readouterr()
    main(["run", str(small_study), "--search", "2", "--methods", "lora,full"])
    started = [line for line in capsys.readouterr().err.splitlines() if ": started" in line]
    assert [line.split()[1:3] for line in started] == [["search", "full,"]] * 2


def test_a_narrower_run_into_a_folder_tells_of_what_it_was_asked_alone(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study), "--out", "results"]) == 0
    whole = Path("results/report/report.md").read_bytes()
    capsys.readouterr()
    assert main(["run", str(small_study), "--out", "results", "--methods", "lora", "--seeds", "1"]) == 0
    shown = capsys.readouterr().out
    assert "majority" not in shown.partition("other_trials")[0]
    assert "holds 5 more trials of earlier runs (majority, full, lora)" in " ".join(shown.split())
    (own,) = Path("results").glob("report-*")
    assert str(own / "report.md") in shown
    assert shown_rows(own) == (["lora"], [0])
    assert Path("results/report/report.md").read_bytes() == whole
    assert main(["run", "results", "--methods", "lora,full", "--json"]) == 0
    streamed = json.loads(capsys.readouterr().out.splitlines()[-1])["report"]
    assert [entry["method"] for entry in streamed["methods"]] == ["lora", "full"]
    assert main(["report", "results", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["methods"]) == 3


def test_results_in_python_are_those_of_the_last_run(small_study: Path, fake_executor: FakeExecutor) -> None:
    Study(small_study).run("results")
    narrowed = Study(small_study, methods=["lora"], seeds=1).run("results")
    assert len(narrowed.records()) == 1
    assert len(Study.open("results").records()) == 6


def test_failed_trial_is_exit_code_1_with_the_report_written(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.fail = {"full"}
    assert main(["run", str(small_study), "--out", "results"]) == 1
    shown = capsys.readouterr()
    assert "full seed 0: diverged after" in shown.err
    assert "the loss is not finite at step 3" in shown.err
    assert Path("results/report/report.md").is_file()
    assert main(["run", str(small_study), "--out", "results"]) == 1, "what diverged is not run again, and still failed"


def test_interrupt_keeps_what_is_finished_and_says_how_to_go_on(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.raise_at = 2
    assert main(["run", str(small_study), "--out", "results"]) == 130
    shown = capsys.readouterr().err
    assert "2 of 6 trials are finished and kept in results" in shown
    assert "the same command continues" in shown
    fake_executor.raise_at = None
    assert main(["run", str(small_study), "--out", "results"]) == 0
    assert len(StudyStore.open("results").records()) == 6


def test_request_to_end_is_an_interrupt(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def ask(store: StudyStore, trials: Sequence[TrialSpec], listener: Listener) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(fake_executor, "run", ask)
    assert main(["run", str(small_study), "--out", "results"]) == 130
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(("begun", "code"), [(0, 2), (1, 1)])
def test_error_before_training_is_2_and_after_it_began_1(
    begun: int, code: int, small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.raise_at, fake_executor.error = begun, StoreError("cannot write it", hint="Free some space.")
    assert main(["run", str(small_study), "--out", "results"]) == code
    assert "Error: cannot write it\nFree some space." in capsys.readouterr().err


def test_options_narrow_the_study(small_study: Path, fake_executor: FakeExecutor) -> None:
    arguments = ["--methods", "lora, full", "--methods", "head", "--seeds", "1", "--set", "protocol.epochs=4"]
    arguments += ["--set", "methods.lora.r=2", "--random-weights"]
    assert main(["run", str(small_study), "--out", "results", *arguments]) == 0
    specs = [record.spec for record in StudyStore.open("results").records()]
    assert [spec.label for spec in specs] == ["lora", "full", "head"]
    assert specs[0].options["r"] == 2
    assert all(spec.seed == 0 and spec.protocol.epochs == 4 and spec.model.random_weights for spec in specs)


def test_random_weights_are_said_loudly(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study), "--random-weights", "--seeds", "1"]) == 0
    assert "RANDOM WEIGHTS" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("task.text=nosuch", "has no column 'nosuch'"),
        ("task.label=text", "are the same column"),
        ("task.data.test=other.csv", "(test) has no column 'label'"),
        ("task.data.train=one_class.csv", "there is nothing to learn"),
        ("task.data.train=gap.csv", "have no label"),
        ("protocol.train_rows=1", "classes would have no training row left"),
        ("task.name=generation", "majority predicts a class; the task generation asks for a text"),
        ("methods.zero_shot.method=zero_shot", "zero_shot trains nothing, and this task puts a fresh head"),
    ],
)
def test_what_needs_no_model_to_be_known_is_told_without_a_process(
    command: str,
    change: str,
    hint: str,
    small_study: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(LocalExecutor, "children", property(lambda _: pytest.fail("a process was started")))
    Path("other.csv").write_text("text,kind\na text,one\n", encoding="utf-8")
    Path("one_class.csv").write_text("text,label\na text,one\nanother,one\n", encoding="utf-8")
    Path("gap.csv").write_text("text,label\na text,one\nanother,\n", encoding="utf-8")
    if "generation" in change:
        small_study.write_text(
            small_study.read_text().replace("  text: text\n  label: label\n", "  source: text\n  target: label\n")
        )
    assert main([command, str(small_study), "--set", change]) == 2
    assert hint in capsys.readouterr().err
    assert not [path for path in Path("runs").glob("*/*") if path.name != "lock"]


def test_what_is_asked_before_a_process_is_started_imports_no_torch(small_study: Path) -> None:
    script = (
        "import sys; from tuneoff.cli.main import main;"
        "code = main(['run', 'small.yaml', '--set', 'task.text=nosuch']);"
        "heavy = {'torch', 'transformers', 'peft', 'datasets'} & set(sys.modules);"
        "assert (code, heavy) == (2, set()), heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_short_options_set_keys_and_set_has_the_last_word(small_study: Path, fake_executor: FakeExecutor) -> None:
    arguments = ["--epochs", "4", "--lr", "1e-3", "--batch-size", "8", "--model", "smollm2-135m", "--data", "other.csv"]
    Path("other.csv").write_bytes(Path("rows.csv").read_bytes())
    assert main(["run", str(small_study), "--out", "results", *arguments, "--set", "protocol.epochs=5"]) == 0
    spec = StudyStore.open("results").study()
    assert (spec.protocol.epochs, spec.protocol.learning_rate, spec.protocol.batch_size) == (5, 1e-3, 8)
    assert (spec.model.source, spec.task.data.train.source) == ("smollm2-135m", "other.csv")


@pytest.mark.parametrize("command", [["run"], ["plan"], ["recommend", "--before"]])
def test_data_in_a_studys_place_is_told_what_to_do_with(
    command: list[str], small_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rows.json").write_text('[{"text": "a", "label": "b"}]', encoding="utf-8")
    for name in ("rows.csv", "rows.json"):
        assert main([*command, name]) == 2
        assert f"{name} is data, not a study\nWrite a study of it first: tuneoff init {name}" in capsys.readouterr().err
    assert main([*command, "nosuch.csv"]) == 2
    assert "no file 'nosuch.csv'" in capsys.readouterr().err
    Path("reviews.study.yaml").touch()
    assert main([*command, "reviews"]) == 2
    assert "did you mean 'reviews.study.yaml'" in capsys.readouterr().err


def test_a_study_in_a_folders_place_names_its_folders(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(small_study)]) == 0
    capsys.readouterr()
    for name in ("small.yaml", "small"):
        assert main(["report", name]) == 2
        assert f"Of that name there is {folders()[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--methods", "lroa"], "did you mean 'lora'"),
        (["--methods", ","], "--methods names no method"),
        (["--seeds", "0"], "0 is not in the range"),
        (["--set", "protocol.epoch=1"], "did you mean 'epochs'"),
        (["--set", "epochs"], "expected dotted.key=value"),
        (["--device", "tpu"], "'tpu' is not one of"),
    ],
)
def test_wrong_options_are_exit_code_2_before_anything_is_made(
    arguments: list[str],
    hint: str,
    small_study: Path,
    fake_executor: FakeExecutor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", str(small_study), "--out", "results", *arguments]) == 2
    assert hint in capsys.readouterr().err
    assert not Path("results").exists()


def test_plan_json_holds_every_trial_whole(
    small_study: Path, fake_executor: FakeExecutor, small_trials: list[TrialSpec], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(small_study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema_version"] == plan.SCHEMA_VERSION
    assert [trial["id"] for trial in found["trials"]] == [trial.id for trial in small_trials]
    lora = found["trials"][2]
    assert (lora["method"], lora["method_name"], lora["seed"]) == ("lora", "lora", 0)
    assert (lora["trainable_parameters"], lora["total_parameters"]) == (15, 1015)
    assert lora["trainable_parameters_by_role"] == {"head": 10, "adapter": 5, "base": 0}
    assert lora["configuration"]["options"]["r"] == small_trials[2].options["r"]
    assert lora["configuration"]["learning_rate"] == small_trials[2].learning_rate
    assert found["labels"] == ["bad", "good"]
    assert not (small_study.parent / "runs").exists()


def test_plan_keys_are_the_documented_ones(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(small_study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    keys = {key for key in found if key != "trials"} | {f"trials[].{key}" for key in found["trials"][0]}
    assert keys == set(plan.KEYS)


def test_plan_counts_that_could_not_be_had_are_null(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(small_study), "--json", "--methods", "majority"]) == 0
    trial = json.loads(capsys.readouterr().out)["trials"][0]
    assert trial["trainable_parameters"] is trial["total_parameters"] is None


def test_plan_table_has_rows_data_and_warnings(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.warnings = ({"name": "overlap", "message": "7 arms stand twice"},)
    assert main(["plan", str(small_study)]) == 0
    shown = capsys.readouterr().out
    starts = [line.split()[0] for line in shown.splitlines() if line.startswith(("majority", "full", "lora"))]
    assert starts == ["majority", "full", "lora"] * 2  # what is trained, and what it takes
    for part in ("3 arms × 2 seeds = 6 trials", "train: 1,234 rows, 3 longer", "2 classes: bad, good", "7 arms stand"):
        assert part in shown


def test_plan_of_a_text_task_shows_template_lengths_and_columns(
    writing_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.labels = ()
    fake_executor.columns = {"source": "body", "target": "summary"}
    assert main(["plan", str(writing_study)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    lengths = "max_target_length 16, min_target_length 0"
    assert f'generation: template "{{source}}\\n\\nIn short: ", {lengths}, long_targets "keep"' in shown
    assert "at most 64 tokens each" in shown
    assert "columns: source from body, target from summary" in shown
    assert "classes" not in shown
    assert main(["plan", str(writing_study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["study"]["primary_metric"], found["labels"]) == ("rouge_l", [])
    assert found["study"]["task_options"]["template"] == "{source}\n\nIn short: "
    assert found["study"]["task_options"]["max_target_length"] == 16


def test_plan_passes_on_what_makes_a_study_impossible(
    small_study: Path, fake_executor: FakeExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_executor.inspect_error = DataError("all arms have one label")
    assert main(["plan", str(small_study)]) == 2
    assert "all arms have one label" in capsys.readouterr().err


def test_report_of_a_folder_that_holds_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "not a study folder" in capsys.readouterr().err


def test_report_that_cannot_be_written_is_shown_all_the_same(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Study(small_study).run("results")

    def refuse(results: Results, report: Report, plots: bool = True) -> Path:
        raise StoreError("cannot write results/report")

    monkeypatch.setattr(files, "write_built", refuse)
    assert main(["report", "results"]) == 2
    shown = capsys.readouterr()
    assert "lora" in shown.out
    assert "cannot write results/report" in shown.err


def test_what_the_report_needs_is_imported_while_a_run_begins() -> None:
    code = (
        "import sys; from tuneoff.cli.commands.running import _begin_imports; before = set(sys.modules); "
        "_begin_imports().join(); needed = {'tuneoff.report.html', 'tuneoff.report.terminal', 'matplotlib.axes'}; "
        "needed |= {'pandas', 'scipy.special', 'tuneoff.report.builder'}; "
        "assert not needed & before; assert needed <= set(sys.modules), needed - set(sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
