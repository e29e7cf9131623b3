"""Conversations as tokens in an export's card: the code that gives what `TurnEncoder` gives, without tuneoff."""

from __future__ import annotations

from tuneoff.tasks._turns import TurnEncoder


def turns_code(encoder: TurnEncoder) -> list[str]:
    """Returns Python lines that define `prompt`, of messages with `role` and `content` that end with the user's, equal
    to the prompt that the encoder makes; see `Task.plain_code`.

    Args:
        encoder: of the trial.
    """
    jinja, specials = encoder.jinja, sorted(encoder.specials)
    template = "" if jinja is None else ", chat_template=TEMPLATE"
    closed = f"answer.endswith(({', '.join(map(repr, specials))},))" if specials else "False"
    answer = 'answer.removeprefix(" ")' if encoder.adds_space else "answer"
    return [
        *([f"TEMPLATE = {jinja!r}"] if jinja is not None else []),
        "",
        "def render(messages, begun):",
        f"    return tokenizer.apply_chat_template(messages{template}, tokenize=False, add_generation_prompt=begun)",
        "",
        "",
        "def encode(text):",
        '    return tokenizer(text, add_special_tokens=False)["input_ids"]',
        "",
        "",
        "def tokens(messages):  # an answer is tokenized by itself, as in training",
        f'    ids, done = {encoder.opening!r}, ""',
        "    for i, message in enumerate(messages):",
        '        if message["role"] == "assistant":',
        "            before, through = render(messages[:i], True), render(messages[: i + 1], False)",
        "            answer = through[len(before) :].rstrip()",
        f"            ids = ids + encode(before[len(done) :]) + encode({answer})",
        f"            ids = ids if {closed} else ids + [tokenizer.eos_token_id]",
        "            done = before + answer",
        "    return ids + encode(render(messages, True)[len(done) :])",
        "",
        "",
        "def prompt(messages):",
        '    messages = [{**message, "content": message["content"].strip()} for message in messages]',
        '    first = 1 if messages[0]["role"] == "system" else 0',
        "    ids = tokens(messages)",
        f"    while len(ids) > {encoder.prompt_room}:  # the oldest turns go first",
        '        ends = [i for i in range(first + 1, len(messages)) if messages[i]["role"] == "user"]',
        "        if not ends:",
        "            break",
        "        messages = messages[:first] + messages[ends[0] :]",
        "        ids = tokens(messages)",
        f"    while len(ids) > {encoder.prompt_room} and messages[-1]['content']:  # then the end of the question",
        f'        text, surplus = messages[-1]["content"], len(ids) - {encoder.prompt_room}',
        "        starts = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)",
        '        starts = [start for start, _ in starts["offset_mapping"]]',
        "        end = starts[-surplus] if surplus < len(starts) else 0",
        '        messages[-1] = {**messages[-1], "content": text[: min(end, len(text) - 1)]}',
        "        ids = tokens(messages)",
        "    return ids",
        "",
    ]
