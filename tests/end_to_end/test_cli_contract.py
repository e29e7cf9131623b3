"""Every command of the contract on a tiny study, and the shapes of what it prints as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

from running_helpers import Ended, OneExecutor, SharedExecutor, Tiny, tiny_rows, write_rows
from tuneoff.cli.main import main
from tuneoff.planning.loading import load
from tuneoff.records.events import StreamEvent
from tuneoff.study.study import Study

pytest_plugins = ("running_fixtures",)

METHODS = ("majority", "head", "full", "lora")
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def folder(tiny: Tiny, executor: SharedExecutor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `study.yaml` and, in `out`, its results."""
    place = tmp_path_factory.mktemp("contract")
    (place / "study.yaml").write_text(yaml.safe_dump(tiny.study(METHODS, seeds=2)), encoding="utf-8")
    with OneExecutor(executor).registered():
        assert main(["run", str(place / "study.yaml"), "--out", str(place / "out")]) == 0
    return place


def _json(ended: Ended, code: int = 0) -> Any:
    assert ended.code == code, ended.err
    return json.loads(ended.out)


def _events(ended: Ended, code: int = 0) -> list[dict[str, Any]]:
    """What was streamed, once it is known to be as documented."""
    assert ended.code == code, ended.err
    events = [json.loads(line) for line in ended.out.splitlines()]
    for event in events:
        TypeAdapter(StreamEvent).validate_python(event)
    return events


def test_run_leaves_a_report(folder: Path) -> None:
    report = folder / "out" / "report"
    names = {path.name for path in report.rglob("*") if path.is_file()}
    assert {"report.md", "results.csv"} <= names
    assert sum(name.endswith(".png") for name in names) >= 3


def test_run_again_streams_what_is_there_and_the_report(folder: Path, run: Run) -> None:
    events = _events(run("run", folder / "study.yaml", "--out", folder / "out", "--json"))
    assert [event["event"] for event in events] == ["study_started", *(["trial_ended"] * 8), "study_ended"]
    assert all(event["earlier"] for event in events[1:-1])
    assert events[-1]["report"] == _json(run("report", folder / "out", "--json"))


def test_a_real_runs_stream_is_as_documented_and_what_watch_tells(tiny: Tiny, run: Run, tmp_path: Path) -> None:
    raw = tiny.study({"majority": {}, "full": {}, "lora": {"learning_rate": {"search": {"low": 1e-3, "high": 1e-1}}}})
    del raw["protocol"]["learning_rate"]
    raw["protocol"] |= {"search": 2, "seeds": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    events = _events(run("run", tmp_path / "study.yaml", "--out", tmp_path / "out", "--json"))
    assert events[0]["trials"] == {"search": 4, "final": 3}
    kinds = [event["event"] for event in events]
    assert (kinds.count("trial_started"), kinds.count("trial_ended")) == (7, 7)
    assert {"phase", "step", "validation", "machine"} <= set(kinds)
    assert events[-1]["report"]["trials"]["completed"] == 3
    scores = {event["trial"]: event["metrics"] for event in events if event["event"] == "trial_ended"}
    record = Study.open(tmp_path / "out").records()[1]
    assert scores[record.spec.id] == [metric.model_dump(mode="json") for metric in record.metrics]
    watched = _events(run("watch", tmp_path / "out", "--json"))
    for mine, theirs in zip(events, watched, strict=True):
        if mine["event"] in ("study_started", "trial_started", "trial_ended", "study_ended"):
            mine, theirs = mine | {"time": None}, theirs | {"time": None}
        assert mine == theirs
    shown = run("watch", tmp_path / "out")
    assert "7/7 done" in shown.out
    assert "search: accuracy" in shown.out


def test_report_as_json_has_the_shape_that_others_read(folder: Path, run: Run) -> None:
    body = _json(run("report", folder / "out", "--json"))
    assert body["schema_version"] == 4
    methods = {entry["method"]: entry for entry in body["methods"]}
    assert list(methods) == list(METHODS)
    for entry in methods.values():
        assert entry["statuses"]["completed"] == 2
        for name in ("accuracy", "macro_f1", "mcc", "loss"):
            figure = entry["metrics"][name]
            assert {"mean", "std", "n"} <= figure.keys()
            assert figure["n"] == 2
            assert math.isfinite(figure["mean"])
    full, head, baseline = methods["full"], methods["head"], methods["majority"]
    assert full["train_seconds"]["mean"] > 0
    assert full["peak_memory_bytes"]["mean"] > 1e6
    assert full["trainable_parameters"] == full["total_parameters"]
    assert head["trainable_parameters"] == 3 * 32 + 3
    seconds = baseline["train_seconds"]
    assert (seconds["mean"], seconds["std"], seconds["interval_low"], seconds["n"]) == (None, None, None, 0)
    assert baseline["missing"]


def test_report_shows_every_row_in_the_terminal(folder: Path, run: Run) -> None:
    ended = run("report", folder / "out")
    assert ended.code == 0
    assert all(name in ended.out for name in METHODS)


def test_plan_as_json_names_every_trial_and_trains_nothing(folder: Path, run: Run) -> None:
    body = _json(run("plan", folder / "study.yaml", "--json"))
    assert body["schema_version"] == 3
    trials = body["trials"]
    # Seed by seed; rows take turns at going first.
    assert [t["seed"] for t in trials] == [seed for seed in (0, 1) for _ in METHODS]
    assert sorted((t["method"], t["seed"]) for t in trials) == sorted(
        (name, seed) for seed in (0, 1) for name in METHODS
    )
    assert {t["id"] for t in trials} == {path.name for path in (folder / "out" / "trials").iterdir()}
    for trial in trials:
        assert {"id", "method", "seed", "configuration", "trainable_parameters", "total_parameters"} <= trial.keys()
    lora = next(t for t in trials if t["method"] == "lora")
    assert lora["configuration"]["options"]["r"] == 8
    assert lora["configuration"]["learning_rate"] == 1e-2
    assert body["labels"] == ["cats", "dogs", "fish"]


def test_plan_counts_what_a_trial_then_trains(folder: Path, run: Run) -> None:
    planned = {t["id"]: t for t in _json(run("plan", folder / "study.yaml", "--json"))["trials"]}
    for record in Study.open(folder / "out").records():
        assert record.parameters is not None
        assert planned[record.spec.id]["trainable_parameters"] == record.parameters.trainable.total
        assert planned[record.spec.id]["total_parameters"] == record.parameters.total.total


@pytest.mark.parametrize("arguments", [[], ["--random-weights"]])
def test_the_published_parameter_counts_come_out_without_a_network(arguments: list[str], run: Run) -> None:
    body = _json(run("plan", "roberta-base-binary", "--json", "--methods", "full,lora,ia3", *arguments))
    counted = {trial["method"]: trial["trainable_parameters"] for trial in body["trials"]}
    assert counted == {"full": 124_647_170, "lora": 1_181_954, "ia3": 656_642}


def test_the_adapters_of_bert_base_have_the_known_sizes(run: Run, folder: Path, tiny: Tiny, tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig().save_pretrained(tmp_path / "bert-base")
    raw = tiny.study(
        {
            "one": {"method": "adapter", "placement": "pfeiffer", "reduction_factor": 16},
            "two": {"method": "adapter", "placement": "houlsby", "reduction_factor": 16},
        }
    )
    raw["model"] = {"source": str(tmp_path / "bert-base"), "random_weights": True}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    trials = _json(run("plan", tmp_path / "study.yaml", "--json"))["trials"]
    counted = {t["method"]: t["trainable_parameters_by_role"]["adapter"] for t in trials}
    assert counted == {"one": 894_528, "two": 1_789_056}


@pytest.mark.parametrize("what", ["methods", "tasks", "recipes", "models", "datasets", "sources"])
def test_list_names_what_there_is(what: str, run: Run) -> None:
    plain, body = run("list", what), _json(run("list", what, "--json"))
    known = {
        "methods": "prompt_tuning",
        "tasks": "classification",
        "recipes": "gpt2-ag-news",
        "models": "minilm",
        "datasets": "reuters-r8",
        "sources": "hub",
    }[what]
    assert plain.code == 0
    assert known in plain.out
    assert known in json.dumps(body)


def test_show_describes_a_method(run: Run) -> None:
    ended = run("show", "method", "lora")
    assert ended.code == 0
    for part in ("Hu et al. 2022", "alpha", "16"):
        assert part in ended.out
    assert "did you mean 'lora'" in run("show", "method", "loar").err


def test_init_writes_a_study_that_runs(run: Run, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "reviews.csv", tiny_rows(60, 9), ("body", "kind of animal"))
    written = run("init", "reviews.csv", "--text", "body", "--label", "kind of animal", "--out", "mine.yaml")
    assert written.code == 0, written.err
    ended = run(
        "run",
        "mine.yaml",
        "--methods=majority,full",
        "--seeds=1",
        f"--set=model={tiny.model}",
        "--set=protocol.epochs=1",
        "--set=protocol.max_length=24",
        "--out=out",
        "--json",
    )
    assert [entry["method"] for entry in _events(ended)[-1]["report"]["methods"]] == ["majority", "full"]
    assert run("init", "reviews.csv", "--out", "mine.yaml").code == 2, "nothing is overwritten"


def test_predict_answers_for_rows_without_labels(folder: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('text\n"oooooooo, 1"\nrrrrrrrr 2\n')
    plain = run("predict", folder / "out", "full-s0", tmp_path / "new.csv")
    assert plain.code == 0, plain.err
    assert plain.out.splitlines()[0] == "index,output,probability"
    assert len(plain.out.splitlines()) == 3
    body = _json(run("predict", folder / "out", "full-s0", tmp_path / "new.csv", "--json"))
    assert sum(body["predictions"][0]["scores"].values()) == pytest.approx(1.0, abs=1e-4)


def test_predict_gives_what_the_trial_predicted(folder: Path, run: Run, tiny: Tiny) -> None:
    from tuneoff.store import StudyStore

    for label in ("head", "full", "lora"):
        kept = StudyStore.open(folder / "out").find_trial(f"{label}-s1").predictions("test")
        assert kept is not None
        body = _json(run("predict", folder / "out", f"{label}-s1", tiny.test, "--json"))
        assert [p["output"] for p in body["predictions"]] == [p.output for p in kept]


def test_export_writes_an_adapter_and_a_merged_model(folder: Path, run: Run, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    adapter = _json(run("export", folder / "out", "lora-s0", tmp_path / "adapter", "--json"))
    assert adapter["kind"] == "PEFT adapter"
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= set(adapter["files"])
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors").keys()
    assert any("classifier" in name for name in names), "the head is included"
    merged = _json(run("export", folder / "out", "lora-s0", tmp_path / "merged", "--merged", "--json"))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(merged["files"])
    assert not [n for n in load_file(tmp_path / "merged" / "model.safetensors") if "lora" in n]


def test_what_cannot_be_exported_is_one_message(folder: Path, run: Run, tmp_path: Path) -> None:
    for arguments, pattern in (
        (("full", tmp_path / "a"), "2 trials"),
        (("nothing", tmp_path / "a"), "no trial"),
        (("majority-s0", tmp_path / "a"), "trains nothing"),
        (("head-s0", folder), "not an empty folder"),
    ):
        ended = run("export", folder / "out", *arguments)
        assert ended.code == 2, ended.out
        assert pattern in ended.err
        assert ended.err.count("Error:") == 1


def test_a_run_with_a_failed_trial_ends_with_one_and_reports(tiny: Tiny, run: Run, faulty: str, tmp_path: Path) -> None:
    raw = tiny.study({"majority": {}, "broken": {"method": "faulty", "how": "raise"}})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    body = _events(run("run", tmp_path / "study.yaml", "--out", tmp_path / "out", "--json"), code=1)[-1]["report"]
    entries = {entry["method"]: entry for entry in body["methods"]}
    assert entries["majority"]["statuses"] == {"completed": 1}
    assert entries["broken"]["statuses"] == {"failed": 1}
    assert entries["broken"]["metrics"] == {}
    [failure] = body["failures"]
    assert failure["status"] == "failed"
    assert "this plug-in divides by zero" in failure["cause"]


def test_random_weights_are_said_loudly(tiny: Tiny, run: Run, tmp_path: Path) -> None:
    raw = tiny.study(("full",))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    ended = run("run", tmp_path / "study.yaml", "--random-weights", "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "RANDOM WEIGHTS" in ended.err
    assert "random" in ended.out.lower()
    assert "random" in (tmp_path / "out" / "report" / "report.md").read_text().lower()
    assert Study.open(tmp_path / "out").records()[0].model is not None


@pytest.mark.slow
def test_doctor_answers_as_json(run: Run) -> None:
    body = json.loads(run("doctor", "--json").out)
    assert "torch" in json.dumps(body)


def test_python_m_tuneoff_is_the_same_program(command: Run) -> None:
    assert "run" in command("--help").out
    assert command("--version").out.startswith("tuneoff ")
    assert command("rum").code == 2


NEWS = [(text, {"cats": "World", "dogs": "Sports", "fish": "Business"}[label]) for text, label in tiny_rows(15, 3)]
RECIPES: dict[str, tuple[tuple[str, str], list[tuple[str, str]]]] = {
    "gpt2-ag-news": (("text", "label"), [*NEWS, *((f"s {i}", "Sci/Tech") for i in range(5))]),
    "roberta-base-binary": (("sentence", "label"), [(f"a {w} film", w) for w in ("negative", "positive") * 10]),
    **dict.fromkeys(
        ("gpt2-cnn-dailymail", "gpt-neo-cnn-dailymail"),
        (("article", "highlights"), [(f"Story {i}. It went on for a while.", f"story {i}") for i in range(20)]),
    ),
}
"""The recipes after published comparisons: their columns, and rows that they can be run on."""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_published_recipe_runs_with_random_weights_on_a_few_rows(recipe: str, run: Run, tmp_path: Path) -> None:
    header, rows = RECIPES[recipe]
    writes = header[1] == "highlights"
    splits = ("train", "validation", "test") if writes else ("train", "test")
    ended = run(
        "run",
        recipe,
        "--random-weights",
        *(f"--set=task.data.{split}={write_rows(tmp_path / f'{split}.csv', rows, header)}" for split in splits),
        *(("--set=task.max_target_length=6",) if writes else ()),
        "--set=protocol.train_rows=16",
        "--set=protocol.test_rows=4",
        "--set=protocol.validation_rows=4",
        "--set=protocol.epochs=1",
        "--set=protocol.max_length=32",
        "--set=execution.latency_examples=2",
        "--seeds=1",
        f"--out={tmp_path / 'out'}",
        "--json",
    )
    report = _events(ended)[-1]["report"]
    study = load(recipe)
    assert {entry["method"] for entry in report["methods"]} == set(study.methods)
    for entry in report["methods"]:
        assert entry["statuses"] == {"completed": 1}, entry["method"]
        assert set(entry["metrics"]) >= ({"rouge_l", "loss"} if writes else {"accuracy"})
        assert study.published is not None
        assert set(entry["published"]) == set(study.published.figures[entry["method"]])
