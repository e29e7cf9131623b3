"""Tokens that the trials of a run share: those of the first, and the same as each would make."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trial_helpers import MakePlace
from tuneoff.interfaces import Features
from tuneoff.tasks.classification import Classification
from tuneoff.trial.data import tokens
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)

SLOW_SECONDS = 0.3
SPLITS = {
    "train": [
        Features([1, 2, 3], 1, 5, segments=[0, 0, 1]),
        Features([4], 0, 1, target_ids=[7, 8], prompt_ids=[4, 4], target_length=3),
        Features([], 0, 0, targets=[0.5, -1e-3]),
    ],
    "test": [Features([9], 2, 1)],
}


@pytest.fixture
def encodings() -> list[str]:
    return []


@pytest.fixture
def encode(encodings: list[str]) -> Callable[[], tokens.SplitFeatures]:
    def encode() -> tokens.SplitFeatures:
        encodings.append("once more")
        return SPLITS

    return encode


def plain(splits: tokens.SplitFeatures) -> dict[str, list[dict[str, Any]]]:
    return {
        split: [
            {name: list(value) if not isinstance(value, int) else value for name, value in vars(example).items()}
            for example in examples
        ]
        for split, examples in splits.items()
    }


def test_what_is_read_is_what_was_tokenized(
    tmp_path: Path, encode: Callable[[], tokens.SplitFeatures], encodings: list[str]
) -> None:
    path = tmp_path / "tokens" / "some.npz"
    (first, _), (second, _) = tokens.shared(path, encode), tokens.shared(path, encode)
    assert plain(second) == plain(first) == plain(SPLITS)
    assert encodings == ["once more"]


def test_the_seconds_of_the_first_count_in_place_of_reading(
    tmp_path: Path, encode: Callable[[], tokens.SplitFeatures]
) -> None:
    path = tmp_path / "some.npz"
    tokens.write(path, encode(), 1000.0)
    _, seconds = tokens.shared(path, encode)
    assert 0 < 1000.0 - seconds < 100.0


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no archive", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_passed_over(
    content: bytes, tmp_path: Path, encode: Callable[[], tokens.SplitFeatures], encodings: list[str]
) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    assert plain(tokens.shared(path, encode)[0]) == plain(SPLITS)


def test_a_full_disk_costs_no_trial(tmp_path: Path, encode: Callable[[], tokens.SplitFeatures]) -> None:
    (tmp_path / "file").touch()
    assert tokens.shared(tmp_path / "file" / "some.npz", encode) == (SPLITS, 0.0)


def test_features_of_another_kind_are_not_shared(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class OwnFeatures(Features):
        weight: float = 1.0

    path = tmp_path / "some.npz"
    tokens.write(path, {"train": [OwnFeatures([1], 0, 1)]}, 1.0)
    tokens.write(path, {"train": [Features([[1, 2], [3, 4]], 0, 1)]}, 1.0)  # type: ignore[list-item]
    tokens.write(path, {"train": [Features(["word"], 0, 1)]}, 1.0)  # type: ignore[list-item]
    assert not path.exists()


def test_seeds_of_all_arms_share_tokens(make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = Classification.encode

    def counted(self: Classification, rows: Any, *args: Any) -> Any:
        encoded.append(len(rows))
        time.sleep(SLOW_SECONDS)
        return encode(self, rows, *args)

    monkeypatch.setattr(Classification, "encode", counted)
    scratch = tmp_path / "scratch"
    arms = [("lora", scratch), ("lora", scratch), ("head", scratch), ("lora", None)]
    places = [make_place(method) for method, _ in arms]
    records = [run(place, "cpu", 0.0, scratch=shared) for place, (_, shared) in zip(places, arms, strict=True)]
    # Three splits of the first, none of the next two, three without a run.
    assert len(encoded) == 6
    first, second, _, alone = [place.predictions("test") for place in places]
    assert first == second == alone
    # Each counts the time that tokenizing took, in its whole time too, whichever of them did it.
    for record in records:
        timing = record.timing
        assert timing.tokenize_seconds is not None
        assert timing.total_seconds is not None
        assert 3 * SLOW_SECONDS <= timing.tokenize_seconds <= timing.total_seconds
