"""Conversations as tokens: the model's chat template, turn by turn, cut to fit.

A template is rendered up to each answer and through it; what comes between is the answer with what ends a turn. So any
template serves that writes a conversation turn by turn, and what is learned is what the model will have to write.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

from tuneoff.errors import DataError, first_line
from tuneoff.interfaces import Example, Features
from tuneoff.tasks._prompts import frame

PLAIN = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize }}: {{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{{ '\\n\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""The template of `chat_template: plain`: each turn after its speaker, the end-of-text token after answers."""
OWN, PLAIN_NAME = "model", "plain"
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"

Turn = tuple[str, str]
"""Speaker and words."""


class Piece(NamedTuple):
    """A part of a conversation as tokens, and whether it is an answer."""

    ids: list[int]
    is_answer: bool


class Fitted(NamedTuple):
    """A conversation that fits, and its parts, the answer to write last."""

    example: Example
    pieces: list[Piece]

    @property
    def prompt(self) -> list[int]:
        """Returns all before the last answer."""
        return [token for piece in self.pieces[:-1] for token in piece.ids]

    @property
    def length(self) -> int:
        """Returns the tokens before the last answer."""
        return sum(len(piece.ids) for piece in self.pieces[:-1])


@dataclass
class TurnEncoder:
    """Encodes conversations for one model.

    Attributes:
        tokenizer: the model's own.
        template: `auto` (the tokenizer's, else the plain one), `model`, `plain`, or a template in Jinja.
        prompt_room: tokens of all before the last answer.
        whole_room: tokens of the conversation.
        target_room: tokens that may be written.
        cut_targets: whether a longer answer loses its end.
        jinja: the template as text; None: the tokenizer's own.
        opening: tokens before the first turn.
        adds_space: whether the tokenizer puts a space before a text by itself.
        specials: special tokens as text; an answer that ends with one is closed.
    """

    tokenizer: Any
    template: str
    prompt_room: int
    whole_room: int
    target_room: int
    cut_targets: bool

    def __post_init__(self) -> None:
        own = getattr(self.tokenizer, "chat_template", None)
        if self.template == OWN and not own:
            raise DataError(
                "the model's tokenizer has no chat template", hint="Set task.chat_template to auto or plain."
            )
        plain = self.template == PLAIN_NAME or (self.template == "auto" and not own)
        self.jinja = PLAIN if plain else None if self.template in (OWN, "auto") else self.template
        opening, _ = frame(self.tokenizer)
        # Templates of models write their own begin-of-text token.
        self.opening = list(self.tokenizer("a")["input_ids"][:opening]) if plain else []
        self.adds_space = self.tokenizer.tokenize("a")[0].startswith("\u2581")
        self.specials = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        self.specials |= set(self.tokenizer.all_special_tokens)

    def features(self, examples: Sequence[Example], demonstrations: Sequence[Example]) -> list[Features]:
        """Encodes the examples, each after the same solved ones, as earlier turns.

        Raises:
            DataError: naming the first row that the template refuses, or that does not fit.
        """
        shown = [turn for e in demonstrations for turn in ((USER, e.text), (ASSISTANT, e.target))]
        return [self._encode(example, shown, len(demonstrations)) for example in examples]

    def _encode(self, example: Example, shown: list[Turn], demonstrations: int) -> Features:
        extra = demonstrations * self.whole_room
        whole = self.pieces(example, shown)
        answer = whole[-1].ids
        learned = answer[: self.target_room] if self.cut_targets else answer
        prompt = self._fit(example, shown, whole, self.prompt_room + extra)
        room = min(self.prompt_room, self.whole_room - len(learned)) + extra
        fitted = self._fit(example, shown, prompt.pieces, room, len(learned)) if prompt.length > room else prompt
        # Solved examples are read and not learned.
        first = 1 + 2 * demonstrations
        head = [token for piece in fitted.pieces[:first] for token in piece.ids]
        rest = [*fitted.pieces[first:-1], Piece(learned, True)]
        starts = accumulate((len(piece.ids) for piece in rest), initial=0)
        unlearned = [
            at
            for start, piece in zip(starts, rest, strict=False)
            if not piece.is_answer
            for at in range(start, start + len(piece.ids))
        ]
        is_cut = len(learned) < len(answer)
        last = self.tokenizer.decode(learned, skip_special_tokens=True).strip() if is_cut else example.target
        texts = [last, *(words for speaker, words in fitted.example.history if speaker == ASSISTANT)]
        dropped = Fitted(example, whole).length - prompt.length
        return Features(
            input_ids=head,
            label=0,
            length=len(head) + max(0, dropped),
            target_ids=[token for piece in rest for token in piece.ids],
            prompt_ids=prompt.prompt if prompt.length > len(head) else (),
            target_length=len(answer),
            unlearned=unlearned,
            target_bytes=sum(len(text.encode()) for text in texts),
        )

    def _fit(self, example: Example, shown: list[Turn], pieces: list[Piece], room: int, answer: int = 0) -> Fitted:
        """Cuts all before the last answer to `room` tokens: the oldest turns first, then the end of the last question.

        `answer` is how many tokens of room a long answer takes, for the message.

        Raises:
            DataError: if even without these it is too long.
        """
        fitted = Fitted(example, pieces)
        if fitted.length > room and (shorter := _shortened(example)):
            # Bisected: to make the pieces of a long conversation takes long, and each has fewer tokens than the last.
            cut = cache(lambda number: Fitted(shorter[number], self.pieces(shorter[number], shown)))
            number = bisect_left(range(len(shorter)), True, key=lambda number: cut(number).length <= room)
            fitted = cut(min(number, len(shorter) - 1))
            example = fitted.example
        surplus = fitted.length - room
        while surplus > 0 and example.text:
            offsets = self.tokenizer(example.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            starts = [start for start, _ in offsets["offset_mapping"]]
            end = starts[-surplus] if surplus < len(starts) else 0
            example = replace(example, text=example.text[: min(end, len(example.text) - 1)])
            fitted = Fitted(example, self.pieces(example, shown))
            surplus = fitted.length - room
        if surplus > 0 and answer:
            raise DataError(
                f"{example.place}: the answer's {answer} tokens and the {fitted.length} of the conversation "
                f"without its last question are more than the {room + answer} that it has room for",
                hint="Set protocol.max_length or task.max_target_length to more, task.long_targets to cut, or shorten "
                "the answer.",
            )
        if surplus > 0:
            raise DataError(
                f"{example.place}: the conversation takes {fitted.length} tokens without its last question and "
                f"the turns before; there is room for {room}",
                hint="Set protocol.max_length to more, or shorten the system's message.",
            )
        return fitted

    def pieces(self, example: Example, shown: Sequence[Turn]) -> list[Piece]:
        """Returns the parts of a conversation: in turns what is read and what is answered, the last answer last."""
        system = [turn for turn in example.history[:1] if turn[0] == SYSTEM]
        turns = [*system, *shown, *example.history[len(system) :], (USER, example.text), (ASSISTANT, example.target)]
        messages = [{"role": speaker, "content": words} for speaker, words in turns]
        pieces: list[Piece] = []
        done = ""
        for number, (speaker, _) in enumerate(turns):
            if speaker != ASSISTANT:
                continue
            before = self._render(messages[:number], example, prompt=True)
            through = self._render(messages[: number + 1], example, prompt=False)
            if not before.startswith(done) or not through.startswith(before):
                raise DataError(
                    f"{example.place}: the model's chat template changes earlier turns when later ones follow, so what "
                    "is to be learned cannot be told apart",
                    hint="Set task.chat_template: plain.",
                )
            read, answer = before[len(done) :], through[len(before) :].rstrip()
            closed = any(answer.endswith(token) for token in self.specials)
            ids = self._tokenize(answer.removeprefix(" ") if self.adds_space else answer)
            ids = ids if closed else [*ids, self.tokenizer.eos_token_id]
            # What follows the end of a turn is read with the next.
            done = before + answer
            opening = [] if pieces else self.opening
            pieces += [Piece([*opening, *self._tokenize(read)], False), Piece(ids, True)]
        return pieces

    def _tokenize(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _render(self, messages: list[dict[str, str]], example: Example, *, prompt: bool) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, chat_template=self.jinja, tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # templates raise what they like
            raise DataError(
                f"{example.place}: the chat template refuses this conversation: {first_line(error, 200)}",
                hint="Set task.chat_template: plain, or correct the row.",
            ) from None
        return text


def turn_ends(tokenizer: Any, template: str) -> tuple[int, ...]:
    """Returns the tokens with which a template ends an answer, found in small conversations of its own.

    Raises:
        DataError: if the template refuses all of them.
    """
    encoder = TurnEncoder(tokenizer, template, prompt_room=0, whole_room=0, target_room=0, cut_targets=False)
    opening, exchange = ((SYSTEM, "a"),), ((USER, "a"), (ASSISTANT, "a"))
    ends: set[int] = set()
    refusal: DataError | None = None
    # Some templates refuse a system's turn, others ask for one, and some forget earlier turns.
    for history in ((), opening, exchange, (*opening, *exchange)):
        try:
            pieces = encoder.pieces(Example(text="a", target="a", index=0, place="a chat", history=history), ())
        except DataError as error:
            refusal = refusal or error
        else:
            ends |= {piece.ids[-1] for piece in pieces if piece.is_answer}
    if refusal is not None and not ends:
        raise refusal
    return tuple(sorted(ends))


def _shortened(example: Example) -> list[Example]:
    """Returns the conversation without its oldest turns up to the next question, up to the one after it, and so on."""
    system = 1 if example.history and example.history[0][0] == SYSTEM else 0
    turns = example.history[system:]
    ends = [i for i in range(1, len(turns)) if turns[i][0] == USER] + ([len(turns)] if turns else [])
    return [replace(example, history=(*example.history[:system], *turns[end:])) for end in ends]
