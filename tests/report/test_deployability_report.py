"""What the report and `recommend` tell of the forms in which trained models may be deployed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from rich.console import Console

from deployability_helpers import broken, form_result, keep
from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.analysis.deployability import ArmDeployability, FormSummary
from tuneoff.analysis.results import gather
from tuneoff.analysis.side_by_side import merge
from tuneoff.records.record import TrialRecord
from tuneoff.report import terminal
from tuneoff.report.advice import Advice, Criteria, advise, advise_results
from tuneoff.report.sections import deployability
from tuneoff.store import StudyStore

LEVELS = {"majority": Level(0.5, head=0, stored=0), "full": Level(0.95, 30.0), "lora": Level(0.945, 8.0)}
COSTS = dict.fromkeys(("memory", "time", "stored", "latency"))
REASON = "it adds nothing to the weights"


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return build_store(tmp_path / "s", small_study(*LEVELS, seeds=3), World(levels=LEVELS))


def records(store: StudyStore, label: str) -> list[TrialRecord]:
    return [record for record in store.records() if record.spec.label == label]


def measured(store: StudyStore, label: str = "lora", changed: int = 8) -> None:
    for record in records(store, label):
        base = form_result(store, record, "as_trained", weights_bytes=1 << 20, base_bytes=90 << 20)
        merged = form_result(store, record, "merged")
        packed = form_result(store, record, "int4", changed + record.spec.seed, notes=("24 linear layers in 4 bits",))
        keep(store, record, [base, merged, packed, broken("lora", REASON)])


def summary(store: StudyStore, label: str = "lora") -> ArmDeployability:
    (found,) = (arm for arm in report.build(store).deployability if arm.method == label)
    return found


def form(store: StudyStore, name: str) -> FormSummary:
    found = summary(store).form(name)
    assert found is not None
    return found


def test_a_form_is_compared_with_the_model_as_trained_on_the_same_examples(store: StudyStore) -> None:
    measured(store)
    trained, packed = form(store, "as_trained"), form(store, "int4")
    assert trained.difference is None
    assert trained.quality == pytest.approx(sum(r.metric("accuracy") or 0 for r in records(store, "lora")) / 3)
    assert packed.seeds == (0, 1, 2)
    assert (packed.changed_answers, packed.examples) == (27, 1200)
    assert packed.difference == pytest.approx(-9 / 400)
    assert packed.difference is not None
    assert packed.difference_low is not None
    assert packed.difference_high is not None
    assert packed.difference_low < packed.difference < packed.difference_high
    # Paired: far narrower than the interval of the score itself.
    assert packed.interval_low is not None
    assert packed.interval_high is not None
    assert packed.difference_high - packed.difference_low < packed.interval_high - packed.interval_low
    assert (packed.weights_bytes, packed.base_bytes) == (4 << 20, 0)
    assert packed.latency_seconds == pytest.approx(0.011)


def test_a_form_that_answers_alike_has_no_difference(store: StudyStore) -> None:
    measured(store)
    merged = form(store, "merged")
    assert (merged.difference, merged.changed_answers) == (0, 0)
    table = {row[0]: row for row in deployability.rows(summary(store))}
    assert table["merged"][3].startswith(("none", "+0.000"))
    assert table["merged"][4] == "0 of 1,200"
    assert table["as trained"][6] == "1.0 MiB + 90.0 MiB"
    assert table["4-bit weights"][4] == "27 of 1,200"


def test_a_form_that_does_not_work_is_a_row_with_its_reason(store: StudyStore) -> None:
    measured(store)
    failed = form(store, "lora")
    assert (failed.works, failed.reason, failed.quality) == (False, REASON, None)
    page = report.write(store, plots=False).read_text(encoding="utf-8")
    assert "## Deployability" in page
    assert "| as plain LoRA | no | – | – |" in page
    assert f"as plain LoRA: {REASON}." in page
    assert "4-bit weights: 24 linear layers in 4 bits." in page
    browsed = (store.report_folder / "report.html").read_text(encoding="utf-8")
    assert "Deployability" in browsed
    assert REASON in browsed


def test_a_form_that_fails_at_one_seed_names_it(store: StudyStore) -> None:
    measured(store)
    record = records(store, "lora")[1]
    keep(store, record, [form_result(store, record, "as_trained"), broken("merged", "out of memory")])
    merged = form(store, "merged")
    assert (merged.works, merged.seeds, merged.reason) == (False, (0, 2), "seed 1: out of memory")


@pytest.mark.parametrize("hurt", ["deployability.json", "predictions-test-int4.jsonl"])
def test_what_is_damaged_is_named_and_left_out(hurt: str, store: StudyStore) -> None:
    measured(store)
    path = store.trial(records(store, "lora")[0].spec.id).folder / hurt
    path.write_text(path.read_text().replace("4", "5", 1))
    found = summary(store)
    assert len(found.problems) == 1
    assert hurt in found.problems[0]
    assert str(store.root) not in found.problems[0]
    assert form(store, "int4").seeds == (1, 2)


def test_results_of_other_weights_do_not_count(store: StudyStore) -> None:
    measured(store)
    record = records(store, "lora")[0]
    keep(store, record, [form_result(store, record, "as_trained")], weights={"adapter_model.safetensors": "0" * 64})
    assert "of other weights" in summary(store).problems[0]


def test_a_study_of_which_nothing_was_measured_says_nothing(store: StudyStore) -> None:
    built = report.build(store)
    assert built.deployability == ()
    assert deployability.section(built) == ""


def test_texts_are_compared_by_what_they_are(tmp_path: Path) -> None:
    measured_before = [{"scores": (), "loss": 4.0, "output": "a text"}, {"scores": (), "loss": 2.0, "output": "b"}]
    after = [{"scores": (), "loss": 4.5, "output": "a text"}, {"scores": (), "loss": 2.0, "output": "c"}]
    from tuneoff.analysis.deployability import _changes

    change = _changes(measured_before, after)
    assert (change.answers, change.largest, change.of) == (1, 0.5, "nats")
    numbers = [[{"scores": (), "loss": None, "output": text}] for text in ("1.5", "1.25")]
    assert _changes(*numbers).largest == 0.25
    words = [[{"scores": (), "loss": None, "output": text}] for text in ("one", "two")]
    assert (_changes(*words).largest, _changes(*words).answers) == (None, 1)
    shares = [[{"scores": scores, "loss": None, "output": "a"}] for scores in ((-0.1, -3.0), (-0.2, -2.5))]
    assert _changes(*shares).of == "probability"


def test_an_arm_may_be_called_as_markup(store: StudyStore) -> None:
    measured(store)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(terminal.deployability_table(summary(store).model_copy(update={"method": "lora [/x]"}), 120))
    assert "lora [/x]" in captured.get()


def advised(store: StudyStore, *forms: str) -> Advice:
    return advise(store, Criteria(COSTS, forms=forms))  # type: ignore[arg-type]


def test_recommend_asks_for_forms_that_were_measured_to_work(store: StudyStore) -> None:
    measured(store)
    merged = advised(store, "merged")
    assert merged.answer == "lora"
    assert "with a form “merged” that works" in merged.lines()[0]
    assert merged.as_data()["limits"] == [{"figure": "deployable_merged", "at_least": 1.0, "text": "merged"}]
    assert not any("would change" in line and "deployable" in line for line in merged.lines())
    lora = advised(store, "merged", "lora")
    assert lora.answer is None
    text = " ".join(lora.lines())
    assert REASON in text
    full = next(arm for arm in lora.recommendation.arms if arm.label == "full")
    assert "tuneoff deployability" in full.shortfalls[0].reason
    assert "--arm full" in full.shortfalls[0].reason


def test_of_joined_studies_the_command_measures_in_the_arms_own(store: StudyStore, tmp_path: Path) -> None:
    other = build_store(tmp_path / "another one", small_study(*LEVELS, seeds=3), World(levels=LEVELS))
    joined = merge({"fast": gather(store), "slow": gather(other)})
    advice = advise_results(joined.results, Criteria(COSTS, forms=("merged",)))
    arm = next(arm for arm in advice.recommendation.arms if arm.label == "lora [slow]")
    command = ["tuneoff", "deployability", str(other.root), "--arm", "lora", "--form", "merged"]
    assert shlex.join(command) in arm.shortfalls[0].reason
