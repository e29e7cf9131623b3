"""Files in the shapes that people bring, and what `init` makes of each; docs/data.md shows the same table."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from tuneoff.cli.main import main
from tuneoff.planning import loading

FakeExecutor = Any  # the class is in cli_fixtures.py, which pytest imports as a plug-in
pytest_plugins = ("cli_fixtures",)
PAGE = Path(__file__).parents[3] / "docs" / "data.md"
WORDS = ("the price of oil goes up", "a team wins the match again", "wheat and tariffs on it", "nobody plays today")
MANY = 40
LONG = "a long text about many things that goes on and on and has more words than any other in this file"


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_executor: FakeExecutor) -> None:
    monkeypatch.chdir(tmp_path)


def text(i: int) -> str:
    return f"{WORDS[i % 4]} {i}"


def label(i: int) -> str:
    return ("trade", "sport")[i % 2]


def asked(i: int) -> str:
    return f"who says that {text(i)}?"


def labelled(i: int) -> dict[str, list[str]]:
    return {"text": [f"he {i}", f"she {i}", "nobody"], "label": ["A", "B", "C"]}


def records(**columns: Callable[[int], Any]) -> list[dict[str, Any]]:
    return [{name: make(i) for name, make in columns.items()} for i in range(MANY)]


def csv_text(rows: list[dict[str, Any]], mark: str = ",") -> str:
    return "\n".join([mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]) + "\n"


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows)) + "\n"


def chat(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": text(i)}, {"role": "assistant", "content": f"it is {label(i)}"}]


def sharegpt(i: int) -> list[dict[str, str]]:
    return [{"from": "human", "value": text(i)}, {"from": "gpt", "value": f"it is {label(i)}"}]


CLASSES = records(text=text, label=label)
NUMBERS = records(sentence_A=text, sentence_B=lambda i: text(i + 1), relatedness_score=lambda i: i / 7)
PAIRS = records(premise=text, hypothesis=lambda i: text(i + 1), label=label)
SUMMARIES = records(article=lambda i: f"{LONG} {i}", highlights=lambda i: f"many things {i}")
INSTRUCTIONS = records(instruction=text, input=lambda i: "" if i % 2 else "some", output=lambda i: f"it is {label(i)}")


def save(rows: list[dict[str, Any]]) -> None:
    import datasets

    datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split in ("train", "test")}).save_to_disk("saved")


def parts(rows: list[dict[str, Any]]) -> None:
    Path("parts").mkdir()
    for number in range(2):
        Path(f"parts/{number}.csv").write_text(csv_text(rows[number::2]))


TABLE: dict[str, tuple[Callable[[], object], str, dict[str, Any]]] = {
    "reviews.csv": (lambda: csv_text(CLASSES), "classification", {"text": "text", "label": "label"}),
    "excel.csv": (lambda: "sep=;\n" + csv_text(CLASSES, ";"), "classification", {"text": "text", "label": "label"}),
    "lines.jsonl": (lambda: json_lines(CLASSES), "classification", {"text": "text", "label": "label"}),
    "table.parquet": (
        lambda: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(CLASSES), "table.parquet"),
        "classification",
        {"text": "text", "label": "label"},
    ),
    "table.feather": (
        lambda: pyarrow.feather.write_feather(pyarrow.Table.from_pylist(CLASSES), "table.feather"),
        "classification",
        {"text": "text", "label": "label"},
    ),
    "lines.jsonl.gz": (
        lambda: gzip.compress(json_lines(CLASSES).encode()),
        "classification",
        {"text": "text", "label": "label"},
    ),
    "parts/*.csv": (lambda: parts(CLASSES), "classification", {"text": "text", "label": "label"}),
    "saved": (lambda: save(CLASSES), "classification", {"text": "text", "label": "label"}),
    "odd-names.csv": (
        lambda: csv_text(records(what_was_said=text, verdict=label)),
        "classification",
        {"text": "what_was_said", "label": "verdict"},
    ),
    "nested.jsonl": (
        lambda: json_lines(records(text=text, meta=lambda i: {"label": label(i)})),
        "classification",
        {"text": "text", "label": "meta.label"},
    ),
    "topics.jsonl": (
        lambda: json_lines(records(text=text, topics=lambda i: [["oil"], ["oil", "trade"], ["sport"]][i % 3])),
        "multi_label",
        {"text": "text", "label": "topics"},
    ),
    "flags.csv": (
        lambda: csv_text(records(text=text, toxic=lambda i: i % 2, rude=lambda i: i // 2 % 2)),
        "multi_label",
        {"text": "text", "label": ["toxic", "rude"]},
    ),
    "names.conll": (
        lambda: "".join(f"oil\tO\nin\tO\nParis\tB-place\n{i}\tO\n\n" for i in range(MANY)),
        "token_classification",
        {"text": "tokens", "tags": "tags"},
    ),
    "arc.jsonl": (
        lambda: json_lines(records(question=asked, choices=labelled, answerKey=lambda i: "ABC"[i % 3])),
        "multiple_choice",
        {"question": "question", "choices": "choices", "answer": "answerKey"},
    ),
    "swag.csv": (
        lambda: csv_text(
            records(
                startphrase=text,
                **{f"ending{n}": lambda i, n=n: f"goes on {i + n}" for n in range(3)},
                label=lambda i: i % 3,
            )
        ),
        "multiple_choice",
        {"question": "startphrase", "choices": ["ending0", "ending1", "ending2"], "answer": "label"},
    ),
    "race.jsonl": (
        lambda: json_lines(
            records(article=text, question=asked, options=lambda i: labelled(i)["text"], answer=lambda i: "ABC"[i % 3])
        ),
        "multiple_choice",
        {"question": "question", "context": "article", "choices": "options", "answer": "answer"},
    ),
    "nli.tsv": (
        lambda: csv_text(PAIRS, "\t"),
        "classification",
        {"text": "premise", "text_pair": "hypothesis", "label": "label"},
    ),
    "similarity.tsv": (
        lambda: csv_text(NUMBERS, "\t"),
        "regression",
        {"text": "sentence_A", "text_pair": "sentence_B", "value": "relatedness_score"},
    ),
    "news.jsonl": (
        lambda: json_lines(SUMMARIES),
        "generation",
        {"source": "article", "target": "highlights"},
    ),
    "qa.jsonl": (
        lambda: json_lines(records(question=text, answer=lambda i: f"because {text(i + 1)} #### {i}")),
        "generation",
        {"source": "question", "target": "answer"},
    ),
    "alpaca.jsonl": (
        lambda: json_lines(INSTRUCTIONS),
        "instruction",
        {"instruction": "instruction", "input": "input", "output": "output"},
    ),
    "chats.jsonl": (lambda: json_lines(records(messages=chat)), "chat", {"messages": "messages"}),
    "sharegpt.json": (lambda: json.dumps(records(conversations=sharegpt)), "chat", {"messages": "conversations"}),
}


@pytest.mark.parametrize("name", TABLE)
def test_what_init_writes(name: str) -> None:
    make, task, columns = TABLE[name]
    content = make()
    if isinstance(content, (str, bytes)):
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    assert main(["init", name, "--no-forecast", "--out", "study.yaml"]) == 0
    study = loading.load("study.yaml")
    assert study.task.name == task
    assert {role: study.task.options[role] for role in columns} == columns
    assert study.task.data.train.source == name


def shown(columns: dict[str, Any]) -> str:
    names = {role: " and ".join(name) if isinstance(name, list) else name for role, name in columns.items()}
    return ", ".join(f"{role}: {name}" for role, name in names.items())


def test_the_page_shows_this_table() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| [^|]+ \| `(\w+)` \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name: (task, columns) for name, task, columns in rows} == {
        name: (task, shown(columns)) for name, (_, task, columns) in TABLE.items()
    }
