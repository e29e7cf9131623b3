"""Prices of devices, in a study or in a file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuneoff.errors import StudyError
from tuneoff.planning import loading
from tuneoff.planning.plan import plan
from tuneoff.planning.prices import read_prices

EXAMPLE = Path(__file__).parents[2] / "examples" / "prices.yaml"
GOOD = "currency: EUR\ndevice_hour: {cpu: 0.1, NVIDIA H200: 3}\n"


def test_the_example_is_a_file_of_prices_and_invents_none() -> None:
    prices = read_prices(EXAMPLE)
    assert set(prices.device_hour.values()) == {1.0}
    assert prices.currency == "device-hours"


def test_a_study_takes_keys_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(GOOD)
    named = loading.load("quickstart", [f"prices={tmp_path / 'prices.yaml'}"])
    keys = loading.load("quickstart", ["prices={currency: EUR, device_hour: {cpu: 0.1, NVIDIA H200: 3}}"])
    assert named.prices == keys.prices
    assert [trial.id for trial in plan(named)] == [trial.id for trial in plan(loading.load("quickstart"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ("currency: EUR\n", "no price is stated: give device_hour, or million_tokens"),
        ("currency: my money\ndevice_hour: {cpu: 1}\n", "line 1, currency: a word without spaces, not 'my money'"),
        ("currency: EUR\ndevice_hour: {cpu: -1}\n", "line 2, device_hour: the price of 'cpu' is -1"),
        ("currency: EUR\ndevice_hour: {cpu: .nan}\n", "device_hour"),
        ("currency: EUR\ndevice_hour: {cpu: 1, CPU: 2}\n", "capital letters"),
        ("currency: EUR\ndevice_hour: {}\n", "no price is stated"),
        ("currency: EUR\nmillion_tokens: {m: {input: 1}}\n", "line 2, million_tokens.m.output: is required"),
        ("currency: EUR\nmillion_tokens: {m: {in: 1, output: 1}}\n", "unknown key 'in'"),
        ("currency: EUR\ndevice_hours: {cpu: 1}\n", "unknown key 'device_hours'"),
        ("currency: [\n", "YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=re.escape(message)):
        read_prices(path)
    with pytest.raises(StudyError, match=re.escape(message)):
        loading.load("quickstart", [f"prices={path}"])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(StudyError, match="prices: "):
            read_prices(path)
    (tmp_path / "latin.yaml").write_bytes(b"currency: \xe9")
    with pytest.raises(StudyError, match="not UTF-8"):
        read_prices(tmp_path / "latin.yaml")
