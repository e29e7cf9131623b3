from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import tuneoff

PUBLIC = ["Series", "Status", "Study", "StudySpec", "TrialRecord", "TrialSpec", "TuneoffError", "__version__"]


def fresh(code: str) -> list[str]:
    """What a new interpreter prints, as words."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_public_names_are_pinned() -> None:
    assert sorted(tuneoff.__all__) == PUBLIC
    assert dir(tuneoff) == PUBLIC
    assert all(getattr(tuneoff, name) is not None for name in PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'study_of_everything'"):
        _ = tuneoff.study_of_everything


def test_the_version_is_the_installed_one() -> None:
    assert tuneoff.__version__ == version("tuneoff")


def test_importing_the_package_imports_nothing_else() -> None:
    loaded = fresh("import tuneoff, sys; print(*[m for m in sys.modules if m.startswith('tuneoff')])")
    assert loaded == ["tuneoff"]


@pytest.mark.parametrize(
    "code",
    [
        "import tuneoff, tuneoff.planning.loading, tuneoff.cli.main",
        "import tuneoff; tuneoff.Study('quickstart').plan()",
        "import tuneoff; tuneoff.Study('quickstart', overrides={'protocol.search': 4}).plan_search()",
        "from tuneoff import registry; [m.Options for f in (registry.methods(), registry.tasks()) for m in f.values()]",
        "import tuneoff.store, tuneoff.executors.local",
    ],
)
def test_heavy_libraries_are_not_imported_before_they_are_needed(code: str) -> None:
    heavy = ("torch", "transformers", "peft", "datasets", "matplotlib", "optuna")
    assert fresh(f"{code}\nimport sys\nprint(*[m for m in {heavy} if m in sys.modules])") == []
