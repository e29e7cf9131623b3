"""The test examples on which the arms disagree most, and the hardest ones, with what each arm answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from tuneoff.analysis.examples import SOURCE_CHARACTERS, FirstPredictions, Row, excerpt
from tuneoff.config.base import Frozen

MOST = 200
"""Most examples."""
MOST_HARD = 40
"""Likewise of the hardest."""
CHARACTERS = 150_000
"""Examples are listed until their texts take this many characters."""
OUTPUT_CHARACTERS = 400


class ArmOutput(Frozen):
    """What one arm answered."""

    method: str = Field(description="the arm's label")
    output: str = Field(description="cut to about 400 characters")
    value: float | None = Field(description="the primary metric of this example, or null")
    right: bool | None = Field(description="of a class: whether it is the right one; else null")


class Disagreement(Frozen):
    """A test example that arms answer differently."""

    index: int = Field(description="position in the test split")
    text: str = Field(description="what was put in, cut to about 400 characters; empty where no trial kept it")
    target: str = Field(description="the right answer, cut likewise")
    outputs: tuple[ArmOutput, ...] = Field(description="one per arm, each of its lowest completed seed")


def find_disagreements(predictions: Sequence[FirstPredictions], metric: str) -> tuple[Disagreement, ...]:
    """Returns the examples on which most arms stand against most others, the most divided first.

    Of classes it is those with the most even split between right and wrong arms, or between wrong answers; of texts
    those whose scores differ most; of what is neither, as numbers whose metric is of all examples together, there are
    none. Examples whose text was kept come before all others. Only arms that train are
    asked, and all are shown; an arm that saw another target at that place is left out of the example.

    Args:
        predictions: of every arm, in the study's order.
        metric: the primary metric.
    """
    trained = {each.label for each in predictions if each.record.spec.learning_rate is not None}
    # Only a class is right or wrong.
    of_classes = any(each.record.data and each.record.data.labels for each in predictions)
    targets: dict[int, str] = {}
    for each in predictions:
        targets = {**{index: row["target"] for index, row in each.rows.items()}, **targets}
    divided = []
    for index, target in targets.items():
        rows = {
            each.label: each.rows[index]
            for each in predictions
            if index in each.rows and each.rows[index]["target"] == target
        }
        asked = [row for label, row in rows.items() if label in trained]
        if (division := _division(asked, target, metric, of_classes)) > 0:
            has_text = any(row["source"] for row in rows.values())
            divided.append((not has_text, -division, index, rows))
    divided.sort(key=lambda item: item[:3])
    return _as_examples([(index, targets[index], rows) for *_, index, rows in divided[:MOST]], metric, of_classes)


class Hardness(Frozen):
    """How many test examples are how hard for the arms that train, each by its lowest completed seed."""

    arms: int = Field(description="how many arms answered the examples")
    examples: tuple[int, ...] = Field(
        description="number of examples that none, one, two, … of the arms answered wrongly; of a metric with a value "
        "for each example, in ten equal steps of the arms' mean value, the best first"
    )
    by_value: bool = Field(description="whether it goes by that value")
    hardest: tuple[Disagreement, ...] = Field(description="the hardest examples, with what every arm answered")


def find_hardness(predictions: Sequence[FirstPredictions], metric: str, higher: bool) -> Hardness | None:
    """Counts examples by their hardness, and returns the hardest, those whose text was kept first among equals; None
    where nothing tells, as of numbers or where only some examples have a value, or under two arms.

    Args:
        predictions: of every arm, in the study's order.
        metric: the primary metric.
        higher: whether more of it is better.
    """
    trained = [each for each in predictions if each.record.spec.learning_rate is not None and each.rows]
    if len(trained) < 2:
        return None
    of_classes = any(each.record.data and each.record.data.labels for each in trained)
    ranked: list[tuple[float, bool, int]] = []
    kinds: set[bool] = set()
    for index, row in trained[0].rows.items():
        rows = [each.rows.get(index) for each in trained]
        shared = [other for other in rows if other is not None and other["target"] == row["target"]]
        if len(shared) < len(trained):
            continue
        values = [value for other in shared if (value := other["values"].get(metric)) is not None]
        if len(values) == len(trained) and higher and all(0 <= value <= 1 for value in values):
            has_value, hardness = True, 1 - sum(values) / len(values)
        elif of_classes and not values:
            has_value, hardness = False, float(sum(other["output"] != row["target"] for other in shared))
        else:
            return None
        kinds.add(has_value)
        ranked.append((-hardness, not any(other["source"] for other in shared), index))
    if len(kinds) != 1:
        return None
    (by_value,) = kinds
    ranked.sort()
    counts = [0] * (10 if by_value else len(trained) + 1)
    for hardness, _, _ in ranked:
        counts[_step(1 + hardness) if by_value else int(-hardness)] += 1
    hardest = [
        (
            index,
            trained[0].rows[index]["target"],
            {each.label: each.rows[index] for each in predictions if index in each.rows},
        )
        for hardness, _, index in ranked[:MOST_HARD]
        if hardness < 0
    ]
    return Hardness(
        arms=len(trained),
        examples=tuple(counts),
        by_value=by_value,
        hardest=_as_examples(hardest, metric, of_classes),
    )


def _step(value: float) -> int:
    """Returns which of ten steps from 1 down to 0 a value is in; each has its lower edge, and the first has 1 too."""
    return 9 - min(int(round(value * 10, 9)), 9)


def _as_examples(
    chosen: Sequence[tuple[int, str, Mapping[str, Row]]], metric: str, of_classes: bool
) -> tuple[Disagreement, ...]:
    """Returns the examples until their texts take too much room."""
    found: list[Disagreement] = []
    room = CHARACTERS
    for index, target, rows in chosen:
        example = _example(index, target, rows, metric, of_classes)
        room -= len(example.text) + len(example.target) + sum(len(each.output) + 30 for each in example.outputs)
        if room < 0:
            break
        found.append(example)
    return tuple(found)


def _division(rows: Sequence[Row], target: str, metric: str, of_classes: bool) -> float:
    """Returns how divided the arms are, 0 where they agree."""
    if len(rows) < 2:
        return 0.0
    values: list[float] = [value for row in rows if (value := row["values"].get(metric)) is not None]
    if values:
        return max(values) - min(values)
    if not of_classes:
        return 0.0
    answers: list[str] = [row["output"] for row in rows]
    if len(set(answers)) < 2:
        return 0.0
    right = sum(answer == target for answer in answers) / len(answers)
    # That wrong answers differ counts, but less than that some are right.
    return right * (1 - right) + len(set(answers)) * 1e-3


def _example(index: int, target: str, rows: Mapping[str, Row], metric: str, of_classes: bool) -> Disagreement:
    text = next((row["source"] for row in rows.values() if row["source"]), "")
    return Disagreement(
        index=index,
        text=excerpt(text, SOURCE_CHARACTERS),
        target=excerpt(target, OUTPUT_CHARACTERS),
        outputs=tuple(
            ArmOutput(
                method=label,
                output=excerpt(row["output"], OUTPUT_CHARACTERS),
                value=row["values"].get(metric),
                right=row["output"] == target if of_classes and row["values"].get(metric) is None else None,
            )
            for label, row in rows.items()
        ),
    )
