"""The arm that asks a model which others run, against a stand-in on the loopback."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import ValidationError

from endpoint_helpers import KEY, Failure, StandInEndpoint, answering
from tuneoff import registry
from tuneoff.errors import EndpointError
from tuneoff.interfaces import Answered, Example, Questions, Reply, ServedModel, Task
from tuneoff.methods import _endpoint_client as client
from tuneoff.methods.endpoint import read_class
from tuneoff.tasks.chat import Chat
from tuneoff.tasks.classification import Classification
from tuneoff.tasks.generation import Generation
from tuneoff.tasks.regression import Regression

LABELS = ("sport", "trade")
CHOICE = {"message": {"content": "sport"}, "finish_reason": "stop"}


@pytest.fixture
def server() -> Iterator[StandInEndpoint]:
    with answering(lambda prompt: "trade" if "oil" in prompt else "sport") as stand_in:
        yield stand_in


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.005)


def endpoint(server: StandInEndpoint, **options: Any) -> ServedModel[Any]:
    method = registry.methods()["endpoint"].create({"url": server.url, "model": "m", **options})
    assert isinstance(method, ServedModel)
    return method


def rows(*texts: str, target: str = "sport") -> list[Example]:
    return [Example(text, target, i, f"row {i}") for i, text in enumerate(texts)]


def ask(
    method: ServedModel[Any],
    examples: Sequence[Example],
    task: Task | None = None,
    *,
    solved: Sequence[Example] = (),
    kept: Mapping[str, Reply] | None = None,
    found: Mapping[str, Reply] | None = None,
) -> tuple[Answered, list[Reply]]:
    """What is answered, and the replies that are kept meanwhile."""
    replies: list[Reply] = []
    task = task or Classification({"labels": LABELS})
    told: list[tuple[int, int]] = []
    questions = Questions(solved, examples, kept or {}, found or {}, replies.append, lambda *own: told.append(own))
    answered = method.ask(task, questions)
    assert len(told) == len(replies) - answered.served.found
    return answered, replies


def test_a_prompt_is_the_tasks_and_labels_are_named_before_it(server: StandInEndpoint) -> None:
    answered, replies = ask(endpoint(server, temperature=0.2, body={"top_p": 0.9}), rows("a goal", "oil"))
    assert [p.output for p in answered.predictions] == ["sport", "trade"]
    assert [(p.index, p.target, p.scores) for p in answered.predictions] == [(0, "sport", ()), (1, "sport", ())]
    body = next(b for b in server.bodies if "goal" in b["messages"][-1]["content"])
    assert body["messages"] == [
        {"role": "system", "content": "Answer with exactly one of these labels and nothing else: sport, trade"},
        {"role": "user", "content": "a goal\n\nLabel:"},
    ]
    assert (body["temperature"], body["max_tokens"], body["top_p"], body["model"]) == (0.2, 16, 0.9, "m")
    assert server.keys == [None, None]
    served = answered.served
    assert (served.requests, served.examples, served.unparsed, served.cut, served.repeated) == (2, 2, 0, 0, 0)
    assert (served.input_tokens, served.output_tokens, served.answering_models) == (14, 4, ("m-0613",))
    assert [reply.text for reply in sorted(replies, key=lambda r: r.text)] == ["sport", "trade"]
    assert all(seconds > 0 for seconds in answered.seconds)
    assert [finding.name for finding in answered.findings] == ["network_latency"]


def test_solved_examples_are_turns_before_it(server: StandInEndpoint) -> None:
    ask(endpoint(server, instruction=""), rows("a match"), solved=[Example("oil up", "trade", 0, "")])
    assert [(m["role"], m["content"]) for m in server.bodies[0]["messages"]] == [
        ("user", "oil up\n\nLabel:"),
        ("assistant", "trade"),
        ("user", "a match\n\nLabel:"),
    ]


def test_classes_have_the_words_that_the_task_gives_them(server: StandInEndpoint) -> None:
    words = {"sport": "about sport", "trade": "about money"}
    task = Classification({"labels": LABELS, "scoring": "likelihood", "template": "Text: {text} ", "words": words})
    server.say = lambda prompt: "About money."
    answered, _ = ask(endpoint(server), rows("oil"), task, solved=rows("a goal"))
    assert answered.predictions[0].output == "trade"
    system, shown, solution, asked = (m["content"] for m in server.bodies[0]["messages"])
    assert system.endswith("about sport, about money")
    assert (shown, solution, asked) == ("Text: a goal", "about sport", "Text: oil")


def test_completions_are_one_text_that_stops_after_the_answer(server: StandInEndpoint) -> None:
    answered, _ = ask(endpoint(server, api="completions"), rows("oil"), solved=rows("a goal"))
    assert answered.predictions[0].output == "trade"
    assert server.bodies[0]["prompt"].endswith("\n\na goal\n\nLabel: sport\n\noil\n\nLabel:")
    assert server.bodies[0]["stop"] == ["\n"]


def test_likelihoods_weigh_every_class_and_give_probabilities(server: StandInEndpoint) -> None:
    server.probability = lambda prompt: -0.25 if prompt.endswith(" trade") else -2.25
    answered, replies = ask(endpoint(server, api="likelihood"), rows("a goal"))
    (prediction,) = answered.predictions
    total = math.log(math.exp(-0.25) + math.exp(-2.25))
    assert prediction.output == "trade"
    assert prediction.scores == pytest.approx((-2.25 - total, -0.25 - total), abs=1e-6)
    assert len(replies) == 2
    assert {body["prompt"].rsplit(" ", 1)[1] for body in server.bodies} == set(LABELS)
    names = {metric.name for metric in Classification({"labels": LABELS}).score(answered.predictions, "test")}
    assert "loss" in names


def test_a_server_without_likelihoods_is_named(server: StandInEndpoint) -> None:
    server.failures = [Failure(body={"choices": [{"text": "x"}]})]
    with pytest.raises(EndpointError, match="no log-probabilities of a prompt") as caught:
        ask(endpoint(server, api="likelihood", concurrency=1), rows("a goal"))
    assert "api: chat" in caught.value.hint
    assert len(server.bodies) == 1


def test_texts_are_scored_as_everywhere(server: StandInEndpoint) -> None:
    server.say, server.finish = lambda prompt: " the cat sat ", "length"
    task = Generation({"template": "Sum up: {source}\n", "max_target_length": 9})
    task.fit({"train": rows("a"), "test": rows("a")})
    answered, _ = ask(endpoint(server), rows("The cat sat down.", target="the cat sat"), task)
    (prediction,) = answered.predictions
    assert (prediction.output, prediction.generated_tokens) == ("the cat sat", 2)
    assert prediction.values["rouge_l"] == 1
    assert server.bodies[0]["messages"] == [{"role": "user", "content": "Sum up: The cat sat down.\n"}]
    assert server.bodies[0]["max_tokens"] == 9
    assert (answered.served.cut, answered.served.unparsed) == (1, None)
    assert [finding.name for finding in answered.findings] == ["network_latency", "cut_answers"]


def test_turns_of_a_conversation_stay_turns(server: StandInEndpoint) -> None:
    chat = Example("And now?", "later", 0, "", history=(("user", "When?"), ("assistant", "Soon.")))
    ask(endpoint(server), [chat], Chat({}))
    assert [m["role"] for m in server.bodies[0]["messages"]] == ["user", "assistant", "user"]
    assert server.bodies[0]["messages"][-1]["content"] == "And now?"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("sport", "sport"),
        (" Sport.\n", "sport"),
        ('"TRADE"', "trade"),
        ("**trade**.", "trade"),
        ("“sport”", "sport"),
        ("The label is sport", None),
        ("sport, trade", None),
        ("sport\ntrade", None),
        ("I cannot help with that.", None),
        ("", None),
        ("0", None),
    ],
)
def test_a_class_is_read_strictly(text: str, label: str | None) -> None:
    assert read_class(text, dict(zip(LABELS, LABELS, strict=True))) == label


def test_names_that_differ_in_capitals_alone_are_told_apart_to_the_letter() -> None:
    words = {"IT": "IT", "it": "it"}
    assert read_class("IT", words) == "IT"
    assert read_class("It", words) is None


def test_answers_that_name_no_class_count_as_wrong_and_are_told(server: StandInEndpoint) -> None:
    server.say = lambda prompt: "trade" if "oil" in prompt else "I cannot say."
    answered, _ = ask(endpoint(server), rows("oil", "goal", "match"))
    assert [p.output for p in answered.predictions] == ["trade", "", ""]
    assert answered.served.unparsed == 2
    (finding,) = [f for f in answered.findings if f.name == "unparsed_answers"]
    assert finding.message.startswith("2 of 3 answers (66.7%) name no class")
    task = Classification({"labels": LABELS})
    scores = {metric.name: metric.value for metric in task.score(answered.predictions, "test")}
    assert scores["accuracy"] == 0
    # Two classes, not a third one of no name: sport is never answered, trade never true.
    both = [p.model_copy(update={"target": t}) for p, t in zip(answered.predictions, ("trade", "sport", "trade"))]  # noqa: B905
    named = {metric.name: metric.value for metric in task.score(both, "test")}
    assert named["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


# --- failures

USABLE_AFTER = {
    "500": Failure(500),
    "503 with words": Failure(503, {"error": {"message": "overloaded"}}),
    "429 at once": Failure(429, headers={"Retry-After": "0"}),
    "429 by date": Failure(429, headers={"Retry-After": format_datetime(datetime(2020, 1, 1, tzinfo=UTC))}),
    "429 in words": Failure(429, headers={"Retry-After": "soon"}),
    "408": Failure(408),
    "no JSON": Failure(body=b"<html>Bad gateway</html>"),
    "no object": Failure(body=b"[1]"),
    "no choices": Failure(body={"choices": []}),
    "choices of another kind": Failure(body={"choices": "sport"}),
    "no message": Failure(body={"choices": [{"text": "sport"}]}),
    "an error with status 200": Failure(body={"error": {"message": "no capacity"}}),
    "nothing": Failure(body=b""),
    "half an answer": Failure(body=b'{"choices": [', breaks_off=True),
    "too late": Failure(body={"choices": [CHOICE]}, seconds=0.6),
}


@pytest.mark.parametrize("name", USABLE_AFTER)
def test_what_passes_is_asked_again(name: str, server: StandInEndpoint) -> None:
    server.failures = [USABLE_AFTER[name]] * 2
    options = {"timeout_seconds": 0.15} if name == "too late" else {}
    answered, (reply,) = ask(endpoint(server, concurrency=1, **options), rows("oil"))
    assert answered.predictions[0].output == "trade"
    assert (len(server.bodies), reply.tries, answered.served.repeated) == (3, 3, 2)


@pytest.mark.parametrize("name", USABLE_AFTER)
def test_what_does_not_pass_is_one_clear_error(name: str, server: StandInEndpoint) -> None:
    server.failures = [USABLE_AFTER[name]] * 3
    options = {"timeout_seconds": 0.15} if name == "too late" else {}
    with pytest.raises(EndpointError, match=r"gives no usable answer: .* \(2 tries\) \(answered until now: 0 of 1\)"):
        ask(endpoint(server, tries=2, concurrency=1, **options), rows("oil"))
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (Failure(401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), "HTTP 401, Incorrect .* …"),
        (Failure(400, {"error": "bad\nrequest"}), "HTTP 400, bad request"),
        (Failure(404, b"no such model"), "HTTP 404, no such model"),
        (Failure(422, {"detail": "max_tokens"}), "HTTP 422"),
        (Failure(307, headers={"Location": "http://127.0.0.1:9/v1"}), "HTTP 307, a redirect"),
        (Failure(429, headers={"Retry-After": "9999"}), "asks to wait 9999 s"),
        (
            Failure(503, headers={"Retry-After": format_datetime(datetime.now(UTC) + timedelta(hours=1))}),
            r"asks to wait 3\d\d\d s",
        ),
    ],
)
def test_what_would_fail_again_is_not_asked_again(
    failure: Failure, message: str, server: StandInEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    server.failures = [failure]
    with pytest.raises(EndpointError, match=message) as caught:
        ask(endpoint(server, api_key_env="SOME_KEY"), rows("oil"))
    assert KEY not in str(caught.value)
    assert server.keys == [f"Bearer {KEY}"]


def test_a_server_that_is_not_there_is_one_clear_error(server: StandInEndpoint) -> None:
    method = endpoint(server, tries=2)
    server.close()
    with pytest.raises(EndpointError, match="Connection refused"):
        ask(method, rows("oil"))


def test_what_was_answered_is_kept_and_only_the_rest_is_asked(server: StandInEndpoint) -> None:
    method, examples = endpoint(server, concurrency=1), rows("a goal", "oil", "a match")
    kept: dict[str, Reply] = {}
    questions = Questions((), examples, {}, {}, lambda reply: kept.update({reply.request: reply}), lambda *_: None)
    task = Classification({"labels": LABELS})
    say = server.say

    def fail_third(prompt: str) -> str:
        if len(server.bodies) == 2:
            server.failures = [Failure(400)]
        return say(prompt)

    server.say = fail_third
    with pytest.raises(EndpointError, match="answered until now: 2 of 3"):
        method.ask(task, questions)
    assert len(kept) == 2
    server.say = say
    answered, new = ask(method, examples, kept=kept)
    assert (len(new), len(server.bodies)) == (1, 4)
    assert [p.output for p in answered.predictions] == ["sport", "trade", "sport"]
    again, none = ask(method, examples, kept={**kept, **{reply.request: reply for reply in new}})
    assert none == []
    assert again.predictions == answered.predictions


def test_equal_questions_are_asked_once_and_those_of_other_trials_not_at_all(server: StandInEndpoint) -> None:
    _, replies = ask(endpoint(server), rows("oil", "oil", "goal"))
    assert len(server.bodies) == 2
    found = {reply.request: reply for reply in replies}
    answered, copied = ask(endpoint(server), rows("oil", "goal"), found=found)
    assert len(server.bodies) == 2
    assert (answered.served.found, len(copied)) == (2, 2)
    ask(endpoint(server, repeat=True), rows("oil", "goal"), found=found)
    assert len(server.bodies) == 4


# --- pace


def test_no_more_requests_are_under_way_than_asked(server: StandInEndpoint) -> None:
    say = server.say

    def slow(prompt: str) -> str:
        time.sleep(0.02)
        return say(prompt)

    server.say = slow
    ask(endpoint(server, concurrency=3), rows(*map(str, range(12))))
    assert 1 < server.most_at_once <= 3


def test_requests_begin_no_faster_than_asked(server: StandInEndpoint) -> None:
    ask(endpoint(server, requests_per_minute=60 / 0.03), rows(*map(str, range(4))))
    times = sorted(server.times)
    assert times[-1] - times[0] >= 3 * 0.03 - 0.02  # a request's own way takes time, too


def test_after_a_pause_that_is_asked_for_all_wait(server: StandInEndpoint) -> None:
    server.failures = [Failure(429, headers={"Retry-After": "0.1"})]
    ask(endpoint(server, concurrency=1), rows("a", "b"))
    assert server.times[1] - server.times[0] >= 0.09


# --- what is refused

BAD: dict[str, list[Any]] = {
    "url": [
        "api.example.com/v1",
        "file:///etc/passwd",
        "ftp://host/v1",
        "http://",
        "http://host:x/v1",
        "http://ho st/v1",
        "http://a..b/v1",
        f"https://user:{KEY}@host/v1",
        f"https://host/v1?key={KEY}",
    ],
    "api_key_env": [KEY, "lower", "", "A" * 200],
    "body": [{"messages": []}, {"stream": True}, {"n": 2}],
    "api": ["embeddings"],
    "tries": [0],
    "concurrency": [0],
    "requests_per_minute": [0],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_options_that_cannot_be_are_refused_without_repeating_a_key(name: str, value: Any) -> None:
    options = {"url": "http://127.0.0.1:9/v1", "model": "m", name: value}
    with pytest.raises(ValidationError) as caught:
        registry.methods()["endpoint"].create(options)
    for error in caught.value.errors():
        assert KEY not in error["msg"]
        if KEY in str(value):
            assert isinstance(error["input"], dict), "messages quote what stands at one key"


@pytest.mark.parametrize("options", [{}, {"url": "http://h/v1"}, {"model": "m"}])
def test_there_is_no_endpoint_by_default(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        registry.methods()["endpoint"].create(options)


def test_a_task_that_it_cannot_do_is_refused(server: StandInEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, classes = Generation({}), Classification({})
    assert endpoint(server).why_unfit(classes) == endpoint(server).why_unfit(texts) == ""
    assert "asks for a number" in endpoint(server).why_unfit(Regression({}))
    assert "weighs the words" in endpoint(server, api="likelihood").why_unfit(texts)
    by_loss = Classification({"primary_metric": "loss"})
    assert "needs probabilities" in endpoint(server).why_unfit(by_loss)
    assert endpoint(server, api="likelihood").why_unfit(by_loss) == ""
    assert "needs probabilities" in endpoint(server).why_unfit(Generation({"primary_metric": "perplexity"}))
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert "NO_SUCH_KEY" in endpoint(server, api_key_env="NO_SUCH_KEY").why_unfit(classes)


def test_a_key_that_no_header_can_hold_is_refused_unseen(
    server: StandInEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(EndpointError, match="SOME_KEY holds no key") as caught:
        ask(endpoint(server, api_key_env="SOME_KEY"), rows("oil"))
    assert KEY not in str(caught.value)
    assert server.bodies == []


def test_a_client_does_not_show_its_key() -> None:
    assert KEY not in repr(client.Client("http://127.0.0.1:9/v1", KEY, 1.0, 1, 1, None))


def test_a_forecast_counts_a_request_for_each_class_whose_likelihood_is_asked(server: StandInEndpoint) -> None:
    task, pace = Classification({"labels": LABELS}), {"requests_per_minute": 30}
    assert endpoint(server, **pace).expected_seconds(task, 10) == pytest.approx(20)
    assert endpoint(server, api="likelihood", **pace).expected_seconds(task, 10) == pytest.approx(40)


def test_a_key_that_an_answer_repeats_is_not_kept(server: StandInEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    server.say = lambda prompt: f"you sent {KEY}"
    answered, (reply,) = ask(endpoint(server, api_key_env="SOME_KEY"), rows("oil"))
    assert reply.text == "you sent …"
    assert KEY not in str(answered)
