"""The test examples on which the arms disagree most, with what each arm answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from tuneoff.analysis.examples import SOURCE_CHARACTERS, FirstPredictions, Row, excerpt
from tuneoff.config.spec import Frozen

MOST = 200
"""Most examples."""
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
    found: list[Disagreement] = []
    room = CHARACTERS
    for _, _, index, rows in divided[:MOST]:
        example = _example(index, targets[index], rows, metric, of_classes)
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
