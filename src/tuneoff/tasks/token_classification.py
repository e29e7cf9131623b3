"""Token classification: words of a text, a tag for each, such as those of named entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from tuneoff.errors import DataError, UnsupportedModel, did_you_mean, listed
from tuneoff.interfaces import (
    OUTSIDE,
    Attached,
    Batch,
    ColumnRole,
    Example,
    Features,
    Finding,
    PooledMetric,
    Prediction,
    Rows,
    Task,
    TaskOptions,
    TaskView,
    read_entities,
    split_tag,
    write_tags,
)
from tuneoff.tasks._cells import lower_names
from tuneoff.tasks._inputs import added_modules, is_causal, model_inputs
from tuneoff.tasks._labels import distinct, head_labels, kept_text
from tuneoff.tasks._metrics import macro_f1, micro_f1, precision, recall
from tuneoff.tasks._padding import padded, stacked
from tuneoff.tasks._rows import choose_columns, require_columns, require_filled, require_unicode
from tuneoff.tasks._tags import (
    SPACED_WORD,
    TaggedWords,
    entity_counts,
    holds_words,
    is_spaced,
    nats_and_words,
    nats_per_word,
    right_words,
    share,
    tagged,
    touching,
)
from tuneoff.tasks._two_texts import encode_texts
from tuneoff.tasks._words import WORD_PATTERN

if TYPE_CHECKING:
    import torch
    from torch import nn

WORD_NAMES = ("tokens", "words", "text", "sentence", "content")
TAG_NAMES = ("ner_tags", "tags", "ner", "entities", "spans", "labels", "pos_tags", "label", "ner_labels")


class TokenOptions(TaskOptions):
    """Keys of `task` for token classification."""

    text: str | None = Field(
        None, description="column that holds the words, as a list, or a text; guessed where obvious"
    )
    tags: str | None = Field(
        None,
        description="column that holds a tag for each word, as a list or with spaces between them; or a list of "
        "entities, each with start, end and label, counted in characters of a text or in words of a list",
    )
    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="the tags in order of their numbers; found in the data if unset"
    )
    split_words: Literal["auto", "spaces", "signs"] = Field(
        "auto",
        description="where a text is split into words that no list and no tags tell apart: at `spaces`, or so that "
        "`signs` such as commas are words, too; `auto`: at spaces where training rows hold a text and a tag for each "
        "word, else at signs",
    )

    _distinct = field_validator("labels")(distinct)


def _entity_metric(name: str, title: str, of_sums: Any) -> PooledMetric:
    return PooledMetric(
        name=name,
        direction="higher",
        title=title,
        low=0,
        high=1,
        terms=entity_counts,
        of_sums=of_sums,
        batched=True,
    )


class TokenClassification(Task):
    """A tag for each word by a head on its first token; in a decoder on its last, which alone has read the word."""

    title = "Token classification"
    summary = "A tag for each word, as of named entities: entity F1, precision, recall, accuracy of words."
    roles = (ColumnRole("text", "", WORD_NAMES), ColumnRole("tags", "", TAG_NAMES))
    metrics = (
        _entity_metric("entity_f1", "entity F1", micro_f1),
        _entity_metric("precision", "entity precision", precision),
        _entity_metric("recall", "entity recall", recall),
        _entity_metric("macro_entity_f1", "macro entity F1", macro_f1),
        PooledMetric(
            name="word_accuracy",
            direction="higher",
            title="accuracy of words",
            low=0,
            high=1,
            terms=right_words,
            of_sums=share,
        ),
        PooledMetric(name="loss", direction="lower", unit="nats", low=0, terms=nats_and_words, of_sums=nats_per_word),
    )
    primary_metric = "entity_f1"
    init_order = 4
    produces = "tags"
    Options = TokenOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._labels: dict[str, int] = {label: number for number, label in enumerate(self.options.labels or ())}
        self._widened = 0
        self._rows: Counter[str] = Counter()
        """Kind of entity -> training rows that have it, before test and validation rows are cut off them."""
        self._unlearned: list[str] = []
        self._split: str = self.options.split_words

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self._labels)

    @property
    def fitted_options(self) -> dict[str, float | str]:
        return {"split_words": self._split}

    @property
    def placeholder_target(self) -> str:
        return "[]"

    @property
    def tested_metric(self) -> str:
        """Returns the study's own, or the accuracy of words where tags tell of no entities, as parts of speech."""
        tells_none = bool(self._labels) and OUTSIDE not in self._labels and self.options.primary_metric is None
        return "word_accuracy" if tells_none else self.main_metric

    # --- rows -> examples

    def columns(self, rows: Rows) -> dict[str, str]:
        return choose_columns(rows, self.options, self.roles)

    def recognise(self, rows: Rows) -> dict[str, Any]:
        options = {"text": self.options.text, "tags": self.options.tags}
        given = {role: column for role, column in options.items() if column is not None}
        lower = lower_names(rows)
        for role in self.roles:
            if role.name not in given:
                own = (lower[name] for name in role.guesses if name in lower and lower[name] not in given.values())
                given[role.name] = next(own, "")
        if not given["text"] or not given["tags"]:
            return {}
        columns = choose_columns(rows, self.options.model_copy(update=given), self.roles)
        return dict(columns) if holds_words(rows.columns[columns["text"]], rows.columns[columns["tags"]]) else {}

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_filled(rows, columns, split)
        names = self.options.labels or rows.class_names.get(columns["tags"], ())
        texts, tags = rows.columns[columns["text"]], rows.columns[columns["tags"]]
        if self._split == "auto":
            self._split = "spaces" if any(map(is_spaced, texts, tags)) else "signs"
        examples = []
        for index, (text, own) in enumerate(zip(texts, tags, strict=True)):
            try:
                words = tagged(text, own, names, self._split == "spaces")
            except ValueError as error:
                raise DataError(
                    f"{rows.place(index)}: {error}",
                    hint="A row is a list of words and as many tags, or a text and a list of entities with start, end "
                    "and label.",
                ) from None
            self._widened += words.widened
            examples.append(_example(words, index, rows.place(index)))
        return require_unicode(examples)

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        if self.options.labels:
            self._refuse_unnamed(splits)
        train = Counter(tag for example in splits["train"] for tag in example.target.split())
        if len(train) < 2:
            raise DataError(
                f"all {sum(train.values())} words of the training rows have the same tag, {next(iter(train), '')!r}; "
                "there is nothing to learn",
                hint="Check that task.tags names the right column.",
            )
        kinds = {split_tag(tag)[1] for tag in train}
        for split, examples in splits.items():
            tags = ((tag, e) for e in examples for tag in e.target.split())
            unseen = [(tag, e) for tag, e in tags if split_tag(tag)[1] not in kinds]
            if unseen:
                tag, first = unseen[0]
                raise DataError(
                    f"tag {tag!r} stands in {split} ({len(unseen)} words of its kind and others, first {first.place}) "
                    f"but never in train{did_you_mean(tag, train)}",
                    hint="A tag without training rows cannot be learned: correct it or remove the rows.",
                )
        if not self.options.labels:
            everywhere = {tag for examples in splits.values() for e in examples for tag in e.target.split()}
            names = sorted(everywhere, key=lambda tag: (tag != OUTSIDE, split_tag(tag)[1], tag))
            self._labels = {label: number for number, label in enumerate(names)}
        self._rows = Counter(kind for example in splits["train"] for kind in _kinds(example))

    def _refuse_unnamed(self, splits: Mapping[str, Sequence[Example]]) -> None:
        for example in (example for examples in splits.values() for example in examples):
            tag = next((tag for tag in example.target.split() if tag not in self._labels), None)
            if tag is not None:
                raise DataError(
                    f"{example.place}: tag {tag!r} is not in task.labels{did_you_mean(tag, self._labels)}",
                    hint=f"task.labels: {listed(self._labels)}.",
                )

    def refit(self, train: Sequence[Example]) -> None:
        self._unlearned = [tag for tag, count in self.count_classes(train).items() if not count]

    def findings(self) -> tuple[Finding, ...]:
        found = []
        if self._widened:
            begin = "1 entity begins or ends" if self._widened == 1 else f"{self._widened} entities begin or end"
            message = f"{begin} within a word; such are widened to whole words"
            found.append(Finding(name="widened_entities", message=message))
        if self._unlearned:
            message = f"tags that no training row has, so that none can learn them: {listed(self._unlearned)}"
            found.append(Finding(name="unlearned_tags", message=message))
        return tuple(found)

    def stratum(self, example: Example) -> str:
        """Returns the row's rarest kind of entity, so that rare ones come into every split."""
        return min(_kinds(example), key=lambda kind: (self._rows[kind], kind), default="")

    def classes_of(self, example: Example) -> Iterable[str]:
        return set(example.target.split())

    # --- the model

    def view(self, model: nn.Module) -> TaskView:
        return TaskView(head=added_modules(model), peft_task_type="TOKEN_CLS")

    def model_class(self, config: Any) -> Any:
        import transformers as hf

        if config.is_encoder_decoder or type(config) not in hf.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING:
            raise UnsupportedModel(
                f"a {config.model_type} model cannot give each word a tag",
                hint="Use an encoder (BERT, RoBERTa, ModernBERT, …) or a decoder with such a head (GPT-2, Llama, …).",
            )
        return hf.AutoModelForTokenClassification

    def model_arguments(self) -> dict[str, Any]:
        return head_labels(self.labels)

    # --- examples -> tokens -> logits

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        if not examples:
            return []
        features = []
        for example, encoded in zip(examples, encode_texts(examples, tokenizer, max_length, offsets=True), strict=True):
            words: list[int] = []
            # Tokens that the tokenizer adds stand for no characters.
            tokens = [i for i, (first, last) in enumerate(encoded.offsets) if first < last]
            touched = touching([encoded.offsets[i] for i in tokens], example.words)
            for number, (own, tag) in enumerate(zip(touched, example.target.split(), strict=True)):
                if own:
                    # Rows to predict hold a tag that the model may not know.
                    words += [number, tokens[own[0]], tokens[own[-1]], self._labels.get(tag, 0)]
            features.append(Features(encoded.ids, 0, encoded.length, words=words))
        return features

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        """Pads token ids on the right.

        Besides ids and mask: `words`, row, number in its text, first and last token of each word, shape (words, 4);
        `labels`, their tags' numbers, shape (words,); `counts`, words of each example, shape (batch,).
        """
        import torch

        ids, mask = padded([f.input_ids for f in features], pad_token_id)
        parts = [torch.tensor(f.words, dtype=torch.long).view(-1, 4) for f in features]
        counts = torch.tensor([len(own) for own in parts])
        rows = torch.arange(len(features)).repeat_interleave(counts)
        words = torch.cat(parts)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "words": torch.cat([rows[:, None], words[:, :3]], dim=1),
            "labels": words[:, 3],
            "counts": counts,
        }

    def stack(self, parts: Sequence[Sequence[Features]], pad_token_id: int) -> Batch:
        """Pads also the words of each batch to the most of any; `is_word` tells which are none, shape
        (batches, loss terms)."""
        batches = [self.collate(part, pad_token_id) for part in parts]
        return stacked(batches, pad_token_id, places="words", numbers="labels", real="is_word")

    def loss_terms(self, features: Sequence[Features]) -> int:
        return sum(len(f.words) for f in features) // 4

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes logits of shape (words, tags), example by example."""
        model: Any = attached.model
        decoder = is_causal(model.config)
        inputs = model_inputs(attached, batch["input_ids"], batch["attention_mask"])
        logits = model(**inputs, **({"use_cache": False} if decoder else {})).logits
        row, _, first, last = batch["words"].unbind(-1)
        # Virtual tokens may stand before the text.
        place = (last if decoder else first) + (logits.shape[1] - batch["input_ids"].shape[1])
        picked: torch.Tensor = logits[row, place]
        return picked

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits.float(), batch["labels"], reduction="none")
        return (losses * batch["is_word"]).sum() if "is_word" in batch else losses.sum()

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        import torch
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits.float(), batch["labels"], reduction="none").double().cpu()
        best = logits.argmax(-1).cpu()
        counts = batch["counts"].tolist()
        places = batch["words"][:, 1].cpu()
        predictions = []
        parts = zip(examples, *(torch.split(tensor, counts) for tensor in (losses, best, places)), strict=True)
        for example, nats, numbers, own in parts:
            # Words beyond the longest input, and those that the tokenizer drops, get no tag.
            tags = [OUTSIDE] * len(example.words)
            for place, number in zip(own.tolist(), numbers.tolist(), strict=True):
                tags[place] = self.labels[number]
            output = write_tags(tags)
            predictions.append(
                Prediction(
                    index=example.index,
                    target=example.target,
                    output=output,
                    loss=float(nats.sum()),
                    target_tokens=len(own),
                    source=kept_text(example, output),
                )
            )
        return predictions

    def describe(self, prediction: Prediction, example: Example) -> dict[str, Any]:
        words = [example.text[start:end] for start, end in example.words]
        entities = [
            {
                "label": entity.kind,
                "start": example.words[entity.start][0],
                "end": example.words[entity.end - 1][1],
                "text": example.text[example.words[entity.start][0] : example.words[entity.end - 1][1]],
            }
            for entity in read_entities(prediction.output)
        ]
        return {"words": words, "entities": entities}

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        place = -1 if is_causal(model.config) else 0
        module, pattern = ("re", SPACED_WORD) if self._split == "spaces" else ("regex", WORD_PATTERN)
        return [
            f"import {module}" + ("  # which transformers needs, too" if module == "regex" else ""),
            "",
            "",
            "def predict(text):",
            '    """Returns a tag for each word of a list of words, or of a text, which is split first."""',
            "    if isinstance(text, str):",
            f"        words = [found.span() for found in {module}.finditer({pattern!r}, text)]",
            "    else:",
            "        ends = [sum(map(len, text[: i + 1])) + i for i in range(len(text))]",
            "        words = [(end - len(word), end) for end, word in zip(ends, text)]",
            '        text = " ".join(word.replace(" ", "\\u00a0") for word in text)',
            f'    read = tokenizer(text, truncation=True, max_length={max_length}, return_tensors="pt", '
            "return_offsets_mapping=True)",
            '    offsets = read.pop("offset_mapping")[0].tolist()',
            "    read = read.to(model.device)",
            '    logits = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits[0].float()',
            f"    tags = [{OUTSIDE!r}] * len(words)",
            "    for number, (start, end) in enumerate(words):",
            "        own = [i for i, (first, last) in enumerate(offsets) if first < end and last > start]",
            "        if own:",
            f"            tags[number] = model.config.id2label[int(logits[own[{place}]].argmax())]",
            "    return tags",
        ]


def _kinds(example: Example) -> set[str]:
    """Returns the kinds of the entities that a row has; words outside of any are of none."""
    return {kind for _, kind in map(split_tag, example.target.split())} - {""}


def _example(words: TaggedWords, index: int, place: str) -> Example:
    return Example(text=words.text, target=write_tags(words.tags), index=index, place=place, words=words.spans)


plugin = TokenClassification
