"""`protocol.splits: per_seed`: other training and validation rows at every seed, the same test rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import make_study, news, write_csv
from tuneoff.config.data import TaskSpec
from tuneoff.config.protocol import Protocol
from tuneoff.errors import StudyError
from tuneoff.planning import loading
from tuneoff.planning.plan import plan
from tuneoff.tasks.classification import Classification
from tuneoff.trial.data.load import TrialData, load


def load_at(folder: Path, seed: int, task: dict[str, Any] | None = None, **options: Any) -> TrialData:
    """Loads the rows of a file as a trial of this seed does."""
    data = {name: str(write_csv(folder / f"{name}.csv", rows)) for name, rows in options.pop("files", {}).items()}
    data = data or {"train": str(write_csv(folder / "train.csv", news(90)))}
    protocol = Protocol.model_validate({"splits": "per_seed", "seeds": [seed], **options})
    return load(Classification(task or {}), TaskSpec.model_validate({"data": data}), protocol)


def texts(data: TrialData, split: str) -> list[str]:
    return [example.text for example in data.splits[split]]


def test_a_seed_has_its_own_training_and_validation_rows_and_all_have_one_test_set(tmp_path: Path) -> None:
    first, again, other = (load_at(tmp_path, seed) for seed in (0, 0, 1))
    fixed = load_at(tmp_path, 1, splits="fixed")
    assert first.info == again.info, "equal for every arm, and made again from the record"
    for split in ("train", "validation"):
        assert first.info.splits[split].fingerprint != other.info.splits[split].fingerprint
    assert texts(first, "test") == texts(other, "test") == texts(fixed, "test")


def test_training_rows_are_drawn_with_replacement_from_what_is_not_validation(tmp_path: Path) -> None:
    data = load_at(tmp_path, 3)
    assert data.info.train_pool == 90 - len(data.splits["test"]) - len(data.splits["validation"])
    counts = Counter(texts(data, "train"))
    assert sum(counts.values()) == data.info.train_pool
    assert 0.5 < len(counts) / data.info.train_pool < 0.75, "about 63 % of the rows are drawn at least once"
    assert not set(counts) & {*texts(data, "test"), *texts(data, "validation")}
    fixed = load_at(tmp_path, 3, splits="fixed")
    assert data.info.splits["train"].classes == fixed.info.splits["train"].classes, "classes keep their shares"


def test_given_files_keep_validation_and_test_and_draw_from_train(tmp_path: Path) -> None:
    files = {"train": news(60), "validation": news(20, 60), "test": news(20, 80)}
    first, other = (load_at(tmp_path, seed, files=files) for seed in (0, 1))
    for split in ("validation", "test"):
        assert texts(first, split) == texts(other, split) == [text for text, _ in files[split]]
    assert first.info.train_pool == 60
    assert texts(first, "train") != texts(other, "train")


def test_fewer_rows_are_drawn_from_all(tmp_path: Path) -> None:
    data = load_at(tmp_path, 0, train_rows=12)
    assert (len(data.splits["train"]), data.info.train_pool) == (12, 65)


def test_whole_groups_are_drawn_where_rows_belong_together(tmp_path: Path) -> None:
    lines = [f"{text},{label},{number // 3}" for number, (text, label) in enumerate(news(180))]
    path = tmp_path / "grouped.csv"
    path.write_text("\n".join(["text,label,author", *lines]))
    protocol = Protocol.model_validate({"splits": "per_seed", "seeds": [0]})
    spec = TaskSpec.model_validate({"data": {"train": str(path)}})
    data = load(Classification({"group": "author"}), spec, protocol)
    sizes = Counter(example.group for example in data.splits["train"])
    whole = [count % 3 == 0 for count in sizes.values()]
    assert whole.count(False) <= 1, "but for the last one"
    assert len(data.splits["train"]) == data.info.train_pool
    assert not set(sizes) & {example.group for example in data.splits["test"]}


def test_fixed_splits_leave_ids_as_they_were_and_draws_change_them(tmp_path: Path) -> None:
    def ids(**protocol: Any) -> list[str]:
        study = make_study(tmp_path, tmp_path / "news.csv", {"majority": {}}, protocol={"seeds": 2, **protocol})
        return [trial.id for trial in plan(study)]

    assert ids() == ids(splits="fixed")
    assert not set(ids()) & set(ids(splits="per_seed"))


def test_one_seed_cannot_show_what_other_rows_would_do(tmp_path: Path) -> None:
    study = make_study(tmp_path, tmp_path / "news.csv", {"majority": {}}, protocol={"seeds": 2, "splits": "per_seed"})
    with pytest.raises(StudyError, match="the study has one: give it more seeds"):
        loading.narrow(study, seeds=1)
