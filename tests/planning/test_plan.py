from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tuneoff.checksums import content_hash
from tuneoff.config.protocol import Protocol
from tuneoff.config.spec import StudySpec
from tuneoff.errors import StudyError
from tuneoff.planning.plan import difference, plan, question, search_trial

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]

OTHER_VALUES: dict[str, Any] = {
    "seeds": (7,),
    "data_seed": 1,
    "train_rows": 100,
    "validation_rows": 100,
    "test_rows": 100,
    "validation_fraction": 0.2,
    "test_fraction": 0.3,
    "duplicates": "remove",
    "epochs": 4,
    "max_steps": 10,
    "batch_size": 8,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": True,
    "batching": "random",
    "frozen_dropout": True,
    "splits": "per_seed",
    "evaluation_batch_size": 32,
    "max_length": 64,
    "learning_rate": 1e-5,
    "weight_decay": 0.1,
    "adam_beta1": 0.8,
    "adam_beta2": 0.99,
    "adam_epsilon": 1e-6,
    "schedule": "cosine",
    "warmup_steps": 5,
    "warmup_ratio": 0.1,
    "clip_norm": None,
    "dropout": 0.0,
    "precision": "fp32",
    "attention": "eager",
    "evaluations_per_epoch": 2,
    "select": "last",
    "select_metric": "loss",
}


def ids(study: StudySpec, **fingerprints: str) -> set[str]:
    return {trial.id for trial in plan(study, fingerprints)}


def test_the_first_seeds_of_every_arm_time_the_model_and_ids_do_not_tell(make_study: MakeStudy) -> None:
    trials = plan(make_study(protocol={"seeds": [4, 2, 9, 0]}))
    assert {trial.seed for trial in trials if trial.times_inference} == {4, 2, 9}
    fewer = plan(make_study(protocol={"seeds": [4, 2, 9, 0]}, execution={"latency_seeds": 1}))
    assert {(trial.seed, trial.label) for trial in fewer if trial.times_inference} == {(4, "lora"), (4, "full")}
    assert [trial.id for trial in fewer] == [trial.id for trial in trials]


def test_every_row_at_every_seed_seeds_first(make_study: MakeStudy) -> None:
    trials = plan(make_study(protocol={"seeds": [4, 2]}))
    assert [(t.seed, t.label) for t in trials] == [(4, "lora"), (4, "full"), (2, "full"), (2, "lora")]
    assert all(t.protocol.seeds == (t.seed,) for t in trials)
    assert [t.id.rsplit("-", 1)[0] for t in trials] == ["lora-s4", "full-s4", "full-s2", "lora-s2"]


def test_the_order_of_rows_turns_from_seed_to_seed(make_study: MakeStudy) -> None:
    study = make_study(methods=["majority", "lora", "full"], protocol={"seeds": 4})
    order = [trial.label for trial in plan(study)]
    assert [order[start : start + 3] for start in (0, 3, 6, 9)] == [
        ["majority", "lora", "full"],
        ["lora", "full", "majority"],
        ["full", "majority", "lora"],
        ["majority", "lora", "full"],
    ]
    alone = make_study(methods=["majority", "lora", "full"], protocol={"seeds": [3]})
    assert {trial.id for trial in plan(alone)} < {trial.id for trial in plan(study)}, "the order is no part of a trial"


def test_a_trial_is_complete(make_study: MakeStudy) -> None:
    trial = plan(make_study())[0]
    assert trial.options["r"] == 4
    assert trial.options["dropout"] == 0.0, "defaults are filled in"
    assert {"text", "label", "labels"} <= trial.task.options.keys()
    assert trial.learning_rate is not None
    assert trial.protocol.learning_rate is None, "the trial's own rate is the only one"


def test_the_protocols_rate_wins_over_the_rows_and_that_over_the_methods(make_study: MakeStudy) -> None:
    arms = {"lora": {"learning_rate": 0.5}, "full": {}, "majority": {}}
    rates = {t.label: t.learning_rate for t in plan(make_study(methods=arms, protocol={"seeds": 1}))}
    assert rates["lora"] == 0.5
    assert rates["full"] is not None
    assert rates["full"] != 0.5
    assert rates["majority"] is None, "it does not train"
    equal = plan(make_study(methods=arms, protocol={"seeds": 1, "learning_rate": 0.25}))
    assert [t.learning_rate for t in equal] == [0.25, 0.25, None]


def test_ids_are_stable_between_versions_and_machines(make_study: MakeStudy) -> None:
    study = make_study(methods={"majority": {}}, protocol={"seeds": 1})
    reason = "a changed id orphans every record that was kept"
    assert [t.id for t in plan(study)] == ["majority-s0-c295d904a1"], reason
    # From before these could be chosen.
    study = make_study(methods={"majority": {}}, protocol={"seeds": 1, "batching": "random", "frozen_dropout": True})
    assert [t.id for t in plan(study)] == ["majority-s0-50771152c9"], reason


def test_planning_is_pure(make_study: MakeStudy) -> None:
    study = make_study()
    before = study.model_dump()
    assert plan(study) == plan(study)
    assert study.model_dump() == before


def test_an_id_tells_content_not_names(make_study: MakeStudy) -> None:
    def hashes(study: StudySpec) -> list[str]:
        return [trial.id.rsplit("-", 1)[1] for trial in plan(study)]

    plain = make_study(methods={"lora": {"r": 4}})
    renamed = make_study(methods={"a name of my own": {"method": "lora", "r": 4}}, name="other", description="words")
    spelt_out = make_study(methods={"lora": {"r": 4, "alpha": 16, "dropout": 0}})
    slow = make_study(methods={"lora": {"r": 4}}, execution={"timeout_seconds": 5, "keep_weights": False})
    lean = make_study(methods={"lora": {"r": 4}}, execution={"release_memory": True})
    with_margin = make_study(methods={"lora": {"r": 4}}, margin=0.01)
    assert hashes(plain) == hashes(renamed) == hashes(spelt_out) == hashes(slow) == hashes(lean) == hashes(with_margin)
    assert not difference(plain, with_margin), "a margin asks nothing of training"
    assert plan(renamed)[0].id.startswith("a_name_of_my_own-s0-"), "an id is the name of a folder"


def test_the_engine_is_part_of_what_is_trained_and_of_the_question(make_study: MakeStudy) -> None:
    fast, plain = make_study(methods=["lora", "majority"]), make_study(methods=["lora", "majority"], execution="plain")
    assert (fast.execution.engine, plain.execution.engine) == ("fast", "plain")
    assert plain == make_study(methods=["lora", "majority"], execution={"engine": "plain"})
    differing = [one.label for one, other in zip(plan(fast), plan(plain), strict=True) if one.id != other.id]
    assert set(differing) == {"lora"}, "majority trains nothing"
    assert difference(fast, plain) == "engine: fast there, plain here"


@pytest.mark.parametrize("key", [key for key in Protocol.model_fields if key not in ("search", "race")])
def test_every_protocol_value_changes_every_id(make_study: MakeStudy, key: str) -> None:
    value = OTHER_VALUES[key]
    assert getattr(Protocol(), key) != value
    assert not ids(make_study(protocol={})) & ids(make_study(protocol={key: value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "smollm2-135m"},
        {"model": {"source": "minilm", "random_weights": True}},
        {"model": {"source": "minilm", "revision": "abc"}},
        {"task": {"data": "reuters-r52"}},
        {"task": {"data": "reuters-r8", "text": "Text"}},
        {"task": {"data": "reuters-r8", "group": "author"}},
        {"task": {"data": {"train": "reuters-r8"}}},
        {"methods": {"lora": {"r": 5}, "full": {"learning_rate": 0.1}}},
    ],
)
def test_another_question_has_other_ids(make_study: MakeStudy, changes: dict[str, Any]) -> None:
    assert not ids(make_study()) & ids(make_study(**changes))


def test_a_changed_file_is_another_trial(make_study: MakeStudy) -> None:
    study = make_study()
    assert ids(study, train="aaa") == ids(study, train="aaa")
    assert not ids(study, train="aaa") & ids(study, train="bbb")
    assert not ids(study, train="aaa") & ids(study)


def test_two_rows_of_one_configuration_are_an_error(make_study: MakeStudy) -> None:
    study = make_study(methods={"lora": {"r": 8}, "again": {"method": "lora"}, "full": {}})
    with pytest.raises(StudyError) as caught:
        plan(study)
    (problem,) = caught.value.problems
    assert problem.where == "methods.again"
    assert "'lora'" in problem.message


def test_a_questions_rows_and_seeds_do_not_matter(make_study: MakeStudy) -> None:
    one = question(make_study(methods={"lora": {}}, protocol={"seeds": 1}))
    assert one == question(make_study(methods={"full": {}}, protocol={"seeds": 5}))
    assert one != question(make_study(protocol={"epochs": 9}))


def test_the_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": [1, 2]}) != content_hash({"a": [2, 1]})


def test_a_search_changes_no_trial_of_the_verdict_but_its_configuration(make_study: MakeStudy) -> None:
    plain = make_study(methods={"lora": {"r": 4, "learning_rate": 1e-3}, "full": {}, "majority": {}})
    arms = {"lora": {"r": {"search": [2, 4]}}, "full": {}, "majority": {}}
    study = make_study(methods=arms, protocol={"search": 8})
    chosen = {"lora": {"learning_rate": 1e-3, "r": 4}}
    assert plan(study, {}, chosen) == plan(plain), "full stands at its default, which is tried first"
    assert all(trial.protocol.search is None for trial in plan(study))


def test_a_search_trial_is_no_trial_of_the_verdict(make_study: MakeStudy) -> None:
    study = make_study(methods={"lora": {}}, protocol={"search": {"trials": 8, "train_rows": 50, "max_steps": 5}})
    values = {"learning_rate": 2e-4, "r": 16}
    trial = search_trial(study, "lora", values)
    assert (trial.purpose, trial.seed, trial.learning_rate, trial.options["r"]) == ("search", 1000, 2e-4, 16)
    assert (trial.protocol.train_rows, trial.protocol.max_steps, trial.protocol.epochs) == (50, 5, 3)
    assert (trial.protocol.seeds, trial.protocol.search) == ((1000,), None)
    assert trial.id.startswith("lora-search-s1000-")
    same = make_study(methods={"lora": {}}, protocol={"seeds": [1000], "train_rows": 50, "max_steps": 5})
    (verdict,) = plan(same, {}, {"lora": values})
    assert verdict.id.rsplit("-", 1)[1] != trial.id.rsplit("-", 1)[1], "what it is for is part of what it is"
    assert search_trial(study, "lora", values, {"x": "y"}).id != trial.id


def test_fewer_steps_are_another_trial_of_the_same_configuration(make_study: MakeStudy) -> None:
    study = make_study(methods={"lora": {}}, protocol={"search": {"trials": 8, "train_rows": 50, "max_steps": 40}})
    whole, short = (search_trial(study, "lora", {"learning_rate": 2e-4}, steps=steps) for steps in (None, 10))
    assert (whole.protocol.max_steps, short.protocol.max_steps) == (40, 10)
    assert whole.id != short.id
    assert short.protocol.model_copy(update={"max_steps": 40}) == whole.protocol
    assert search_trial(study, "lora", {"learning_rate": 2e-4}, steps=40) == whole


def test_rows_that_are_searched_differently_are_no_twins(make_study: MakeStudy) -> None:
    arms = {"lora": {}, "narrow": {"method": "lora", "learning_rate": {"search": {"low": 1e-3, "high": 4e-3}}}}
    assert len(plan(make_study(methods=arms, protocol={"seeds": 1, "search": 4}))) == 2
    arms = {"lora": {}, "again": {"method": "lora", "r": {"search": [4, 8]}}, "twin": {"method": "lora"}}
    with pytest.raises(StudyError, match=r"methods\.twin: has the same method and configuration as 'lora'"):
        plan(make_study(methods=arms, protocol={"search": 4}))


def test_how_many_search_trials_is_no_other_question_but_the_search_is(make_study: MakeStudy) -> None:
    four = make_study(protocol={"search": 4})
    assert question(four) == question(make_study(protocol={"search": 9}))
    assert question(four) != question(make_study(protocol={"search": {"trials": 4, "seed": 7}}))
    assert question(four) != question(make_study(protocol={}))
    assert "search" not in question(make_study(protocol={}))["protocol"], "old folders keep their names"
    assert "prune" not in question(four)["protocol"]["search"], "and those of a search that is not pruned"
    pruned = make_study(protocol={"search": {"trials": 4, "prune": "halving", "max_steps": 80}})
    assert question(pruned) != question(make_study(protocol={"search": {"trials": 4, "max_steps": 80}}))
    assert "protocol.search.seed: 1000 there, 7 here" in difference(
        four, make_study(protocol={"search": {"trials": 4, "seed": 7}})
    )


def test_a_searched_setting_is_a_trials_own_and_part_of_its_id(make_study: MakeStudy) -> None:
    study = make_study(methods=["lora", "majority"], protocol={"search": 4, "weight_decay": {"search": [0, 0.01]}})
    fixed = make_study(methods=["lora", "majority"], protocol={"search": 4})
    assert ids(study) == ids(fixed), "what is tried first is the default"
    assert question(study) != question(fixed)
    chosen = {"lora": {"learning_rate": 1e-3, "weight_decay": 0.0}}
    lora, majority = plan(study, chosen=chosen)[:2]
    assert (lora.protocol.weight_decay, majority.protocol.weight_decay) == (0, 0.01)
    written = make_study(methods={"lora": {"learning_rate": 1e-3}}, protocol={"weight_decay": 0})
    assert lora.id == plan(written)[0].id, "as where the configuration is written down"
    tried = [search_trial(study, "lora", {"learning_rate": 1e-3, "weight_decay": decay}) for decay in (0, 0.01)]
    assert tried[0].id != tried[1].id
    assert tried[0].protocol.weight_decay == 0
