"""Chat: conversations of messages, whose answers are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from tuneoff.errors import DataError, listed
from tuneoff.interfaces import ColumnRole, Example, Finding, Rows, TaskOptions, has_lone_surrogate
from tuneoff.tasks._cells import UNSUPPORTED, chat_column, is_chat, speaker_keys
from tuneoff.tasks._conversation import Conversation, ConversationOptions
from tuneoff.tasks._literals import parse_literal
from tuneoff.tasks._rows import choose_column, require_cells, require_columns
from tuneoff.tasks._turns import ASSISTANT, SYSTEM, USER, Turn

MESSAGES_NAMES = ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns")
SPEAKERS = {"human": USER, "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT, "developer": SYSTEM}
"""Other names of speakers."""


class ChatColumns(TaskOptions):
    """Columns of chat."""

    messages: str | None = Field(None, description="column that holds the messages; guessed where obvious")
    answer: str | None = Field(
        None, description="column of the answer to write, where the messages end before it; else their last is it"
    )


class ChatOptions(ConversationOptions, ChatColumns):
    """Keys of `task` for chat. Those of the base named last come first where they are listed: the columns."""


class Chat(Conversation):
    """Conversations as lists of messages, each with a speaker (`role` or `from`) and words (`content` or `value`).

    The tokenizer's chat template makes the text. The loss is that of the assistant's turns alone, all of them; the last
    is written and scored. `protocol.max_length` is the room of all before it: what is too long loses its oldest turns,
    then the end of the last question.
    """

    title = "Chat"
    summary = "Conversations of messages, answers learned: ROUGE, exact match, token F1, cross-entropy, bits per byte."
    roles = (ColumnRole("messages", guesses=MESSAGES_NAMES), ColumnRole("answer", optional=True))
    init_order = 4
    Options: ClassVar[type[ChatOptions]] = ChatOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._trailing: dict[str, int] = {}

    def columns(self, rows: Rows) -> dict[str, str]:
        given = {role: name for role in ("messages", "answer") if (name := getattr(self.options, role)) is not None}
        named = {role: choose_column(rows, role, name, ()) for role, name in given.items()}
        if "messages" not in named:
            found = chat_column(rows)
            if found is None:
                raise DataError(
                    f"no column of {rows.origin} holds conversations (lists of messages)",
                    hint=f"Set task.messages to one of: {listed(rows.columns)}.",
                )
            named = {"messages": found, **named}
        return named

    def recognise(self, rows: Rows) -> dict[str, Any]:
        found = chat_column(rows)
        return dict(self.columns(rows)) if found is not None or self.options.messages is not None else {}

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        answers = None
        if "answer" in columns:
            require_cells(rows, {"answer": columns["answer"]}, split)
            answers = [str(cell).strip() for cell in rows.columns[columns["answer"]]]
        column = columns["messages"]
        chats = [_turns(cell, rows, i, column) for i, cell in enumerate(rows.columns[column])]
        self._trailing[split] = 0 if answers else sum(turns[-1][0] != ASSISTANT for turns in chats)
        return [self._example(turns, answers[i] if answers else None, rows, i) for i, turns in enumerate(chats)]

    def _example(self, turns: list[Turn], answer: str | None, rows: Rows, index: int) -> Example:
        last = max((i for i, (speaker, _) in enumerate(turns) if speaker == ASSISTANT), default=None)
        if answer is None:
            if last is None:
                raise DataError(
                    f"{rows.place(index)}: the conversation has no message of the assistant: there is nothing to learn",
                    hint="Remove such rows, or name a column of answers with task.answer.",
                )
            answer, turns = turns[last][1], turns[:last]
        elif turns and turns[-1][0] == ASSISTANT:
            turns = turns[:-1]
        if not turns or turns[-1][0] != USER:
            raise DataError(
                f"{rows.place(index)}: the last answer follows no message of the user",
                hint="Each answer follows a message of the user; system messages come first.",
            )
        return Example(
            text=turns[-1][1], target=answer, index=index, place=rows.place(index), history=tuple(turns[:-1])
        )

    def findings(self) -> tuple[Finding, ...]:
        counts = ", ".join(f"{count} of {split}" for split, count in self._trailing.items() if count)
        if not counts:
            return super().findings()
        message = f"conversations go on after the assistant's last message, and that end is left out: {counts}"
        return (*super().findings(), Finding(name="open_conversations", message=message))


def _turns(cell: Any, rows: Rows, index: int, column: str) -> list[Turn]:
    """Returns a conversation's turns.

    Raises:
        DataError: if it is none, or has what cannot be learned: tools, pictures, empty messages.
    """
    where = f"{rows.place(index)}: column {column!r}"
    cell = parse_literal(cell)
    if not is_chat(cell):
        raise DataError(
            f"{where} holds {'nothing' if cell is None else str(cell)[:60]!r}, not a list of messages",
            hint="Each message is an object with a speaker (role or from) and words (content or value).",
        )
    turns = []
    for message in cell:
        keys = speaker_keys(message)
        assert keys is not None  # it is a chat
        role, content = keys
        speaker = SPEAKERS.get(str(message[role]).lower(), str(message[role]).lower())
        if speaker not in (SYSTEM, USER, ASSISTANT) or message.get("tool_calls"):
            raise DataError(f"{where} holds a message of {speaker!r} or a call of a tool", hint=UNSUPPORTED)
        words = _words(message[content])
        if words is None:
            raise DataError(f"{where} holds a message with something else than text", hint=UNSUPPORTED)
        if not words.strip() or has_lone_surrogate(words):
            raise DataError(f"{where} holds a message of {speaker!r} that is empty or not valid Unicode")
        turns.append((speaker, words.strip()))
    return turns


def _words(content: Any) -> str | None:
    """Returns a message's text; None where it holds anything else. Some write it as a list of parts."""
    if isinstance(content, str):
        return content
    parts: Sequence[Any] = content if isinstance(content, Sequence) else ()
    texts = [part.get("text") for part in parts if isinstance(part, Mapping) and part.get("type") == "text"]
    is_text = bool(texts) and len(texts) == len(parts) and all(isinstance(text, str) for text in texts)
    return "\n".join(map(str, texts)) if is_text else None


plugin = Chat
