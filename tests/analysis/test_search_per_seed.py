"""`search.per_seed`: a search of its own for every final seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from record_helpers import Level, World, build_store, small_study
from tuneoff import report
from tuneoff.analysis.results import gather
from tuneoff.analysis.search_data import recorded, recorded_choices
from tuneoff.analysis.search_rounds import outline
from tuneoff.config.spec import StudySpec
from tuneoff.errors import StudyError
from tuneoff.planning import loading
from tuneoff.planning.plan import plan, search_studies
from tuneoff.report import html
from tuneoff.search.halving import check_rows
from tuneoff.search.space import LEARNING_RATE

SEARCH = {"trials": 5, "per_seed": True, "max_steps": 100}
LEVELS = {"majority": Level(0.5, head=0, stored=0), "full": Level(0.9), "lora": Level(0.8)}


def study(seeds: int = 6, **search: Any) -> StudySpec:
    return small_study(*LEVELS, seeds=seeds, search={**SEARCH, **search})


def test_every_seed_has_few_short_trials_under_a_seed_of_its_own() -> None:
    trials = outline(study(3))
    assert {trial.seed for trial in trials} == {1000, 1001, 1002}
    assert len(trials) == 3 * 2 * 4, "three seeds, two arms that train, four trials"
    assert {trial.protocol.max_steps for trial in trials} == {20}, "of 5 × 100 steps, a sixth for a seed's four trials"
    assert all(trial.purpose == "search" for trial in trials)
    assert len({trial.id for trial in trials}) == 6, "no search shares a trial with another"


@pytest.mark.parametrize(
    ("search", "trials", "steps"),
    [
        ({"trials": 8}, 4, 33),
        ({"trials": 8, "per_seed": 12}, 4, 16),
        ({"trials": 8, "per_seed": 1, "max_steps": None}, 8, None),
        ({"trials": 24, "max_steps": None}, 4, None),
        ({"trials": 60}, 10, 100),
        ({"trials": 2, "max_steps": 160}, 2, 26),
    ],
)
def test_the_searches_of_the_seeds_that_share_one_take_no_more_steps_than_it(
    search: dict[str, Any], trials: int, steps: int | None
) -> None:
    spec = study(6, **search)
    assert spec.protocol.search is not None
    (own, *_) = search_studies(spec).values()
    assert own.protocol.search is not None
    assert (own.protocol.search.trials, own.protocol.search.max_steps) == (trials, steps)
    whole = search.get("max_steps", 100)
    if steps is not None:
        taken = spec.protocol.search.sharers * trials * steps
        assert 0.95 * spec.protocol.search.trials * whole < taken <= spec.protocol.search.trials * whole


def test_rows_that_give_fewer_steps_than_are_shared_are_refused() -> None:
    check_rows(study().protocol, 1000)
    with pytest.raises(StudyError, match=r"counts on 100 steps (.|\n)*set protocol\.search\.max_steps to 60"):
        check_rows(study().protocol, 320)
    check_rows(study(trials=24).protocol, 320)  # whole trials take what there is


def test_one_more_seed_leaves_the_searches_of_the_others_as_they_are() -> None:
    few, more = ({trial.id for trial in outline(study(seeds))} for seeds in (3, 4))
    assert few < more


def test_one_search_for_all_stays_as_it_was() -> None:
    plain = small_study(*LEVELS, search={"trials": 5})
    assert search_studies(plain) == {None: plain}
    assert {trial.seed for trial in outline(plain)} == {1000}


def test_final_trials_have_what_their_own_seed_chose() -> None:
    chosen = {("lora", 0): {LEARNING_RATE: 0.5}, ("lora", 1): {LEARNING_RATE: 0.25}}
    rates = {(t.label, t.seed): t.learning_rate for t in plan(study(2), chosen=chosen)}
    assert (rates["lora", 0], rates["lora", 1]) == (0.5, 0.25)
    assert rates["full", 0] == rates["full", 1], "as yet without a choice: what is tried first"


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"grow": True}, "grow and per_seed cannot be combined"),
        ({"prune": "halving"}, "prune and per_seed cannot be combined"),
        ({"trials": 1}, "give it two at least"),
        ({"max_steps": None}, r"set protocol\.search\.max_steps"),
        ({"max_steps": 40}, r"leave 8 to each of a seed's 4 trials(.|\n)*search\.trials to 6 or more"),
        ({"per_seed": 1, "seed": 3}, "gives a search the seed 3"),
        ({"seed": 3}, "gives a search the seed 3, which is one of the study's"),
        ({"seed": 2**32 - 2}, "are over"),
    ],
)
def test_a_search_per_seed_that_cannot_be_is_refused(search: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        study(6, **search)
    assert loading.narrow(study(6), seeds=8).protocol.search is not None


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    store = build_store(tmp_path_factory.mktemp("searched") / "s", study(), World(levels=LEVELS))
    return store, report.build(store)


def test_an_arm_is_one_arm_whatever_its_seeds_have_chosen(made: Any) -> None:
    store, built = made
    arms = {arm.label: arm for arm in gather(store).arms}
    assert list(arms) == list(LEVELS)
    assert len({trial.learning_rate for trial in arms["lora"].trials}) > 1, "the searches found different rates"
    search = recorded(store)
    assert search is not None
    choices = recorded_choices(search)
    assert {trial.seed: trial.learning_rate for trial in arms["lora"].trials} == {
        seed: choices["lora", seed][LEARNING_RATE] for seed in range(6)
    }
    assert built.arm("lora").seeds == tuple(range(6))


def test_the_report_tells_every_seeds_choice_and_what_the_verdict_speaks_of(made: Any) -> None:
    _, built = made
    assert built.search is not None
    assert [(arm.method, arm.seed) for arm in built.search.arms if arm.method == "lora"] == [
        ("lora", seed) for seed in range(6)
    ]
    assert (built.search.per_seed, built.search.trials, built.search.equal) == (True, 4, True)
    assert built.search.max_steps == 20
    lora = built.arm("lora")
    assert lora.learning_rate_from == "search"
    assert len(lora.searched_per_seed[LEARNING_RATE]) == 6
    subject = "This is of these methods, each with its search on these validation rows, on this split: "
    varied = "seeds, searches and test examples vary in it, training and validation rows and base models do not."
    assert built.answer.scope == subject + varied
    page = html.render(built, [])
    assert "lora seed 5" in page
    assert "search trials for each of its seeds before the final trials" in page
    assert "The searches of 6 seeds take as many steps as one of 5 whole trials; short trials may favour" in page
    assert "(searched, by seed)" in page


def test_a_study_is_read_again_and_joined_as_it_was(made: Any, tmp_path: Path) -> None:
    store, _ = made
    before = list(store.trial_ids())
    search = recorded(store)
    assert search is not None
    trials = plan(study(), chosen=recorded_choices(search))
    type(store).create(store.root, study(), trials)
    assert sorted(store.trial_ids()) == sorted(before), "no seed's trial takes the place of another's"
