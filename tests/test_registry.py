from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tuneoff import registry
from tuneoff.config.data import DataSpec, TaskSpec
from tuneoff.errors import StudyError
from tuneoff.interfaces import MeanMetric
from tuneoff.registry import Registry
from tuneoff.testing.imports import find_imported

PLUGIN = '''
from tuneoff.interfaces import Baseline, MethodOptions


class First(Baseline[MethodOptions]):
    """Predicts the first class."""

    title, summary, paper = "First class", "Always the first class.", "none"

    def predict(self, task, train, examples):
        return []


plugin = First
'''


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A method `first_class` in a module of its own, announced by a faked entry point."""
    (tmp_path / "tuneoff_first_class.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("first_class", "tuneoff_first_class:plugin", "tuneoff.methods")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    monkeypatch.delitem(sys.modules, "tuneoff_first_class", raising=False)
    return "first_class"


def test_a_third_partys_method_comes_through_an_entry_point(third_party: str) -> None:
    methods: Registry[type] = Registry("methods", "method")
    assert third_party in methods
    assert third_party in list(methods)
    assert "tuneoff_first_class" not in sys.modules, "listing must not import"
    assert methods[third_party].__name__ == "First"
    assert third_party not in Registry("tasks", "task")


def test_a_folder_and_the_entry_points_are_read_once(numbers: Registry[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    original = vars(registry)
    folder, points = original["files"](""), original["entry_points"]

    def counted(value: Any) -> Any:
        reads.append("read")
        return value

    monkeypatch.setattr(registry, "files", lambda _: counted(folder))
    monkeypatch.setattr(registry, "entry_points", lambda group: counted(points(group=group)))
    assert (list(numbers), "plain" in numbers, numbers["plain"]) == (["plain"], True, "the plug-in")
    assert set(numbers.families()) == {"far", "number"}
    assert len(reads) == 2, "the folder and the entry points, each once"


def test_a_new_file_in_the_folder_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.py").write_text("plugin = 'the plug-in'\n")
    for other in ("_helper.py", "__init__.py", "notes.txt"):
        (tmp_path / other).write_text("plugin = 'not one'\n")
    folder = ModuleType("tuneoff.oddments")
    folder.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "tuneoff.oddments", folder)
    monkeypatch.setattr(registry, "files", lambda _: tmp_path)
    oddments: Registry[str] = Registry("oddments", "oddment")
    assert list(oddments) == ["one"]
    assert len(oddments) == 1
    assert oddments["one"] == "the plug-in"
    monkeypatch.delitem(sys.modules, "tuneoff.oddments.one")


def test_an_unknown_name_says_which_is_near_and_which_there_are() -> None:
    with pytest.raises(StudyError, match="unknown method 'lorra'") as caught:
        registry.methods()["lorra"]
    assert "did you mean 'lora'?" in caught.value.message
    assert "prompt_tuning" in caught.value.hint
    assert "tuneoff list methods" in caught.value.hint


@pytest.mark.parametrize("folder", ["methods", "tasks", "sources"])
def test_built_in_plugins_load_and_describe_themselves(folder: str) -> None:
    plugins: Registry[type] = getattr(registry, folder)()
    assert list(plugins) == sorted(plugins)
    for name in plugins:
        kind = plugins[name]
        assert getattr(kind, "title", ""), f"{name} has no title"
        assert getattr(kind, "summary", ""), f"{name} has no summary"


FAMILY = """
class Numbers:
    title, summary = "Numbers", "One method for every number."

    def variants(self):
        return ["one", "two"]

    def get(self, variant):
        return f"method {variant.lower()}"


family = Numbers()
"""


@pytest.fixture
def numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    """A folder with one plug-in and one family, and a family of a third party."""
    (tmp_path / "plain.py").write_text("plugin = 'the plug-in'\n")
    (tmp_path / "number.py").write_text(FAMILY)
    (tmp_path / "tuneoff_far.py").write_text(FAMILY.replace("two", "ten"))
    folder = ModuleType("tuneoff.oddments")
    folder.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "tuneoff.oddments", folder)
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("far", "tuneoff_far:family", "tuneoff.oddments")
    kept = [path for path in tmp_path.iterdir() if path.name != "tuneoff_far.py"]
    monkeypatch.setattr(registry, "files", lambda _: SimpleNamespace(iterdir=lambda: kept))
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    for name in ("tuneoff.oddments.number", "tuneoff.oddments.plain", "tuneoff_far"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return Registry("oddments", "oddment")


def test_a_family_is_reached_by_variant_and_listed_apart(numbers: Registry[str]) -> None:
    assert list(numbers) == ["plain"]
    assert "tuneoff.oddments.number" not in sys.modules, "listing must not import"
    assert sorted(numbers.families()) == ["far", "number"]
    assert numbers["number:two"] == "method two"
    assert numbers["number:TWO"] == "method two"
    assert numbers["far:ten"] == "method ten"
    assert "number:one" in numbers
    for other in ("number", "number:", "number:three", "far:two", "plain:one", "nobody:one"):
        assert other not in numbers, other


def test_an_unknown_variant_says_which_is_near(numbers: Registry[str]) -> None:
    with pytest.raises(StudyError, match="unknown oddment 'number:tow'") as caught:
        numbers["number:tow"]
    assert "did you mean 'number:two'?" in caught.value.message
    assert "one, two" in caught.value.hint
    with pytest.raises(StudyError, match="'number' is a family of oddments"):
        numbers["number"]
    with pytest.raises(StudyError, match="unknown oddment 'plain:one'") as caught:
        numbers["plain:one"]
    assert "number:<variant>" in caught.value.hint


def test_types_of_peft_are_planned_without_importing_it() -> None:
    code = (
        "from tuneoff import registry; m = registry.methods(); k = m['peft:VERA'];"
        "assert k.learning_rate.center > 0 and k.mergeable and k.Options(r=4).model_dump() == {'r': 4};"
        "assert 'peft:nope' not in m and 'peft:vera' in m"
    )
    assert not find_imported(code, ("peft", "torch", "transformers"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"text": {}}, r"task\.text: .*valid string"), ({"evil": 1}, r"task\.evil: .*not permitted")],
)
def test_options_that_are_none_of_a_tasks_are_a_studys_problem(options: dict[str, Any], message: str) -> None:
    spec = TaskSpec(name="classification", data=DataSpec.model_validate({"train": "rows.csv"}), options=options)
    with pytest.raises(StudyError, match=message):
        registry.create_task(spec)


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        ("methods", 42, "it is 42, and not a class derived from AnyMethod"),
        ("tasks", dict, "it is <class 'dict'>, and not a class derived from Task"),
        ("metrics", MeanMetric, "and not a MeanMetric or PooledMetric"),
        (
            "metrics",
            MeanMetric(name="other", direction="higher"),
            "its name is 'other', and the entry point's is 'mine'",
        ),
        ("metrics", MeanMetric(name="mine", direction="up"), "its direction is 'up'"),  # type: ignore[arg-type]
    ],
)
def test_what_a_package_announces_and_is_no_such_plugin_is_named(
    kind: str, given: Any, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("somebodys")
    module.plugin = given  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys", module)
    point = EntryPoint("mine", "somebodys:plugin", f"tuneoff.{kind}")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point] if group == point.group else [])
    plugins: Registry[Any] = getattr(registry, kind).__wrapped__()
    with pytest.raises(StudyError, match=r"'mine' cannot be used") as caught:
        plugins["mine"]
    assert reason in caught.value.message
