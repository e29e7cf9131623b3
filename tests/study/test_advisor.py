"""What published rules propose before a run, and the study that would check it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from forecast_helpers import arm_forecast
from tuneoff import registry
from tuneoff.errors import DataError
from tuneoff.interfaces import ProposalSetting
from tuneoff.planning import loading
from tuneoff.records.forecast import ArmForecast, Remedy, Shape
from tuneoff.report import proposals as words
from tuneoff.report.proposal_schema import Proposed, ProposedValue
from tuneoff.study import advisor
from tuneoff.study.study import Study

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)


def advise(*overrides: str, **forecasts: ArmForecast) -> Proposed:
    return advisor.advise(Study("small.yaml", overrides=overrides), forecasts, "small.yaml")


def value(proposed: Proposed, label: str, key: str) -> ProposedValue:
    return next(value for value in proposed.values if (value.method, value.key) == (label, key))


def lora_forecast(**changes: Any) -> ArmForecast:
    return arm_forecast("lora", **{"largest": Shape(examples=16, tokens=30), "test_examples": 2000, **changes})


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_all_linear_layers_are_proposed_and_named_modules_stay(method: str) -> None:
    def targets(options: dict[str, Any]) -> list[Any]:
        found = registry.methods()[method].create(options).propose(ProposalSetting(16))
        return [(proposal.value, proposal.changes) for proposal in found if proposal.key == "targets"]

    assert targets({"targets": "default"}) == targets({"targets": "attention"}) == [("all-linear", True)]
    assert targets({"targets": "all-linear"}) == [("all-linear", False)]
    assert targets({"targets": ["query"]}) == []


@pytest.mark.parametrize(
    ("answers", "rank", "told"),
    [
        (401, 8, "At rank 8 it trains 800 parameters, for about 401 tokens to learn."),
        (1601, 32, "At rank 32 it trains 3,200 parameters"),
        (25_600, 256, "At rank 256 it trains 25,600 parameters"),
        (25_601, 256, "too few, so full fine-tuning may stay ahead."),
    ],
)
def test_the_rank_is_the_least_whose_parameters_hold_what_is_to_be_learned(answers: int, rank: int, told: str) -> None:
    lora = registry.methods()["lora"].create({"r": 4})
    found = {proposal.key: proposal for proposal in lora.propose(ProposalSetting(16, answers, 400))}
    assert (found["r"].value, found["alpha"].value) == (rank, 2 * rank)
    assert told in found["r"].reason
    without_scale = registry.methods()["lora"].create({"rslora": True}).propose(ProposalSetting(16, 9, 8))
    assert {p.key: p.changes for p in without_scale if p.key in {"r", "alpha"}} == {"r": True}


def test_a_rank_that_holds_enough_is_kept_however_great() -> None:
    kept = {p.key: p for p in registry.methods()["lora"].create({"r": 512}).propose(ProposalSetting(16, 100, 400))}
    assert (kept["r"].value, kept["r"].changes) == (512, False)
    assert "alpha" not in kept


@pytest.mark.parametrize(("size", "proposed"), [(31, None), (32, 16), (256, 16)])
def test_large_batches_are_lessened_for_all_arms(size: int, proposed: int | None, small_study: Path) -> None:
    found = [v for v in advise(f"protocol.batch_size={size}").values if v.key == "protocol.batch_size"]
    assert [v.value for v in found] == ([proposed] if proposed else [])
    assert all("16 for all arms (now" in words.describe(v) for v in found)


def test_every_line_names_its_rule_with_its_source_and_limits_and_says_that_nothing_was_measured(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    proposed = advise("protocol.batch_size=64", "methods.full.learning_rate=2e-5", lora=lora_forecast())
    assert {v.rule for v in proposed.values} == {
        "all-linear",
        "parameters-hold-answers",
        "alpha-twice-rank",
        "batch-below-32",
        "multiple-of-full",
    }
    for v in proposed.values:
        assert f"by rule {v.rule} ({v.source}); not measured here." in words.describe(v)
        assert f"Limits of the rule: {v.outside}." in words.describe(v)
        assert "https://" in v.source
        assert any(year in v.source for year in ("2024", "2025"))


def test_what_is_searched_or_settled_is_not_proposed(small_study: Path) -> None:
    assert not advise("methods.lora.targets={search: [default, attention]}", "protocol.search=2").values
    searched = advise("protocol.batch_size={search: [32, 64]}", "protocol.search=2")
    assert "protocol.batch_size" not in {v.key for v in searched.values}


def test_rates_follow_a_published_rule_or_the_full_rate_that_is_stated(small_study: Path) -> None:
    by_width = advise("model=meta-llama/Llama-3.2-1B")
    assert value(by_width, "lora", "learning_rate").rule == "rate-by-width"
    assert value(by_width, "lora", "learning_rate").value == pytest.approx(4.91e-4, rel=1e-2)
    assert not any("a rate for" in reason for reason in by_width.not_covered)
    stated = value(advise("methods.full.learning_rate=3e-5"), "lora", "learning_rate")
    assert (stated.value, stated.rule) == (3e-4, "multiple-of-full")
    assert not [v for v in advise("protocol.learning_rate=1e-4").values if v.key == "learning_rate"]


def test_what_no_rule_covers_is_said_in_one_line_each(small_study: Path) -> None:
    proposed = advise("methods=[majority, head, lora]")
    assert list(proposed.not_covered) == [
        "the rank of lora, because nothing of it was counted",
        "a rate for lora, because no published rule covers minilm: search it (protocol.search)",
        "anything for head, because no published rule covers the method here",
    ]
    alone = advise("methods=[majority, head]")
    assert (alone.values, alone.check) == ((), None)


def test_what_cannot_be_counted_leaves_the_rank_out_and_says_why(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    assert "because no step of it was forecast" in advise(lora=arm_forecast("lora")).not_covered[0]
    fake_executor.inspect_error = DataError("the rows are gone")
    proposed = advise(lora=lora_forecast())
    assert "the rank of lora, because the rows are gone" in proposed.not_covered
    assert value(proposed, "lora", "targets").value == "all-linear"


def test_what_is_to_be_learned_is_a_class_a_row_or_a_tag_a_token_or_the_target(
    small_study: Path, fake_executor: FakeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuneoff.study.study.early.refuse_study", lambda *_, **__: None)  # the rows hold no tags
    rows = 1234  # as the executor says
    classes = value(advise(lora=lora_forecast()), "lora", "r")
    assert f"for about {rows:,} tokens" in classes.reason
    likelihood = lora_forecast(largest=Shape(examples=4, tokens=30, targets=10))
    assert f"for about {3 * rows:,} tokens" in value(advise(lora=likelihood), "lora", "r").reason
    source = Study("small.yaml").spec.task.data.train.source
    tags = f"task={{name: token_classification, data: {{train: {source}}}, text: text, tags: label}}"
    proposed = advise(tags, "methods=[full, lora]", lora=lora_forecast())
    assert f"for about {30 * rows:,} tokens" in value(proposed, "lora", "r").reason


def test_a_change_that_makes_an_arm_fit_is_told_with_what_it_does(small_study: Path) -> None:
    remedy = Remedy(change="protocol.gradient_accumulation_steps=2", peak_memory_bytes=1, same_result=True)
    found = value(
        advise(full=arm_forecast("full", fits=False, remedies=(remedy,))),
        "full",
        "protocol.gradient_accumulation_steps",
    )
    assert (found.value, found.current, found.rule) == (2, 1, "fits-memory")
    assert "it computes the same" in found.reason


def test_the_study_that_checks_it_loads_and_holds_the_arm_as_it_is_and_as_proposed(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    check = advise("methods.lora.dropout=0.1", lora=lora_forecast()).check
    assert check is not None
    assert check.methods == ("lora", "lora-proposed")
    run, study, reference, flag, methods, *rest = shlex.split(check.command)
    assert [run, study, reference, flag] == ["tuneoff", "run", "small.yaml", "--set"]
    assert rest == ["--search", str(check.search_trials), "--seeds", str(check.seeds)]
    arms = loading.load("small.yaml", [methods]).methods
    assert arms["lora"].options == {"dropout": 0.1}
    assert arms["lora-proposed"].options["targets"] == "all-linear"
    assert arms["lora-proposed"].options["dropout"] == 0.1
    assert check.seconds == pytest.approx(2 * 15 * (check.search_trials + check.seeds))
    assert json.loads(json.dumps(check.as_data()))["command"] == check.command


def test_seeds_come_from_the_prior_and_too_few_test_rows_are_told(
    small_study: Path, fake_executor: FakeExecutor
) -> None:
    coarse = advise("margin=0.2", lora=lora_forecast()).check
    fine = advise("margin=0.04", lora=lora_forecast()).check
    assert coarse is not None
    assert fine is not None
    assert fine.seeds_least is not None
    assert (coarse.seeds, coarse.difference) == (6, 0.2)
    assert fine.seeds_most is not None
    assert 6 <= fine.seeds == fine.seeds_least < fine.seeds_most
    assert f"and {fine.seeds_most} where seeds differ much" in fine.reason
    few = advise(lora=lora_forecast(test_examples=50)).check
    assert few is not None
    assert (few.seeds, few.seeds_least) == (6, None)
    assert "no number of seeds finds a difference of 0.02 with 50 test rows" in few.reason
    unknown = advise("protocol.splits=per_seed", lora=lora_forecast()).check
    assert unknown is not None
    assert "how many it takes is known after these" in unknown.reason
