"""Trials of conversations: where what they write ends."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from trial_helpers import MakePlace, run_cards, save_writer
from tuneoff.store.files import read_json
from tuneoff.tasks._writing import write
from tuneoff.trial.export import export
from tuneoff.trial.inference import predict
from tuneoff.trial.run import run

pytest_plugins = ("trial_fixtures",)
pytestmark = pytest.mark.usefixtures("one_thread")

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def save_chat_model(folder: Path) -> int:
    """Saves a model whose turns end with a token that is not its end-of-text token; returns that token."""
    save_writer(folder, "gpt2", vocab_size=310)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    # The library numbers an added token anew when it is read.
    end = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("<end>")
    assert end != tokenizer.eos_token_id
    return int(end)


def test_every_trial_of_a_run_prediction_and_export_stop_at_the_end_of_a_turn(
    make_place: MakePlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = save_chat_model(tmp_path / "model")
    chats = [
        {"messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "y"}]} for i in range(16)
    ]
    data = tmp_path / "chats.jsonl"
    data.write_text("\n".join(map(json.dumps, chats)), encoding="utf-8")
    stops: list[tuple[int, ...]] = []

    def noted(attached: Any, ids: Any, mask: Any, settings: Any, tokenizer: Any) -> Any:
        stops.append(settings.end_ids)
        return write(attached, ids, mask, settings, tokenizer)

    monkeypatch.setattr("tuneoff.tasks._text_writer.write", noted)
    places = [
        make_place(
            "full",
            folder=tmp_path / "model",
            data=data,
            task={"name": "chat", "max_target_length": 6},
            protocol={"epochs": 1, "max_steps": 1, "max_length": 40},
            seed=seed,
        )
        for seed in (0, 1)
    ]
    seen = []
    for place in places:
        assert run(place, "cpu", time.perf_counter(), scratch=tmp_path / "scratch").status.finished
        seen.append(set(stops))
        stops.clear()
    assert seen == [{(end,)}, {(end,)}]
    predict(places[1], str(data), "cpu")
    assert set(stops) == {(end,)}
    export(places[1], tmp_path / "out", merged=False, device="cpu")
    assert end in read_json(tmp_path / "out" / "generation_config.json")["eos_token_id"]


QUESTIONS = ["q one", "oil or goal? " * 6, "b", "why is it so"]


@pytest.mark.parametrize("template", ["model", "plain"])
@pytest.mark.parametrize("task", ["chat", "instruction"])
def test_the_card_of_an_export_answers_as_the_trial_does(
    task: str, template: str, make_place: MakePlace, tmp_path: Path
) -> None:
    """Long conversations lose their oldest turns, long questions their end."""
    save_chat_model(tmp_path / "model")
    asked: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    if task == "chat":
        turns = [
            [{"role": role, "content": f" {question} {i}"} for i in range(5) for role in ("user", "assistant")][: 2 * n]
            for n, question in enumerate(QUESTIONS, 1)
        ]
        turns[3] = [{"role": "system", "content": "be"}, *turns[3]]
        rows = [{"messages": own} for own in turns]
        asked = [{"messages": own[:-1]} for own in turns]
    else:
        rows = [{"instruction": q, "input": "it" if i % 2 else "", "output": "y"} for i, q in enumerate(QUESTIONS)]
        asked = [{"instruction": row["instruction"], "input": row["input"]} for row in rows]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows * 4)), encoding="utf-8")
    place = make_place(
        "lora",
        folder=tmp_path / "model",
        data=data,
        task={"name": task, "max_target_length": 6, "long_targets": "cut", "chat_template": template},
        protocol={"epochs": 1, "max_steps": 2, "max_length": 56, "learning_rate": 0.02},
    )
    run(place, "cpu", time.perf_counter())
    expected = [one["output"] for one in predict(place, str(data), "cpu")["predictions"]][: len(rows)]
    export(place, tmp_path / "out", merged=False, device="cpu")
    found = run_cards({tmp_path / "out": asked})[tmp_path / "out"]
    assert [output for output, _ in found] == expected
    assert len(set(expected)) > 1
