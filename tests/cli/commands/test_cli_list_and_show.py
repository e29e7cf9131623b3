"""`tuneoff list` and `tuneoff show`."""

from __future__ import annotations

import json
import re
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from tuneoff import registry
from tuneoff.cli.commands import list_
from tuneoff.cli.main import main
from tuneoff.cli.option_tables import options
from tuneoff.planning import loading


@pytest.mark.parametrize("kind", list_.KINDS)
def test_every_kind_is_listed_in_words_and_as_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    items = json.loads(capsys.readouterr().out)
    assert items
    assert all(item["name"] and item["summary"] for item in items)
    assert main(["list", kind]) == 0
    shown = capsys.readouterr().out
    assert all(item["name"] in shown for item in items)


def test_kinds_that_follow_a_registry_are_complete() -> None:
    for kind, known in (("methods", registry.methods()), ("tasks", registry.tasks()), ("sources", registry.sources())):
        families = [f"{family}:<variant>" for family in known.families()]
        assert sorted(item["name"] for item in list_.KINDS[kind]()) == sorted([*known, *families])
    assert [item["name"] for item in list_.KINDS["recipes"]()] == loading.recipe_names()


def test_floors_come_first() -> None:
    trains = [item["trains"] for item in list_.KINDS["methods"]()]
    assert trains == sorted(trains)


def test_one_of_a_family_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "method", "peft:vera"]) == 0
    shown = capsys.readouterr().out
    assert "PEFT: VERA" in shown
    assert "no options" not in shown
    assert main(["show", "method", "peft:verra"]) == 2
    assert "did you mean 'peft:vera'?" in capsys.readouterr().err


def test_unknown_kind_names_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "method"]) == 2
    assert "methods" in capsys.readouterr().err


@pytest.mark.parametrize("name", registry.methods())
def test_every_method_is_shown_with_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    method = registry.methods()[name]
    assert main(["show", "method", name]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert method.title in shown
    assert all(option in shown for option in method.Options.model_fields)
    assert main(["show", "method", name, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [option["name"] for option in data["options"]] == list(method.Options.model_fields)
    assert all(option["description"] for option in data["options"])
    assert (data["learning_rate"] is None) == (not method.trains)


def test_a_prior_is_shown_with_its_source(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["show", "method", "lora"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"prior +\d+ % to \d+ % of full fine-tuning's gain over the baseline: .*Hu et al\. 2022", shown)
    assert main(["show", "method", "peft:vera"]) == 0
    assert "prior" not in capsys.readouterr().out
    assert main(["show", "method", "lora", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prior"].keys() == {"low", "high", "source"}


def test_a_description_is_broken_at_the_terminals_width_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    assert main(["show", "method", "lora"]) == 0
    shown = capsys.readouterr().out
    assert "CorDA (Yang et al. 2024) and LoRA-GA (Wang et al. 2024). All but EVA move their start out" in shown
    assert (
        "Adds a trained product of two thin matrices to frozen projections; merges into them.\n\nAlso by option"
        in shown
    )


def test_task_is_shown_with_metrics_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "task", "classification", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["metrics"][data["primary_metric"]] == "higher"
    assert main(["show", "task", "classification"]) == 0
    assert "accuracy (higher is better)" in " ".join(capsys.readouterr().out.split())


def test_recipe_is_shown_as_the_file_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "recipe", "quickstart"]) == 0
    text = capsys.readouterr().out
    assert loading.parse(loading.read_yaml(text)[0]) == loading.load("quickstart")
    assert main(["show", "recipe", "quickstart", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "quickstart"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["method", "lroa"], "did you mean 'lora'"),
        (["task", "clasification"], "did you mean 'classification'"),
        (["recipe", "quikstart"], "did you mean 'quickstart'"),
    ],
)
def test_misspelt_names(arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *arguments]) == 2
    assert hint in capsys.readouterr().err


class Options(BaseModel):
    rank: int = Field(8, ge=1, lt=64, description="rank")
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] | None = None
    share: float = Field(gt=0)
    on: bool = True


def test_options_are_described_in_words() -> None:
    found = {option["name"]: option for option in options(Options)}
    assert found["rank"]["type"] == "integer ≥ 1 and < 64"
    assert found["kind"]["type"] == "'a' or 'b'"
    assert found["names"]["type"] == "list of text or null"
    assert (found["share"]["required"], found["share"]["default"]) == (True, None)
    assert (found["on"]["type"], found["on"]["default"]) == ("true or false", True)
