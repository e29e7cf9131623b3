"""Which methods a suite is about, and the tiny models that each is tried on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import pytest

from tuneoff import registry
from tuneoff.interfaces import Method
from tuneoff.testing.settings import CLASSIFIERS, GENERATORS, Setting, single_thread


@dataclass(frozen=True, eq=False)
class Case:
    """A method with options in a setting."""

    method: str
    options: Mapping[str, Any]
    setting: Setting


class MethodSuite:
    """Which methods a suite is about, and where each is tried.

    Attributes:
        method: the method's name in study files, which is its entry point's.
        options: sets of options; the suite runs with each.
        settings: tasks on architectures.
        refuses: pattern of settings (`class-bert`, `text-*`) -> regular expression of the reason that `attach` gives.
    """

    method: ClassVar[str]
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    settings: ClassVar[Sequence[Setting]] = (*CLASSIFIERS, *GENERATORS)
    refuses: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def names(cls) -> Iterable[str]:
        """Returns the methods that are tried."""
        return [cls.method]

    @classmethod
    def refusal(cls, method: str, setting: Setting) -> str | None:
        """Returns a regular expression of the reason why a method does not take a setting; None where it does."""
        reasons = (reason for pattern, reason in cls.refuses.items() if fnmatchcase(str(setting), pattern))
        return next(reasons, None)

    @classmethod
    def cases(cls) -> Iterable[Any]:
        """Returns the cases, each a `pytest.param` with its id, of all that is not refused."""
        return [
            pytest.param(Case(name, options, setting), id=f"{name}-{number}-{setting}")
            for name in cls.names()
            for number, options in enumerate(cls.options)
            for setting in cls.settings
            if cls.refusal(name, setting) is None
        ]

    @classmethod
    def attempts(cls) -> Iterable[tuple[str, Setting]]:
        """Returns methods and settings whose attachment is tried: refused or not, as `refusal` says."""
        return [(name, setting) for name in cls.names() for setting in cls.settings]

    @classmethod
    def adds_frozen(cls, case: Case) -> bool:
        """Tells whether the method keeps a part of what it adds to the model frozen."""
        return False

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Runs each test with what its argument names."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", self.cases())
        if "mergeable_case" in metafunc.fixturenames:
            cases = [c for c in self.cases() if registry.methods()[c.values[0].method].mergeable]
            metafunc.parametrize("mergeable_case", cases)
        if "converted_case" in metafunc.fixturenames:
            cases = [*self.cases()]
            # Any other method says why in one way, so one of them is enough.
            own = [c for c in cases if registry.methods()[c.values[0].method].write_lora is not Method.write_lora]
            metafunc.parametrize("converted_case", own or cases[:1])
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.names())
        if "attempt" in metafunc.fixturenames:
            metafunc.parametrize("attempt", self.attempts(), ids=lambda pair: f"{pair[0]}-{pair[1]}")

    @pytest.fixture(autouse=True)
    def one_thread(self) -> Iterator[None]:
        with single_thread():
            yield
