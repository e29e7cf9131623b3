"""What is told of a trial's own result."""

from __future__ import annotations

from tuneoff.interfaces import Example
from tuneoff.records.record import DataInfo, Prediction, SplitInfo
from tuneoff.tasks.generation import Generation
from tuneoff.trial.modeling.tokenizer import byte_tokenizer
from tuneoff.trial.training.findings import note_references, result_findings

ROOM = 5
INFO = DataInfo(splits={"test": SplitInfo(rows=4, fingerprint="")})


def told(texts: list[tuple[str, int]]) -> dict[str, str]:
    made = [
        Prediction(index=at, target=f"target {at}", output=text, generated_tokens=tokens)
        for at, (text, tokens) in enumerate(texts)
    ]
    found = result_findings(Generation({"max_target_length": ROOM}), made, INFO)
    return {finding.name: finding.message for finding in found}


def test_texts_that_are_empty_or_did_not_end_are_counted() -> None:
    found = told([("", 0), ("one two three four five", ROOM), ("one", 1), ("one two three four", ROOM - 1)])
    assert found == {
        "empty_outputs": "1 of 4 test outputs are empty",
        "unended_outputs": "1 of 4 test outputs had not ended after 5 tokens",
    }


def test_few_such_texts_are_no_finding() -> None:
    usual = [(f"text {number}", 2) for number in range(38)]
    assert told([*usual, ("", 0), ("a b c d e", ROOM)]) == {}
    assert set(told([*usual, ("", 0), ("a", 1), ("", 0), ("", 0)])) == {"empty_outputs"}


def test_targets_that_tokens_do_not_hold_are_told() -> None:
    from transformers import AutoConfig

    config = AutoConfig.for_model("gpt2", vocab_size=300, bos_token_id=299, eos_token_id=299)
    tokenizer, task = byte_tokenizer(config), Generation({})
    examples = [
        Example("x", target, i, f"line {i}") for i, target in enumerate(["A  b\nC", f"{tokenizer.eos_token} d", "e"])
    ]
    task.model_class(config)
    (finding,) = note_references(task, examples, tokenizer)
    assert finding.name == "targets_not_read_back"
    assert finding.message.startswith("1 of 3 test targets lose something")
    assert "line 1 'd'" in finding.message
    assert note_references(task, [examples[0], examples[2]], tokenizer) == []
