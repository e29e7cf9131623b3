"""Scores of a row's options: by the likelihood of each after the prompt, or by a head that reads each whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuneoff.errors import DataError
from tuneoff.interfaces import Attached, Batch, Choice, Example, Features, TaskView, letter_of
from tuneoff.tasks._inputs import causal_class, logits_at, model_inputs, view_without_head
from tuneoff.tasks._padding import padded
from tuneoff.tasks._prompts import Prompt, Template, plain_prompt, prompts, separator
from tuneoff.tasks._two_texts import encode_texts, logits_code

if TYPE_CHECKING:
    import torch
    from torch import nn


def lettered(choices: Sequence[str]) -> str:
    """Returns the options as a prompt shows them, each on a line after its letter."""
    return "\n".join(f"{letter_of(number)}. {choice}" for number, choice in enumerate(choices))


def target_number(example: Example) -> int:
    """Returns the number of an example's right option, from 0."""
    return [letter_of(number) for number in range(len(example.choices))].index(example.target)


@dataclass(frozen=True)
class ChoiceLikelihood:
    """Scores by a causal language model: the log-likelihood of each option after the prompt.

    Attributes:
        template: the prompt; the names in it are the text that may be cut, and fields of an example or `choices`.
        normalise: what a sum is divided by: `byte`, `token`, or `sum` for nothing.
        letters: whether the options' letters are scored, not their texts.
    """

    template: Template
    normalise: str
    letters: bool

    @staticmethod
    def view(model: nn.Module) -> TaskView:
        """Returns a view without a head: the model's own output layer gives the scores."""
        return view_without_head(model)

    @staticmethod
    def model_class(config: Any) -> Any:
        """Returns the auto class of causal language models.

        Raises:
            UnsupportedModel: for an encoder or an encoder-decoder.
        """
        return causal_class(
            config,
            "tell how likely an option is after a question",
            "Set task.scoring: head, or use a causal language model (GPT-2, SmolLM2, Llama, Gemma, …).",
        )

    # --- examples -> tokens

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, demonstrations: Sequence[Example]
    ) -> list[Features]:
        """Encodes prompts and options of at most `max_length` tokens together; only the prompt's text is cut.

        Raises:
            DataError: naming the first row whose options leave no room for the prompt.
        """
        shown = self._tokenize_demonstrations(demonstrations, tokenizer, max_length)
        features = []
        for example, prompt in zip(examples, self._tokenize_prompts(examples, tokenizer), strict=True):
            choices = self._tokenize_choices(example, tokenizer)
            # The last token of an option is predicted and not read.
            room = max_length - max(len(choice.ids) for choice in choices) + 1
            ids = _cut(prompt, room, example, max_length)
            features.append(
                Features(
                    input_ids=prompt.behind(shown, ids),
                    label=target_number(example),
                    length=len(shown) + len(prompt.ids),
                    choices=choices,
                )
            )
        return features

    def _tokenize_prompts(self, examples: Sequence[Example], tokenizer: Any) -> Iterator[Prompt]:
        texts = []
        for example in examples:
            before, after = self.template.around({**example.fields, "choices": lettered(example.choices)})
            texts.append((before, example.text, after))
        return prompts(texts, tokenizer, closed=False)

    def _tokenize_choices(self, example: Example, tokenizer: Any) -> list[Choice]:
        texts = [letter_of(number) for number in range(len(example.choices))] if self.letters else example.choices
        gap = self._gap(tokenizer)
        ids = tokenizer([gap + text for text in texts], add_special_tokens=False, verbose=False)["input_ids"]
        if not all(ids):
            raise DataError(
                f"{example.place}: the model's tokenizer makes no token of the option {texts[ids.index([])][:60]!r}",
                hint="Correct the row or remove it: nothing has no likelihood.",
            )
        return [
            Choice(
                ids=own,
                size={"byte": len(text.encode()), "token": len(own), "sum": 1}[self.normalise],
                text_bytes=len(text.encode()),
            )
            for text, own in zip(texts, ids, strict=True)
        ]

    def _gap(self, tokenizer: Any) -> str:
        """Returns what stands between the prompt and an option: the template's last spaces, or one where it ends with
        neither a space nor a line's end."""
        literal, name = self.template.pieces[-1]
        is_open = name is not None or not literal[-1:].isspace()
        if tokenizer.tokenize("a")[0].startswith("\u2581"):
            return ""  # This tokenizer puts a space before a text by itself.
        return self.template.spaces or (" " if is_open else "")

    def _tokenize_demonstrations(self, examples: Sequence[Example], tokenizer: Any, max_length: int) -> list[int]:
        """Tokenizes solved examples, a `separator` after each; each takes at most `max_length` tokens."""
        end = separator(tokenizer) if examples else []
        ids: list[int] = []
        for example, prompt in zip(examples, self._tokenize_prompts(examples, tokenizer), strict=True):
            solution = [*self._tokenize_choices(example, tokenizer)[target_number(example)].ids, *end]
            ids += [*prompt.bare(_cut(prompt, max_length - len(solution), example, max_length)), *solution]
        return ids

    # --- tokens -> scores

    @staticmethod
    def scores(attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes the score of each option of a batch, shape (options,), in float32."""
        from torch.nn.functional import cross_entropy

        model: Any = attached.model
        ids = batch["input_ids"]
        with logits_at(model, batch["predicts"], ids.shape[1]):
            logits = model(**model_inputs(attached, ids, batch["attention_mask"]), use_cache=False).logits[0]
        losses = cross_entropy(logits.float(), batch["targets"], reduction="none")
        sums: torch.Tensor = losses.new_zeros(len(ids)).index_add(0, batch["predicts"][:, 0], -losses)
        return sums * batch["weights"]

    def plain_code(self, model: nn.Module, tokenizer: Any, others: Sequence[str], max_length: int) -> list[str]:
        """Returns Python lines that define `predict` of a question and its options; see `Task.plain_code`."""
        source = "context" if "context" in others else "question"
        asked = ["question"] if source == "context" else []
        names = [*asked, "choices", *(name for name in others if name != source)]
        arguments = ["question", "choices", *(["context"] if source == "context" else [])]
        given = ", ".join([source, *(f"{name}={name}" for name in asked), "choices=shown", "room=room"])
        sizes = {"byte": "len(text.encode())", "token": "len(ids)", "sum": "1"}[self.normalise]
        scored = "letters(choices)" if self.letters else "[choice.strip() for choice in choices]"
        return [
            *plain_prompt(self.template, source, names, tokenizer, 'columns["room"]', closed=False),
            *_letters_code(),
            "",
            "def likelihood(ids, option):",
            "    read = torch.tensor([ids + option[:-1]], device=model.device)",
            "    logits = model(input_ids=read, attention_mask=torch.ones_like(read)).logits[0].float()",
            "    return logits[-len(option) :].log_softmax(-1)[range(len(option)), option].sum()",
            "",
            "",
            f"def scores({', '.join(arguments)}, **columns):",
            f"    texts = {scored}",
            f"    options = [tokenizer({self._gap(tokenizer)!r} + text, add_special_tokens=False)"
            '["input_ids"] for text in texts]',
            f"    sizes = [{sizes} for text, ids in zip(texts, options)]",
            f"    room = {max_length + 1} - max(map(len, options))",
            '    shown = "\\n".join(f"{a}. {choice.strip()}" for a, choice in zip(letters(choices), choices))',
            f"    ids = prompt({given}, **columns)",
            "    found = torch.stack([likelihood(ids, own) / size for own, size in zip(options, sizes)])",
            "    found = found * sum(sizes) / len(sizes)",
            "    return dict(zip(letters(choices), found.softmax(-1).tolist()))",
            *_predict_code(arguments),
        ]


def _cut(prompt: Prompt, room: int, example: Example, max_length: int) -> list[int]:
    """Cuts a prompt to `room` tokens.

    Raises:
        DataError: if that leaves out more than its text.
    """
    fixed = max(prompt.instruction, 1)
    if room < fixed:
        raise DataError(
            f"{example.place}: protocol.max_length {max_length} leaves no room for text: the prompt takes {fixed} "
            f"tokens without it, the longest option {max_length - room}",
            hint=f"Set protocol.max_length to {fixed + max_length - room + 1} or more.",
        )
    return prompt.cut(room)


class ChoiceHead:
    """Scores by a head with one output, which reads the question and an option as a pair of texts."""

    def encode(
        self, examples: Sequence[Example], tokenizer: Any, max_length: int, demonstrations: Sequence[Example]
    ) -> list[Features]:
        """Encodes each option with its question; of the two the longer loses its end where they are too long."""
        pairs = [
            replace(example, text=_question(example), text_pair=choice)
            for example in examples
            for choice in example.choices
        ]
        encoded = encode_texts(pairs, tokenizer, max_length) if pairs else iter(())
        features = []
        for example in examples:
            own = [next(encoded) for _ in example.choices]
            longest = max(own, key=lambda one: one.length)
            choices = [Choice(ids=one.ids, segments=one.segments, whole=True) for one in own]
            features.append(Features(longest.ids, target_number(example), longest.length, choices=choices))
        return features

    def plain_code(self, model: nn.Module, tokenizer: Any, others: Sequence[str], max_length: int) -> list[str]:
        """Returns Python lines that define `predict` of a question and its options; see `Task.plain_code`."""
        arguments = ["question", "choices", *(["context"] if "context" in others else [])]
        text = 'context + "\\n" + question' if "context" in others else "question"
        decoder = getattr(model, "score", None) is not None
        return [
            *(["model.config.pad_token_id = None  # one text at a time has no padding", ""] if decoder else []),
            *_letters_code(),
            "",
            "def score(text, text_pair):",
            *logits_code(model, tokenizer, True, max_length),
            "    return logits[0]",
            "",
            "",
            f"def scores({', '.join(arguments)}):",
            f"    found = torch.stack([score({text}, choice.strip()) for choice in choices])",
            "    return dict(zip(letters(choices), found.softmax(-1).tolist()))",
            *_predict_code(arguments),
        ]


def _question(example: Example) -> str:
    """Returns the text that an option is read with: a context comes before its question."""
    return "\n".join([example.text, *([example.fields["question"]] if "question" in example.fields else [])])


def _letters_code() -> list[str]:
    return [
        "",
        "def letters(choices):",
        '    return [(chr(64 + i // 26) if i >= 26 else "") + chr(65 + i % 26) for i in range(len(choices))]',
        "",
    ]


def _predict_code(arguments: Sequence[str]) -> list[str]:
    given = ", ".join([arguments[0], arguments[1], *(f"{name}={name}" for name in arguments[2:])])
    return [
        "",
        "",
        f"def predict({', '.join(arguments)}, **columns):",
        f"    found = scores({given}, **columns)",
        "    return max(found, key=found.get)",
    ]


# --- batches


def collate_choices(features: Sequence[Features], pad_token_id: int) -> Batch:
    """Pads the options of a batch, a row each.

    Returns:
        `input_ids` and `attention_mask`, shape (options, longest), `token_type_ids` where there are any; `places`, the
        example and the number of each option, shape (options, 2); `counts` and `labels`, options and right option of
        each example, shape (batch,); `sizes` and `bytes` of each option, 1 where there is none, shape
        (batch, most options). For likelihood also `predicts`, row and column of each position that predicts a token of
        an option, shape (tokens, 2); `targets`, those tokens, shape (tokens,); and `weights`, by which each option's
        sum is multiplied, shape (options,).
    """
    import torch

    flat = [(number, f, choice) for number, f in enumerate(features) for choice in f.choices]
    rows = [[*choice.ids] if choice.whole else [*f.input_ids, *choice.ids[:-1]] for _, f, choice in flat]
    ids, mask = padded(rows, pad_token_id)
    places = [(number, option) for number, f in enumerate(features) for option in range(len(f.choices))]
    most = max(len(f.choices) for f in features)

    def table(values: Sequence[Sequence[float]]) -> torch.Tensor:
        return torch.tensor([[*own, *[1.0] * (most - len(own))] for own in values])

    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "places": torch.tensor(places),
        "counts": torch.tensor([len(f.choices) for f in features]),
        "labels": torch.tensor([f.label for f in features]),
        "sizes": table([[choice.size for choice in f.choices] for f in features]),
        "bytes": table([[choice.text_bytes for choice in f.choices] for f in features]),
    }
    if any(choice.segments for _, _, choice in flat):
        segments = [choice.segments or [0] * len(choice.ids) for _, _, choice in flat]
        batch["token_type_ids"] = padded(segments, 0)[0]
    if not flat[0][2].whole:
        predicts = [
            (row, len(f.input_ids) - 1 + at) for row, (_, f, choice) in enumerate(flat) for at in range(len(choice.ids))
        ]
        batch["predicts"] = torch.tensor(predicts)
        batch["targets"] = torch.tensor([token for _, _, choice in flat for token in choice.ids])
        batch["weights"] = torch.tensor([_mean_size(f) / choice.size for _, f, choice in flat])
    return batch


def _mean_size(features: Features) -> float:
    return sum(choice.size for choice in features.choices) / len(features.choices)


def log_shares(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Returns log-probabilities of the options, shape (batch, most options); minus infinity where a row has fewer."""
    import torch

    is_there = torch.arange(logits.shape[1], device=logits.device) < batch["counts"][:, None]
    return logits.float().masked_fill(~is_there, -torch.inf).log_softmax(-1)


def chosen_by(logits: torch.Tensor, batch: Batch, rule: str) -> list[int]:
    """Returns the number of the option that each row's likelihoods give by another rule: `sum` or `byte`."""
    import torch

    width = batch["sizes"].shape[1]
    sums = logits[:, :width].float() * batch["sizes"]
    scores = sums / batch["bytes"] if rule == "byte" else sums
    is_there = torch.arange(width, device=logits.device) < batch["counts"][:, None]
    chosen: list[int] = scores.masked_fill(~is_there, -torch.inf).argmax(-1).tolist()
    return chosen
