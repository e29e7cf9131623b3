"""Study files that try the reader of YAML: each is read as YAML 1.2 says, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneoff.errors import StudyError
from tuneoff.planning.loading import load, parse
from tuneoff.planning.yaml import MAX_CHARACTERS, read_yaml

GOOD = "model: minilm\ntask:\n  data: reuters-r8\nmethods: [majority, head]\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("08", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        ("=", "="),
        ("!!str 3", "3"),
        ("!!int '3'", 3),
        ("-.inf", float("-inf")),
        ("{<<: {x: 1, y: 2}, y: 3}", {"x": 1, "y": 3}),
        ("{<<: [{x: 1}, {x: 2, z: 4}]}", {"x": 1, "z": 4}),
    ],
)
def test_yaml_1_2_rules(text: str, value: Any) -> None:
    assert read_yaml(f"key: {text}")[0] == {"key": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: !!python/object/apply:os.system ['true']", "line 2, b: the tag '!!python/object/apply:os.system'"),
        ("b: !mine x", "the tag '!mine' is not read here"),
        ("b: !!binary aGVsbG8=", "the tag '!!binary' is not read here"),
        ("b: !!timestamp 2001-13-45", "the tag '!!timestamp' is not read here"),
        ("b: !!set {x, y}", "the tag '!!set' is not read here"),
        ("b: !!omap [x: 1]", "the tag '!!omap' is not read here"),
        ("b: !!int abc", "line 1, b: 'abc' is no int"),
        ("b: !!float x", "'x' is no float"),
        ("b: !!bool maybe", "'maybe' is no bool"),
        ("b: !!null x", "'x' is no null"),
        ("b: !!map [1]", "the tag '!!map'"),
        (f"b: {'9' * 5000}", "a number of 5000 digits is too large"),
        (f"b: 0x{'f' * 9000}", "digits is too large"),
        ("b: [" * 3000, "not valid"),
        (f"b: {'[' * 60}{']' * 60}", "more than 40 deep"),
        ("".join(f"{' ' * depth}a:\n" for depth in range(700)), "more than 40 deep"),
        ("? [a, b]\n: c", "a key is a word"),
        ("{a: b}: c", "a key is a word"),
        ("b: {<<: 3}", "must be a mapping"),
        ('b: "\\UFFFFFFFF"', "not valid YAML"),
        ("b: *nowhere", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        (BOMB, "holds more than 100,000 values, each alias counted in full"),
        ("x" * (MAX_CHARACTERS + 1), "a study has at most"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        read_yaml(text, "study.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minilm", '"a\\0b"', r"line 1, model: holds the character '\x00'"),
        ("reuters-r8", '"a\\0b.csv"', r"line 3, task.data: holds the character '\x00'"),
        ("minilm", '"\\ud800"', r"holds the character '\ud800'"),
        ("[majority, head]", '{"\\e[31mred": {method: lora}}', r"holds the character '\x1b'"),
        ("[majority, head]", "{'': {method: lora}}", "an empty label"),
        ("[majority, head]", f"{{{'x' * 101}: {{method: lora}}}}", "at most 100 printable characters"),
        ("[majority, head]", '{"a\\nb": {method: lora}}', "a label is one line"),
        ("[majority, head]", '{"\\u202eevil": {method: lora}}', "printable characters"),
        ("minilm", "x" * 5000, "at most 4000 characters"),
        ("methods", f"name: {'x' * 200}\nmethods", "at most 100 characters"),
        ("methods", "protocol: {seeds: 99999999999}\nmethods", "at most 10,000 seeds"),
        ("methods", "protocol: {seeds: [4294967296]}\nmethods", "at most 4294967295"),
        ("methods", "protocol: {search: 99999999999}\nmethods", "less than or equal to 10000"),
        ("methods", f"protocol: {{epochs: {'9' * 200}}}\nmethods", "is greater than 9,007,199,254,740,992"),
        ("[majority, head]", "{lora: {r: 99999999999999999999}}", "is greater than"),
    ],
)
def test_values_that_nothing_could_take(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        load(path)
    assert message in str(caught.value)


def test_many_problems_are_counted_not_all_listed() -> None:
    raw = {"model": "m", "task": {"data": "d"}, "methods": "lora", **{f"key{number}": 1 for number in range(500)}}
    with pytest.raises(StudyError) as caught:
        parse(raw)
    assert "has 500 problems" in str(caught.value)
    assert "… and 470 more" in str(caught.value)
    assert len(caught.value.problems) == 500
