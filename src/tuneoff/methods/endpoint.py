"""A model that others run, prompted over a network: any server with OpenAI's interface."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from tuneoff.errors import EndpointError
from tuneoff.interfaces import (
    Answered,
    Example,
    Finding,
    MethodOptions,
    Outputs,
    Prediction,
    Questions,
    Reply,
    Served,
    ServedModel,
)
from tuneoff.methods._endpoint_client import Client, Request, Unusable
from tuneoff.methods._references import FEW_SHOT, FEW_SHOT_PAPER

if TYPE_CHECKING:
    from tuneoff.interfaces import Task

SEPARATOR = "\n\n"
"""Between the parts of a prompt without turns."""
ANSWER_SECONDS = 1.0
"""Assumed time of an answer, for forecasts: nothing is asked for them."""
QUOTES = "\"'`*“”‘’«»"
FIXED_KEYS = frozenset({"model", "messages", "prompt", "stream", "n", "echo", "logprobs"})
"""Keys of a request that `body` must leave alone."""


class EndpointOptions(MethodOptions):
    """Options of `endpoint`."""

    url: str = Field(description="address of the server, up to `/v1`: `https://api.example.com/v1`")
    model: str = Field(min_length=1, max_length=200, description="name of the model, as the server knows it")
    api: Literal["chat", "completions", "likelihood"] = Field(
        "chat",
        description="`chat`: messages; `completions`: one text to go on with; `likelihood`: the class whose words are "
        "likeliest after the prompt, by servers whose completions tell log-probabilities of the prompt (`echo`)",
    )
    api_key_env: str | None = Field(
        None, description="environment variable that holds the key; it is read when a trial runs and kept nowhere"
    )
    examples: int = Field(0, ge=0, description="solved training examples shown before each input; 0: zero-shot")
    instruction: str | None = Field(
        None, description="what is said first; unset: for classes that one of them is to be named, for texts nothing"
    )
    temperature: float | None = Field(0.0, ge=0, description="of sampling; null: not sent, the server's own")
    max_tokens: int | None = Field(
        None, ge=1, description="tokens of an answer; unset: task.max_target_length, or enough for the longest class"
    )
    body: dict[str, Any] = Field(default_factory=dict, description="further keys of each request, e.g. `{top_p: 1}`")
    repeat: bool = Field(
        False,
        description="ask anew at every seed; false: what another trial of the study, or of its series, asked already "
        "is not asked again",
    )
    concurrency: int = Field(4, ge=1, le=256, description="requests under way at once")
    requests_per_minute: float | None = Field(None, gt=0, description="most requests that begin in a minute")
    timeout_seconds: float = Field(60.0, gt=0, le=3600, description="time without an answer, after which it is lost")
    tries: int = Field(5, ge=1, le=20, description="how often a request is sent at most")

    # Checked of all options at once: a message about one key would repeat what stands there, which may be a secret.
    @model_validator(mode="after")
    def _without_secrets(self) -> EndpointOptions:
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
            # As a connection asks for it.
            (host or "").encode("idna")
        except ValueError:
            raise ValueError("url is no address") from None
        if parts.scheme not in ("http", "https") or not host or re.search(r"[^\x21-\x7e]", self.url):
            raise ValueError("url must be an address as https://host/v1 or http://host:port/v1")
        if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
            raise ValueError(
                "url must hold no user, password or query: put the key into an environment variable and name that with "
                "api_key_env"
            )
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", self.api_key_env):
            raise ValueError(
                "api_key_env is the name of an environment variable (capital letters, digits, _), never the key itself"
            )
        if taken := sorted(FIXED_KEYS & self.body.keys()):
            raise ValueError(f"body must not hold {', '.join(taken)}: the arm sets it")
        return self


class Endpoint(ServedModel[EndpointOptions]):
    """Any server with OpenAI's interface, asked about the same test rows with the task's prompt.

    A class is read from an answer strictly: without spaces, quotes and a full stop around it, the answer must be one
    class's words or name, capital letters aside. Anything else, a refusal too, names none and counts as wrong; the
    record tells how many. A request is sent again after a timeout, a lost connection, HTTP 408, 425, 429 or 5xx, or an
    answer that is no JSON or has no choices: after what `Retry-After` says, else after 1, 2, 4, … seconds.
    """

    title = "Endpoint"
    summary = "No training: a model that others run, asked over a network (OpenAI's interface), zero- or few-shot."
    paper = FEW_SHOT_PAPER
    references = (FEW_SHOT,)
    produces = ("class", "text")
    Options = EndpointOptions

    @property
    def demonstrations(self) -> int:
        return self.options.examples

    def why_unfit(self, task: Task) -> str:
        if task.produces not in self.produces:
            return f"an endpoint answers with a class or a text, and the task asks for a {task.produces}"
        if self.options.api == "likelihood" and task.produces != "class":
            return "api: likelihood weighs the words of classes, and the task writes text: use api: chat or completions"
        metric = task.metric(task.main_metric)
        if metric.compute(Outputs.of([self._sample(task)], ("a", "b"))) is None:
            return (
                f"arms are compared by {metric.name}, which needs probabilities, and api: {self.options.api} gives none"
            )
        name = self.options.api_key_env
        if name is not None and not os.environ.get(name, "").strip():
            return f"the environment variable {name} (api_key_env) is not set here, so there is no key"
        return ""

    def _sample(self, task: Task) -> Prediction:
        """Returns a prediction as this arm makes them, to know what can be computed from it."""
        example = Example("a", "a", 0, "")
        scores = (math.log(0.5),) * 2 if self.options.api == "likelihood" else ()
        sample = Prediction(index=0, target="a", output="a", scores=scores)
        return task.answer(sample, example, "a", 1) if task.produces == "text" else sample

    def expected_seconds(self, task: Task, examples: int) -> float:
        pace = self.options.requests_per_minute
        requests = examples * (len(task.class_words) if self.options.api == "likelihood" else 1)
        return requests * max(ANSWER_SECONDS / self.options.concurrency, 60 / pace if pace else 0.0)

    def ask(self, task: Task, asked: Questions) -> Answered:
        client = self._client()
        compose = {"chat": self._chat, "completions": self._completion, "likelihood": self._likelihood}
        requests = [compose[self.options.api](task, asked.solved, example) for example in asked.examples]
        unique = {client.identify(request): request for own in requests for request in own}
        replies = {key: reply for key, reply in asked.kept.items() if key in unique}
        others = {} if self.options.repeat else asked.found
        found = {key: reply for key, reply in others.items() if key in unique and key not in replies}
        for reply in found.values():
            asked.keep(reply)
        replies |= found

        def keep(reply: Reply) -> None:
            asked.keep(reply)
            replies[reply.request] = reply
            asked.tell(len(replies), len(unique))

        missing = [request for key, request in unique.items() if key not in replies]
        try:
            client.ask(missing, keep)
        except EndpointError as error:
            raise EndpointError(
                f"{error.message} (answered until now: {len(replies)} of {len(unique)})", hint=error.hint
            ) from None
        by_example = [[replies[client.identify(request)] for request in own] for own in requests]
        return self._answered(task, asked.examples, by_example, list(replies.values()), len(found))

    def _client(self) -> Client:
        options = self.options
        key = os.environ.get(options.api_key_env, "").strip() if options.api_key_env is not None else None
        if key is not None and (not key or re.search(r"[^\x21-\x7e]", key)):
            raise EndpointError(
                f"the environment variable {options.api_key_env} holds no key"
                + (": it has characters that no header can" if key else ""),
                hint="Set it where the trials run.",
            )
        return Client(
            options.url.rstrip("/"),
            key,
            options.timeout_seconds,
            options.tries,
            options.concurrency,
            options.requests_per_minute,
        )

    # --- examples -> requests

    def _chat(self, task: Task, solved: Sequence[Example], example: Example) -> list[Request]:
        instruction = self._instruction(task)
        messages = [{"role": "system", "content": instruction}] if instruction else []
        for shown in solved:
            messages += self._turns(task, shown)
            messages.append({"role": "assistant", "content": _solution(task, shown)})
        body = {"messages": [*messages, *self._turns(task, example)], **self._limits(task)}
        return [Request("/chat/completions", self._body(body), _read_message)]

    @staticmethod
    def _turns(task: Task, example: Example) -> list[dict[str, str]]:
        history = [{"role": speaker, "content": words} for speaker, words in example.history]
        return [*history, {"role": "user", "content": task.prompt_text(example)}]

    def _completion(self, task: Task, solved: Sequence[Example], example: Example) -> list[Request]:
        # What comes after the answer would be the next example of the model's own making.
        stop = {"stop": ["\n"]} if task.produces == "class" else {"stop": [SEPARATOR]} if solved else {}
        body = {"prompt": self._prompt(task, solved, example), **self._limits(task), **stop}
        return [Request("/completions", self._body(body), _read_text)]

    def _likelihood(self, task: Task, solved: Sequence[Example], example: Example) -> list[Request]:
        prompt = self._prompt(task, solved, example)
        return [
            Request(
                "/completions",
                self._body(
                    {"prompt": f"{prompt} {words}", "max_tokens": 1, "temperature": 0.0, "echo": True, "logprobs": 1}
                ),
                partial(_read_log_probability, len(prompt), len(f"{prompt} {words}")),
            )
            for words in task.class_words.values()
        ]

    def _prompt(self, task: Task, solved: Sequence[Example], example: Example) -> str:
        """Returns instruction, solved examples and the example's prompt as one text."""
        parts = [instruction] if (instruction := self._instruction(task)) else []
        parts += [f"{_plain_prompt(task, shown)} {_solution(task, shown)}" for shown in solved]
        return SEPARATOR.join([*parts, _plain_prompt(task, example)])

    def _instruction(self, task: Task) -> str:
        if self.options.instruction is not None:
            return self.options.instruction
        if task.produces != "class":
            return ""
        return f"Answer with exactly one of these labels and nothing else: {', '.join(task.class_words.values())}"

    def _limits(self, task: Task) -> dict[str, Any]:
        words = task.class_words.values()
        # No tokenizer makes more tokens of a text than it has bytes.
        room = max(16, *(len(own.encode()) for own in words)) if words else task.target_room
        temperature = {} if self.options.temperature is None else {"temperature": self.options.temperature}
        return {"max_tokens": self.options.max_tokens or room, **temperature}

    def _body(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a request's body. A key that `body` sets to null is not sent."""
        body = {"model": self.options.model, **keys, **self.options.body}
        return {key: value for key, value in body.items() if value is not None}

    # --- replies -> predictions

    def _answered(
        self,
        task: Task,
        examples: Sequence[Example],
        by_example: Sequence[Sequence[Reply]],
        replies: Sequence[Reply],
        found: int,
    ) -> Answered:
        to_prediction: Callable[[Task, Example, Sequence[Reply]], Prediction] = _to_text
        if task.produces == "class":
            to_prediction = _to_likeliest if self.options.api == "likelihood" else _to_class
        predictions = [to_prediction(task, *pair) for pair in zip(examples, by_example, strict=True)]
        unparsed = [own[0].text for own, p in zip(by_example, predictions, strict=True) if not p.output]
        is_class = task.produces == "class"
        cut = sum(reply.finish == "length" for own in by_example for reply in own if reply.log_probability is None)
        served = Served(
            url=self.options.url,
            model=self.options.model,
            answering_models=tuple(sorted({reply.model for reply in replies if reply.model})),
            examples=len(examples),
            requests=len(replies),
            found=found,
            repeated=sum(reply.tries - 1 for reply in replies),
            input_tokens=_sum(reply.input_tokens for reply in replies),
            output_tokens=_sum(reply.output_tokens for reply in replies),
            unparsed=len(unparsed) if is_class else None,
            cut=cut,
        )
        seconds = [sum(reply.seconds for reply in own) for own in by_example]
        return Answered(predictions, seconds, served, _findings(served, unparsed if is_class else []))


def read_class(text: str, words: Mapping[str, str]) -> str | None:
    """Returns the class that an answer names, by its words or its name; None where it names none, or is more than that.

    Args:
        text: the answer.
        words: class -> its words.
    """
    said = text.strip()
    plain = said.strip(QUOTES).strip().removesuffix(".").strip(QUOTES).strip().casefold()
    exact = {label for label, own in words.items() if said in (own, label)}
    alike = {label for label, own in words.items() if plain in (own.casefold(), label.casefold())}
    matches = exact or alike
    return matches.pop() if len(matches) == 1 else None


def _solution(task: Task, example: Example) -> str:
    return task.class_words.get(example.target, example.target)


def _plain_prompt(task: Task, example: Example) -> str:
    """Returns an example's prompt without spaces at its end, which tokenizers join to the word that follows."""
    return (example.input_text if example.history else task.prompt_text(example)).rstrip(" ")


def _read_message(choice: Mapping[str, Any]) -> tuple[str, str, None]:
    message = choice.get("message")
    if not isinstance(message, Mapping):
        raise Unusable("a choice without a message")
    text = message.get("content")
    if isinstance(text, list):
        # Some servers send parts.
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, Mapping))
    # A refusal is an answer, and one that spent all its tokens on thinking too.
    return str(text or message.get("refusal") or ""), str(choice.get("finish_reason") or ""), None


def _read_text(choice: Mapping[str, Any]) -> tuple[str, str, None]:
    text = choice.get("text")
    if not isinstance(text, str):
        raise Unusable("a choice without text")
    return text, str(choice.get("finish_reason") or ""), None


def _read_log_probability(begin: int, end: int, choice: Mapping[str, Any]) -> tuple[str, str, float]:
    """Sums the log-probabilities of the tokens of the characters from `begin` to `end` of what was sent."""
    told = choice.get("logprobs")
    values, offsets = (
        (told.get(name) for name in ("token_logprobs", "text_offset")) if isinstance(told, Mapping) else (None, None)
    )
    if not isinstance(values, list) or not isinstance(offsets, list) or len(values) != len(offsets):
        raise EndpointError(
            "the server tells no log-probabilities of a prompt (`echo` and `logprobs` of completions)",
            hint="Use api: chat or api: completions.",
        )
    own = [value for value, offset in zip(values, offsets, strict=True) if begin <= offset < end]
    if not own or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in own):
        raise Unusable("log-probabilities that are no numbers, or none of the words that were asked about")
    return "", str(choice.get("finish_reason") or ""), float(sum(own))


def _to_class(task: Task, example: Example, replies: Sequence[Reply]) -> Prediction:
    output = read_class(replies[0].text, task.class_words) or ""
    return Prediction(index=example.index, target=example.target, output=output)


def _to_likeliest(task: Task, example: Example, replies: Sequence[Reply]) -> Prediction:
    sums = [reply.log_probability or 0.0 for reply in replies]
    total = max(sums) + math.log(sum(math.exp(own - max(sums)) for own in sums))
    best = max(range(len(sums)), key=lambda number: sums[number])
    scores = tuple(round(own - total, 6) for own in sums)
    return Prediction(index=example.index, target=example.target, output=list(task.labels)[best], scores=scores)


def _to_text(task: Task, example: Example, replies: Sequence[Reply]) -> Prediction:
    (reply,) = replies
    source = example.input_text if example.index < task.sources_kept else ""
    empty = Prediction(index=example.index, target=example.target, output="", source=source)
    # A server may not count; then nobody knows how many there were.
    answered = task.answer(empty, example, reply.text, reply.output_tokens or 0)
    return answered.model_copy(update={"generated_tokens": reply.output_tokens})


def _sum(counts: Any) -> int | None:
    """Returns the sum of counts; None where any is not known."""
    known = list(counts)
    return None if None in known else sum(known)


def _findings(served: Served, unparsed: Sequence[str]) -> tuple[Finding, ...]:
    findings = [
        Finding(
            name="network_latency",
            message="latency is that of the network and of whoever runs the model, from sending to the whole answer; "
            "it tells nothing of this machine",
        )
    ]
    if unparsed:
        message = (
            f"{len(unparsed)} of {served.examples} answers ({len(unparsed) / served.examples:.1%}) name no class by "
            f"the rule and count as wrong, e.g. {unparsed[0][:80]!r}"
        )
        findings.append(Finding(name="unparsed_answers", message=message))
    if served.cut:
        message = f"{served.cut} of {served.requests} answers were cut off at the most tokens that they may have"
        findings.append(Finding(name="cut_answers", message=message))
    return tuple(findings)


plugin = Endpoint
