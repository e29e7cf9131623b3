from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from tuneoff import registry
from tuneoff.errors import StudyError
from tuneoff.registry import Registry

PLUGIN = '''
from tuneoff.methods.base import Baseline, MethodOptions


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


def test_a_new_file_in_the_folder_is_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one.py").write_text("plugin = 'the plug-in'\n")
    for other in ("base.py", "_helper.py", "__init__.py", "notes.txt"):
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


def test_every_method_describes_its_options_and_names_its_paper() -> None:
    for name in registry.methods():
        method = registry.methods()[name]
        assert method.paper, name
        undescribed = [key for key, field in method.Options.model_fields.items() if not field.description]
        assert not undescribed, f"{name}: {undescribed}"
        if method.trains:
            rate = method.learning_rate
            assert 0 < rate.low < rate.center < rate.high, name
