"""The rate that a search tries first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tuneoff import registry
from tuneoff.config.spec import StudySpec
from tuneoff.search.rates import EXPONENTS, WIDTHS, describe_first_rates, rate_by_width
from tuneoff.search.space import first, spaces

pytest_plugins = ("study_fixtures",)

MakeStudy = Callable[..., StudySpec]
METHODS = {"full": {}, "lora": {}, "ia3": {}, "own": {"method": "lora", "learning_rate": 1e-3}}


def firsts(study: StudySpec) -> dict[str, float]:
    return {label: first(space)["learning_rate"] for label, space in spaces(study).items()}


@pytest.mark.parametrize(
    ("width", "family", "over_full", "rate"),
    # By hand, of the published formula.
    [(2000, "llama", 1, 5e-5), (4096, "llama", 10, 2.86e-4), (4096, "qwen", 10, 4.73e-4), (8192, "llama", 1, 1.66e-5)],
)
def test_the_published_formula(width: int, family: str, over_full: float, rate: float) -> None:
    assert rate_by_width(width, family, over_full) == pytest.approx(rate, rel=5e-3)


def test_a_model_that_the_rule_covers_is_searched_around_its_rate(make_study: MakeStudy) -> None:
    study = make_study(model="meta-llama/Llama-3.1-8B-Instruct", methods=METHODS, protocol={"search": 4})
    found = firsts(study)
    assert found["full"] == rate_by_width(4096, "llama", 1)
    assert found["lora"] == rate_by_width(4096, "llama", 10)
    assert found["ia3"] == registry.methods()["ia3"].learning_rate.center
    assert found["own"] == 1e-3
    rate = spaces(study)["lora"][0]
    assert rate.low == pytest.approx(found["lora"] / 20, rel=0.01)
    assert rate.high == pytest.approx(found["lora"] * 20, rel=0.01)
    told = describe_first_rates(study, found)
    assert "of full, lora by the model's width (Schulman et al. 2025" in told
    assert "of ia3 the method's default (no published rule covers the method)" in told
    assert "of own as the study says" in told


@pytest.mark.parametrize("model", ["minilm", "org/llama-3.1-8b", "meta-llama/Llama-9-8B", "smollm2-135m"])
def test_other_models_begin_at_each_methods_default(make_study: MakeStudy, model: str) -> None:
    study = make_study(model=model, methods=["full", "lora"], protocol={"search": 4})
    assert firsts(study) == {name: registry.methods()[name].learning_rate.center for name in ("full", "lora")}
    told = describe_first_rates(study, firsts(study))
    assert told == "first rates: of full, lora the method's default (no published rule covers the model)"


def test_a_range_without_the_rate_begins_in_its_middle(make_study: MakeStudy) -> None:
    arm = {"learning_rate": {"search": {"low": 1e-2, "high": 1}}}
    study = make_study(model="qwen/Qwen3-8B-Base", methods={"lora": arm}, protocol={"search": 4})
    assert firsts(study) == {"lora": 0.1}
    assert describe_first_rates(study, firsts(study)) == "first rates: of lora in the middle of the range"


def test_the_name_a_model_ships_under_is_that_of_the_hub(make_study: MakeStudy) -> None:
    alias, hub, marked = (
        firsts(make_study(model=name, methods=["lora"], protocol={"search": 4}))
        for name in ("llama-3.2-3b", "meta-llama/Llama-3.2-3B", "hub:meta-llama/Llama-3.2-3B")
    )
    assert alias == hub == marked


def test_every_width_has_an_exponent() -> None:
    for name in WIDTHS:
        assert sum(family in name for family in EXPONENTS) == 1


def test_a_study_without_a_search_keeps_its_rates(make_study: MakeStudy) -> None:
    from tuneoff.planning.plan import plan

    (trial, *_) = plan(make_study(model="llama-3.2-3b", methods=["lora"], protocol={"learning_rate": None}))
    assert trial.learning_rate == registry.methods()["lora"].learning_rate.center
