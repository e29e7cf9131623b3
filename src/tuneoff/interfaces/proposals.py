"""What a method proposes for its options before anything is measured: published rules, each with where it is from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A published rule.

    Attributes:
        id: its name in outputs, e.g. `all-linear`.
        source: who published it: name, year and link.
        outside: where it does not apply, or was not tried.
    """

    id: str
    source: str
    outside: str


@dataclass(frozen=True)
class Proposal:
    """A value that a rule proposes; nothing changes by it.

    Attributes:
        key: option of the arm, `learning_rate`, or a key of the study such as `protocol.batch_size`.
        value: what is proposed.
        current: what it is now.
        rule: by which it is proposed.
        reason: what the rule says here, as a sentence.
    """

    key: str
    value: Any
    current: Any
    rule: Rule
    reason: str

    @property
    def changes(self) -> bool:
        """Tells whether another value is proposed than there is."""
        return bool(self.value != self.current)


@dataclass(frozen=True)
class ProposalSetting:
    """What rules go by.

    Attributes:
        batch_size: examples of an optimizer step.
        answers: about how many tokens training is to learn in one pass over the rows; a class counts as one. None
            where it is not known.
        parameters: what the method itself trains beside the head, with its other proposals and the rank that it has;
            None where that was not counted.
    """

    batch_size: int
    answers: int | None = None
    parameters: int | None = None
