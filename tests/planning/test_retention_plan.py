"""Where `retention` is part of trials, of their ids and of a study's question, and where it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.config.spec import StudySpec
from tuneoff.errors import StudyError
from tuneoff.planning.loading import load
from tuneoff.planning.plan import difference, plan, question, search_trial, trial_id

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]
HEAD = "model: smollm2-135m\ntask: {name: generation, data: docstrings}\nmethods: [lora, zero_shot]\n"


def test_without_the_key_ids_are_as_they_were_and_with_it_others(make_study: MakeStudy) -> None:
    (plain, *_), (held, *_) = plan(make_study()), plan(make_study(retention="docstrings"))
    assert plain.retention is None
    assert trial_id(held.model_copy(update={"retention": None})) == plain.id
    assert held.id != plain.id
    assert plan(make_study(retention={"held": "docstrings", "rows": 50}))[0].id not in (held.id, plain.id)


def test_only_final_trials_that_train_are_scored(make_study: MakeStudy) -> None:
    study = make_study(
        methods={"lora": {}, "majority": {}}, retention="docstrings", protocol={"seeds": 1, "search": {"trials": 2}}
    )
    lora, majority = plan(study)
    assert lora.retention == study.retention
    assert majority.retention is None
    assert search_trial(study, "lora", {}).retention is None
    without = make_study(methods={"lora": {}, "majority": {}}, protocol=study.protocol.model_dump())
    assert majority.id == plan(without)[1].id


def test_what_is_held_is_no_part_of_trials_that_do_not_score_it(make_study: MakeStudy) -> None:
    keys: dict[str, Any] = {
        "methods": {"lora": {}, "majority": {}},
        "protocol": {"seeds": 1, "search": {"trials": 2}},
    }
    plain, study = make_study(**keys), make_study(**keys, retention=["notes.csv", "reuters-r8"])
    fingerprints = {"reuters-r8": "rows", "minilm": "model"}
    held = {**fingerprints, "notes.csv": "notes"}
    lora, majority = plan(study, held)
    assert lora.fingerprints == held
    assert majority.fingerprints == fingerprints
    assert majority.id == plan(plain, fingerprints)[1].id
    assert search_trial(study, "lora", {}, held).id == search_trial(plain, "lora", {}, fingerprints).id


def test_it_is_part_of_the_question(make_study: MakeStudy) -> None:
    plain, held = make_study(), make_study(retention="docstrings")
    assert "retention" not in question(plain)
    assert "retention" in difference(plain, held)


def problems(study_path: Callable[..., Path], text: str, **options: Any) -> dict[str, tuple[int | None, str]]:
    with pytest.raises(StudyError) as caught:
        load(study_path(f"{HEAD}{text}"), **options)
    return {problem.where: (problem.line, problem.message) for problem in caught.value.problems}


def test_the_problems_of_what_is_held_are_told_with_their_lines(study_path: Callable[..., Path]) -> None:
    found = problems(
        study_path,
        "retention:\n"
        "  held:\n"
        "    topics: {task: {data: reuters-r8}}\n"
        "    sums: {task: {name: generation, data: sums.csv, tmplate: x}}\n"
        "    odd: {task: {name: generaton, data: sums.csv}}\n",
    )
    line, message = found["retention.held.topics.task"]
    assert line == 6
    assert "puts a fresh head on the model" in message
    assert "scoring: likelihood" in message
    assert "did you mean 'template'" in found["retention.held.sums.task.tmplate"][1]
    assert "did you mean 'generation'" in found["retention.held.odd.task.name"][1]


@pytest.mark.parametrize(
    ("keys", "where", "message"),
    [
        ("primary_metric: rouge_z", "primary_metric", "did you mean 'rouge_"),
        ("metrics: [rank_error]", "metrics", "scores a class"),
        ("metrics: 5", "metrics", "tuple"),
    ],
)
def test_the_metrics_of_a_task_that_is_held_are_checked(
    study_path: Callable[..., Path], keys: str, where: str, message: str
) -> None:
    found = problems(
        study_path, f"retention: {{held: {{sums: {{task: {{name: generation, data: sums.csv, {keys}}}}}}}}}\n"
    )
    assert message in found[f"retention.held.sums.task.{where}"][1]


@pytest.mark.parametrize(
    ("text", "where", "known"),
    [
        ("retention: {hold: docstrings}", "retention.hold", "known: held, rows"),
        ("retention: {held: {a: {texts: docstrings}}}", "retention.held.a.texts", "known: text, column, task"),
        ("retention: {held: {a: {text: {sorce: x}}}}", "retention.held.a.text.sorce", "did you mean 'source'"),
        ("retention: {held: {a: {task: {data: {trian: x}}}}}", "retention.held.a.task.data.trian", "'train'"),
    ],
)
def test_unknown_keys_are_told_with_those_that_are_known(
    study_path: Callable[..., Path], text: str, where: str, known: str
) -> None:
    assert known in problems(study_path, f"{text}\n")[where][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods: [zero_shot]\nretention: docstrings\n", "nothing can be forgotten"),
        ("methods: {full: {}}\ndevices: 2\nshard: true\nretention: docstrings\n", "shard spreads those of full"),
    ],
)
def test_studies_that_cannot_tell_are_refused(study_path: Callable[..., Path], text: str, message: str) -> None:
    head = HEAD.rpartition("methods:")[0]
    with pytest.raises(StudyError, match=message):
        load(study_path(head + text))


def test_keys_below_a_short_form_can_be_set(study_path: Callable[..., Path]) -> None:
    study = load(study_path(f"{HEAD}retention: docstrings\n"), ["retention.rewind=true", "retention.rows=20"])
    assert study.retention is not None
    assert list(study.retention.held) == ["docstrings"]
    assert (study.retention.rows, len(study.retention.rewind)) == (20, 5)
