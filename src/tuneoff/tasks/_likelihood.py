"""Classification by the words for each class: the class is the one whose words a causal language model expects most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneoff.errors import DataError, did_you_mean
from tuneoff.interfaces import Attached, Batch, Example, Features, TaskView
from tuneoff.tasks._inputs import causal_class, logits_at, model_inputs, view_without_head
from tuneoff.tasks._prompts import Prompt, Template, plain_prompt, prompts, separator

if TYPE_CHECKING:
    import torch
    from torch import nn

TEMPLATE = "{text}\n\nLabel:"
PAIR_TEMPLATE = "{text}\n{text_pair}\n\nLabel:"
"""The prompt of a text and of a pair of texts, where none is given; they end alike."""


@dataclass(frozen=True)
class Words:
    """The classes' words as tokens, and where to read each token's likelihood.

    A token's likelihood is read after the prompt and the class's tokens before it. Tokens to be read into the model
    stand in `branches`; classes share a branch where one's tokens begin with the other's. Classes of a token each
    need no tokens read in: a single empty branch, one forward pass per example.

    Attributes:
        tokens: of each class, in order.
        branches: token sequences put after the prompt, none the beginning of another.
    """

    tokens: tuple[tuple[int, ...], ...]
    branches: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tokens: Sequence[Sequence[int]]) -> Words:
        """Finds the fewest branches that contain every token but each class's last."""
        prefixes = sorted({tuple(ids[:-1]) for ids in tokens}, key=lambda ids: (-len(ids), ids))
        branches: list[tuple[int, ...]] = []
        for ids in prefixes:
            if not any(branch[: len(ids)] == ids for branch in branches):
                branches.append(ids)
        return cls(tuple(tuple(ids) for ids in tokens), tuple(branches))

    @property
    def room(self) -> int:
        """Returns the largest number of tokens read after a prompt."""
        return max(len(branch) for branch in self.branches)

    def places(self) -> list[tuple[int, int, int]]:
        """Returns (class, place, token) of every token.

        An example's places are counted branch by branch, each from the prompt's last token on.
        """
        sizes = [len(branch) + 1 for branch in self.branches]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        places = []
        for number, words in enumerate(self.tokens):
            for at, token in enumerate(words):
                before = words[:at]
                branch = next(i for i, b in enumerate(self.branches) if b[:at] == before)
                places.append((number, starts[branch] + at, token))
        return places


class Likelihood:
    """What `task.scoring: likelihood` puts in place of a head.

    A class's score is the sum of its words' log-probabilities after the prompt. It isn't divided by their number:
    the sum is the probability that the model goes on with these words, and its loss, the cross-entropy over the
    classes' scores, trains away the advantage of short ones.

    Args:
        template: the prompt, which holds `{text}` once, and for pairs of texts `{text_pair}`; spaces or line breaks at
            its end go before the words. None: `TEMPLATE` or `PAIR_TEMPLATE`.
        words: class -> words, or one for each class in order; the class's own name where None.
    """

    def __init__(self, template: str | None, words: Mapping[str, str] | Sequence[str] | None) -> None:
        one, two = template or TEMPLATE, template or PAIR_TEMPLATE
        self.gap = one[len(one.rstrip()) :] or " "
        self.template, self.pair_template = (Template.parse(text.rstrip()) for text in (one, two))
        self.words = words
        self._tokens: Words | None = None

    def named(self, labels: Sequence[str]) -> list[str]:
        """Returns the words of each class.

        Raises:
            DataError: for words of a class that there isn't, a class without, or too many or few.
        """
        if self.words is None:
            return list(labels)
        if not isinstance(self.words, Mapping):
            if len(self.words) != len(labels):
                raise DataError(
                    f"task.words has {len(self.words)} entries for {len(labels)} classes",
                    hint=f"Give one for each, in this order: {', '.join(labels)}.",
                )
            return list(self.words)
        for name in self.words:
            if name not in labels:
                raise DataError(
                    f"task.words names the class {name!r}, which there isn't{did_you_mean(name, labels)}",
                    hint=f"The classes: {', '.join(labels)}.",
                )
        missing = [label for label in labels if label not in self.words]
        if missing:
            raise DataError(f"task.words has none for the class {missing[0]!r}", hint="Give words for every class.")
        return [self.words[label] for label in labels]

    def prompt_text(self, example: Example) -> str:
        """Returns an example's prompt as text, without what goes before the words."""
        before, after = self._around(example)
        return before + example.text + after

    def _around(self, example: Example) -> tuple[str, str]:
        template = self.pair_template if example.text_pair else self.template
        return template.around({"text_pair": example.text_pair})

    # --- the model

    def view(self, model: nn.Module) -> TaskView:
        """Returns a view without a head: the model's own output layer gives the scores."""
        return view_without_head(model)

    def model_class(self, config: Any) -> Any:
        """Returns the auto class of causal language models.

        Raises:
            UnsupportedModel: for an encoder or an encoder-decoder.
        """
        return causal_class(
            config,
            "tell how likely words are after a text",
            "Use a causal language model (GPT-2, GPT-Neo, Llama, Gemma, …), or task.scoring: head.",
        )

    # --- examples -> tokens

    def encode(
        self,
        examples: Sequence[Example],
        labels: Sequence[str],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example],
    ) -> list[Features]:
        """Encodes prompts of at most `max_length` tokens, including the words that are read after them.

        Raises:
            DataError: if there is no room for the prompt without its text, or two classes' words cannot be told apart.
        """
        words = self._tokens = self._tokenize_words(labels, tokenizer)
        number = {label: i for i, label in enumerate(labels)}
        room = max_length - words.room
        demonstration_ids = self._tokenize_demonstrations(demonstrations, words, number, tokenizer, max_length)
        features = []
        for example, prompt in zip(examples, self._tokenize_prompts(examples, tokenizer), strict=True):
            if room < max(prompt.instruction, 1):
                raise DataError(
                    f"protocol.max_length {max_length} leaves no room for text: the prompt takes {prompt.instruction} "
                    f"tokens without it, the classes' words up to {words.room}",
                    hint=f"Set protocol.max_length to {prompt.instruction + words.room + 1} or more.",
                )
            ids = prompt.behind(demonstration_ids, prompt.cut(room))
            features.append(Features(ids, number[example.target], len(demonstration_ids) + len(prompt.ids)))
        return features

    def _tokenize_prompts(self, examples: Sequence[Example], tokenizer: Any) -> Iterator[Prompt]:
        texts = []
        for example in examples:
            before, after = self._around(example)
            texts.append((before, example.text, after))
        return prompts(texts, tokenizer, closed=False)

    def _tokenize_demonstrations(
        self, examples: Sequence[Example], words: Words, number: Mapping[str, int], tokenizer: Any, max_length: int
    ) -> list[int]:
        """Tokenizes solved examples, a `separator` after each; each takes at most `max_length` tokens."""
        separator_ids = separator(tokenizer) if examples else []
        ids: list[int] = []
        for example, prompt in zip(examples, self._tokenize_prompts(examples, tokenizer), strict=True):
            solution = [*words.tokens[number[example.target]], *separator_ids]
            if max_length - len(solution) < prompt.instruction:
                raise DataError(
                    f"protocol.max_length {max_length} leaves no room for the text of an example to show",
                    hint=f"Set it to {prompt.instruction + len(solution) + 1} or more.",
                )
            ids += [*prompt.bare(prompt.cut(max_length - len(solution))), *solution]
        return ids

    def _tokenize_words(self, labels: Sequence[str], tokenizer: Any) -> Words:
        """Tokenizes the classes' words as they follow the prompt, from both tokenized together.

        Raises:
            DataError: if the prompt's end and the words share a token, or a class's words begin with another's.
        """
        literal, name = self.template.pieces[-1]
        prompt_end = (name is None and literal) or "."

        def tokenize(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

        before, tokens = tokenize(prompt_end), []
        for label, words in zip(labels, self.named(labels), strict=True):
            joined = tokenize(prompt_end + self.gap + words.strip())
            if joined[: len(before)] != before or len(joined) == len(before):
                raise DataError(
                    f"the end of task.template and the words {words!r} share a token", hint="End it with a colon."
                )
            tokens.append(joined[len(before) :])
            for other, earlier in zip(labels, tokens[:-1], strict=False):
                short = min(len(earlier), len(tokens[-1]))
                if earlier[:short] == tokens[-1][:short]:
                    raise DataError(
                        f"the words of the classes {other!r} and {label!r} begin alike to the end of the shorter, "
                        "whose likelihood is then never below the other's",
                        hint="Give the classes other words with task.words.",
                    )
        return Words.of(tokens)

    def plain_code(self, labels: Sequence[str], tokenizer: Any, pairs: bool, max_length: int) -> list[str]:
        """Returns Python lines that define `predict`, of a text or a pair of texts; see `Task.plain_code`."""
        template, others = (self.pair_template, ("text_pair",)) if pairs else (self.template, ())
        arguments, given = ("text, text_pair", "text, text_pair=text_pair") if pairs else ("text", "text")
        words = self._tokenize_words(labels, tokenizer)
        tokens_by_label = {label: list(tokens) for label, tokens in zip(labels, words.tokens, strict=True)}
        return [
            f"WORDS = {tokens_by_label!r}  # class -> its words as tokens",
            "",
            *plain_prompt(template, "text", others, tokenizer, max_length - words.room, closed=False),
            "",
            "def likelihood(ids, words):",
            "    read = torch.tensor([ids + words[:-1]], device=model.device)",
            "    logits = model(input_ids=read, attention_mask=torch.ones_like(read)).logits[0, -len(words) :].float()",
            "    return logits.log_softmax(-1)[range(len(words)), words].sum()",
            "",
            "",
            f"def scores({arguments}):",
            f"    found = torch.stack([likelihood(prompt({given}), words) for words in WORDS.values()])",
            "    return dict(zip(WORDS, found.softmax(-1).tolist()))",
            "",
            "",
            f"def predict({arguments}):",
            f"    found = scores({arguments})",
            "    return max(found, key=found.get)",
        ]

    # --- tokens -> scores

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes log-likelihoods of the classes' words, shape (batch, classes), in float32."""
        import torch

        assert self._tokens is not None, "encode comes before forward"
        words = self._tokens
        model: Any = attached.model
        ids, mask, positions = _append_branches(batch["input_ids"], batch["attention_mask"], words)
        with logits_at(model, positions, ids.shape[1]):
            logits = model(**model_inputs(attached, ids, mask), use_cache=False).logits[0]
        logits = logits.float().view(len(batch["input_ids"]), -1, logits.shape[-1])
        classes, places, tokens = torch.tensor(words.places(), device=logits.device).unbind(-1)
        likelihood = logits[:, places, tokens] - logits.logsumexp(-1)[:, places]
        scores: torch.Tensor = likelihood.new_zeros(len(logits), len(words.tokens))
        return scores.index_add(1, classes, likelihood)


def _append_branches(
    ids: torch.Tensor, mask: torch.Tensor, words: Words
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Repeats each prompt once per branch, with the branch's tokens right after its last real token.

    Returns:
        Token ids and mask of shape (batch * branches, length + room), and row and column of every place where logits
        are wanted, example by example and branch by branch, shape (places, 2).
    """
    import torch
    from torch.nn.functional import pad

    # Real tokens first, so that positions, local attention and virtual tokens see no gap.
    order = mask.argsort(dim=-1, descending=True, stable=True)
    count = len(words.branches)
    ids, mask = (pad(t.gather(-1, order), (0, words.room)).repeat_interleave(count, 0) for t in (ids, mask))
    prompt = mask.sum(-1, keepdim=True)
    sizes = torch.tensor([len(branch) for branch in words.branches], device=ids.device)
    size = sizes.repeat(len(ids) // count)[:, None]
    if words.room:
        longest = torch.tensor([[*b, *[0] * (words.room - len(b))] for b in words.branches], device=ids.device)
        at = prompt + torch.arange(words.room, device=ids.device)
        ids = ids.scatter(-1, at, longest.repeat(len(ids) // count, 1))
    place = torch.arange(ids.shape[-1], device=ids.device)
    mask = (place < prompt + size).to(mask.dtype)
    steps = [(branch, step) for branch, tokens in enumerate(words.branches) for step in range(len(tokens) + 1)]
    branch, step = torch.tensor(steps, device=ids.device).unbind(-1)
    first = torch.arange(0, len(ids), count, device=ids.device)
    rows = (first[:, None] + branch).flatten()
    columns = prompt[:, 0][rows] - 1 + step.repeat(len(first))
    return ids, mask, torch.stack([rows, columns], dim=-1)
