"""Several numbers of training rows are checked on the rows themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import Rows, write_csv
from tuneoff.errors import StudyError
from tuneoff.planning.loading import parse
from tuneoff.tasks.classification import Classification
from tuneoff.trial.data.load import load
from tuneoff.trial.data.sizes import check_sizes

Check = Callable[..., None]


def rows(**counts: int) -> Rows:
    """So many rows of each class, in turn."""
    order = sorted((index / count, name) for name, count in counts.items() for index in range(count))
    return [(f"text {index} on {name}", name) for index, (_, name) in enumerate(order)]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Checks sizes of a study on these rows, none of which go to other splits."""

    def call(train: Rows, sizes: Sequence[int], **protocol: Any) -> None:
        other = write_csv(tmp_path / "other.csv", [(f"other {text}", label) for text, label in train])
        files = {"train": write_csv(tmp_path / "train.csv", train), "validation": other, "test": other}
        data = {name: str(path) for name, path in files.items()}
        raw = {"model": "minilm", "task": {"data": data}, "methods": ["full"], "protocol": protocol}
        check_sizes(parse(raw), sizes)

    return call


def test_sizes_that_go_with_the_rows_pass(check: Check) -> None:
    check(rows(a=40, b=20), [3, 6, 30, 60])


def test_more_rows_than_there_are_and_classes_left_out_are_refused_together(check: Check) -> None:
    with pytest.raises(StudyError) as caught:
        check(rows(a=10, b=6, c=4), [2, 10, 21, 5000])
    assert "21 is more than the 20 training rows" in caught.value.message
    assert "5,000 is more than the 20 training rows" in caught.value.message
    assert "2 rows leave out some of the 3 classes: take 3 or more" in caught.value.message


def test_draws_in_proportion_that_are_not_nested_are_refused(check: Check) -> None:
    # The paradox of Alabama: of 10 rows the small class gets two, of 11 one.
    with pytest.raises(StudyError, match=r"10 and 11 are so near to each other that .* take 1 of the rows"):
        check(rows(a=60, b=60, c=20), [10, 11])
    check(rows(a=60, b=60, c=20), [10, 20])
    check(rows(a=60, b=60, c=20), [10, 11], splits="per_seed")


def test_each_size_is_drawn_from_the_next_and_other_rows_stay(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", rows(a=50, b=30, c=20))
    drawn = []
    for size in (10, 25, 50):
        raw = {"model": "minilm", "task": {"data": str(path)}, "methods": ["full"], "protocol": {"train_rows": size}}
        study = parse(raw)
        drawn.append(load(Classification({}), study.task, study.protocol))
    train = [{example.text for example in data.splits["train"]} for data in drawn]
    assert [len(texts) for texts in train] == [10, 25, 50]
    assert train[0] < train[1] < train[2]
    for split in ("validation", "test"):
        assert drawn[0].splits[split] == drawn[1].splits[split] == drawn[2].splits[split]
