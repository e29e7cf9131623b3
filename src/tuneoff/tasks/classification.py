"""Text classification: one text, one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from tuneoff.errors import DataError, UnsupportedModel, did_you_mean
from tuneoff.interfaces import (
    Attached,
    Batch,
    ColumnRole,
    Example,
    Features,
    Finding,
    MeanMetric,
    PooledMetric,
    Prediction,
    Rows,
    Task,
    TaskOptions,
    TaskView,
)
from tuneoff.tasks._inputs import added_modules, is_causal, model_inputs, padded_left, shifted
from tuneoff.tasks._labels import note_labels
from tuneoff.tasks._likelihood import TEMPLATE, Likelihood
from tuneoff.tasks._metrics import class_counts, macro_f1, matthews_correlation, negative_log_likelihoods, right
from tuneoff.tasks._prompts import Template
from tuneoff.tasks._rows import choose_columns, require_cells, require_columns

if TYPE_CHECKING:
    import torch
    from torch import nn

TEXT_NAMES = ("text", "sentence", "content", "document", "article", "review", "body", "message", "question")
LABEL_NAMES = ("label", "labels", "category", "class", "target", "topic", "sentiment", "y")


class ClassificationOptions(TaskOptions):
    """Keys of `task` for classification."""

    text: str | None = Field(None, description="column that holds the text; guessed where obvious")
    label: str | None = Field(None, description="column that holds the class; guessed where obvious")
    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="names of the classes in order of their numbers; found in the data if unset"
    )
    scoring: Literal["head", "likelihood"] = Field(
        "head",
        description="'head': a fresh classification head; 'likelihood': the class whose words a causal language model "
        "finds likeliest after the prompt",
    )
    template: str | None = Field(
        None, description=f"for likelihood: the prompt, with {{text}} once; {TEMPLATE!r} if unset"
    )
    words: dict[str, str] | tuple[str, ...] | None = Field(
        None, description="for likelihood: each class's words, by name or in order; the class's name if unset"
    )

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        repeated = [label for label, count in Counter(labels or ()).items() if count > 1]
        if repeated:
            raise ValueError(f"{repeated[0]!r} stands twice")
        return labels

    @field_validator("template")
    @classmethod
    def _holds_the_text(cls, template: str | None) -> str | None:
        if template is not None and Template.parse(template).names != ["text"]:
            raise ValueError("it must hold {text} once and no other name in braces")
        return template

    @field_validator("words")
    @classmethod
    def _no_empty_words(cls, words: dict[str, str] | tuple[str, ...] | None) -> dict[str, str] | tuple[str, ...] | None:
        if not all(w.strip() for w in (words.values() if isinstance(words, dict) else words or ())):
            raise ValueError("a class's words are empty")
        return words

    @model_validator(mode="after")
    def _for_likelihood_alone(self) -> ClassificationOptions:
        for name in ("template", "words"):
            if self.scoring == "head" and getattr(self, name) is not None:
                raise ValueError(f"{name} is used by scoring: likelihood, not by a head")
        return self


class Classification(Task):
    """Text classification with a head on the first token (encoders) or the last real token (decoders), or by the
    likelihood of each class's words (decoders only; nothing is added to the model, so it needs no training)."""

    title = "Classification"
    summary = "One text, one class: accuracy, macro-F1, Matthews correlation, cross-entropy."
    roles = (ColumnRole("text", "text", TEXT_NAMES), ColumnRole("label", "class", LABEL_NAMES))
    metrics = (
        MeanMetric(name="accuracy", direction="higher", low=0, high=1, of_examples=right),
        PooledMetric(
            name="macro_f1",
            direction="higher",
            title="macro-F1",
            caution="macro-F1 comes out too low where a class has few test examples: by 1 to 1.5 points with five of "
            "them, by a third of a point with ten",
            low=0,
            high=1,
            terms=class_counts,
            of_sums=macro_f1,
            batched=True,
        ),
        PooledMetric(
            name="mcc",
            direction="higher",
            title="MCC",
            low=-1,
            high=1,
            terms=class_counts,
            of_sums=matthews_correlation,
            batched=True,
        ),
        MeanMetric(name="loss", direction="lower", unit="nats", low=0, of_examples=negative_log_likelihoods),
    )
    primary_metric = "accuracy"
    init_order = 10
    Options = ClassificationOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._labels: tuple[str, ...] = tuple(self.options.labels or ())
        self._spaced: dict[str, int] = {}
        self._findings: tuple[Finding, ...] = ()
        by_likelihood = self.options.scoring == "likelihood"
        self._likelihood = Likelihood(self.options.template or TEMPLATE, self.options.words) if by_likelihood else None

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def adds_head(self) -> bool:
        return self._likelihood is None

    # --- rows -> examples

    def columns(self, rows: Rows) -> dict[str, str]:
        return choose_columns(rows, self.options, self.roles)

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        require_cells(rows, columns, split, label="label", fractions=self.options.labels is not None)
        texts, labels = rows.columns[columns["text"]], rows.columns[columns["label"]]
        names = rows.class_names.get(columns["label"], ())
        self._spaced[split] = sum(isinstance(value, str) and value != value.strip() for value in labels)
        targets = [self._class_name(value, names, rows, i, columns["label"]) for i, value in enumerate(labels)]
        return [
            Example(text=str(text), target=name, index=i, place=rows.place(i))
            for i, (text, name) in enumerate(zip(texts, targets, strict=True))
        ]

    def _class_name(self, value: Any, class_names: Sequence[str], rows: Rows, index: int, column: str) -> str:
        """Returns the class's name, from a name or from a class number."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value).strip()
        labels = self.options.labels
        if labels and text in labels:
            return text
        names = labels or class_names
        if names and _is_number(text):
            if 0 <= int(text) < len(names):
                return str(names[int(text)])
            raise DataError(
                f"{rows.place(index)}: label {text} is not among the {len(names)} classes"
                + (" (hidden test labels are often -1)" if text == "-1" else ""),
                hint="Name a labelled split that has no other role; without task.data.validation or task.data.test, "
                "rows are cut off train.",
            )
        if labels:
            raise DataError(
                f"{rows.place(index)}: label {text!r} in column {column!r} is not in task.labels"
                f"{did_you_mean(text, labels)}",
                hint=f"task.labels: {', '.join(labels)}.",
            )
        return text

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        train = Counter(example.target for example in splits["train"])
        if len(train) < 2:
            label = next(iter(train), "")
            raise DataError(
                f"all {train[label]} training rows have the same label, {label!r}; there is nothing to learn",
                hint="Check that task.label names the right column.",
            )
        if not self.options.labels:
            if len(train) > 1000 or len(train) > 0.5 * len(splits["train"]) > 10:
                raise DataError(
                    f"the label column has {len(train)} different values in {len(splits['train'])} rows; "
                    "that looks like text or ids, not classes",
                    hint="Set task.label to the column that holds the class.",
                )
            self._labels = tuple(sorted(train, key=_sort_key))
        if self._likelihood is not None:
            self._likelihood.named(self.labels)
        for split, examples in splits.items():
            unseen = Counter(e.target for e in examples if e.target not in train)
            if split != "train" and unseen:
                name, count = unseen.most_common(1)[0]
                first = next(e for e in examples if e.target == name)
                raise DataError(
                    f"label {name!r} stands in {split} ({count} rows, first {first.place}) but never in train"
                    f"{did_you_mean(name, train)}"
                    + (f", as do {len(unseen) - 1} more labels" if len(unseen) > 1 else ""),
                    hint="A class without training rows cannot be learned: correct the label or remove the rows.",
                )

        counts = Counter(example.target for examples in splits.values() for example in examples)
        self._findings = note_labels(counts, sum(self._spaced.values()))

    def findings(self) -> tuple[Finding, ...]:
        return self._findings

    def stratum(self, example: Example) -> str:
        return example.target

    # --- the model

    def view(self, model: nn.Module) -> TaskView:
        if self._likelihood is not None:
            return self._likelihood.view(model)
        return TaskView(head=added_modules(model), peft_task_type="SEQ_CLS")

    def model_class(self, config: Any) -> Any:
        if self._likelihood is not None:
            return self._likelihood.model_class(config)
        import transformers as hf

        if type(config) not in hf.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            hint = is_causal(config) and "Set task.scoring: likelihood, which needs no head, or use another model."
            raise UnsupportedModel(
                f"transformers has no {config.model_type} model with a classification head",
                hint=hint or "Use another model (BERT, RoBERTa, Llama, T5, BART, …).",
            )
        return hf.AutoModelForSequenceClassification

    def model_arguments(self) -> dict[str, Any]:
        if self._likelihood is not None:
            return {}
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {label: i for i, label in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    # --- examples -> tensors -> predictions

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        if self._likelihood is not None:
            return self._likelihood.encode(examples, self.labels, tokenizer, max_length, demonstrations)
        if not examples:
            return []
        special = tokenizer.num_special_tokens_to_add()
        if max_length <= special:
            raise DataError(
                f"protocol.max_length {max_length} leaves no room for text: {special} special tokens are added",
                hint=f"Set protocol.max_length to {special + 1} or more.",
            )
        number = {label: i for i, label in enumerate(self.labels)}
        encoded = tokenizer([e.text for e in examples], truncation=True, max_length=max_length)
        filler = [tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0]
        features = []
        for example, ids, encoding in zip(examples, encoded["input_ids"], encoded.encodings, strict=True):
            cut = sum(len(rest.ids) - special for rest in encoding.overflowing)
            features.append(Features(list(ids) or filler, number[example.target], len(ids) + cut))
        return features

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        import torch

        longest = max(len(f.input_ids) for f in features)
        ids = torch.full((len(features), longest), pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(features), longest), dtype=torch.long)
        for row, feature in enumerate(features):
            ids[row, : len(feature.input_ids)] = torch.tensor(feature.input_ids)
            mask[row, : len(feature.input_ids)] = 1
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([f.label for f in features])}

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes logits of shape (batch, classes); with likelihood, the log-likelihoods of the classes' words.

        A decoder's class is read at the last token that the attention mask holds real, never found by token
        id: padding may stand on either side and may be the end-of-text token.
        """
        import torch

        if self._likelihood is not None:
            return self._likelihood.forward(attached, batch)

        model: Any = attached.model
        ids, mask = batch["input_ids"], batch["attention_mask"]
        decoder = getattr(model, "score", None) is not None
        if decoder:
            # Real tokens first, so that positions, local attention and a soft prompt see no gap.
            order = mask.argsort(dim=-1, descending=True, stable=True)
            ids, mask = ids.gather(-1, order), mask.gather(-1, order)
        inputs = model_inputs(attached, ids, mask)
        if model.config.is_encoder_decoder:
            return _encoder_decoder_logits(model, ids, mask, inputs)
        if not decoder:
            # Some read the class at the last position, whatever stands there.
            last = getattr(model.config, "summary_type", None) == "last"
            logits: torch.Tensor = model(**(padded_left(inputs) if last else inputs)).logits
            return logits
        hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
        last_token = mask.sum(-1) - 1 + hidden.shape[1] - mask.shape[1]
        scored: torch.Tensor = model.score(hidden[torch.arange(len(hidden), device=hidden.device), last_token])
        return scored

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits.float(), batch["labels"], reduction="sum")

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        scores = logits.float().log_softmax(-1).cpu()
        best = scores.argmax(-1).tolist()
        return [
            Prediction(
                index=example.index,
                target=example.target,
                output=self.labels[chosen],
                scores=tuple(round(value, 6) for value in row),
            )
            for example, chosen, row in zip(examples, best, scores.tolist(), strict=True)
        ]

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        if self._likelihood is not None:
            return self._likelihood.plain_code(self.labels, tokenizer, max_length)
        # As in `forward`: the last token is the last, whatever its number.
        decoder = getattr(model, "score", None) is not None
        return [
            *(["model.config.pad_token_id = None  # one text at a time has no padding", ""] if decoder else []),
            "",
            "def scores(text):",
            f'    read = tokenizer(text, truncation=True, max_length={max_length}, return_tensors="pt")',
            "    read = read.to(model.device)",
            '    logits = model(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits',
            "    shares = logits[0].float().softmax(-1).tolist()",
            "    return {model.config.id2label[i]: share for i, share in enumerate(shares)}",
            "",
            "",
            "def predict(text):",
            "    found = scores(text)",
            "    return max(found, key=found.get)",
        ]


def _encoder_decoder_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Computes an encoder-decoder's logits, shape (batch, classes), at the decoder position of the last end token.

    As transformers' own forward pass gives them, which takes no virtual tokens and no text with an end token inside.
    """
    import torch

    (head,) = added_modules(model)
    hidden = model.base_model(**inputs, decoder_input_ids=shifted(model, ids, mask), use_cache=False).last_hidden_state
    column = torch.arange(ids.shape[1], device=ids.device)
    ends = torch.isin(ids, torch.tensor(model.config.eos_token_id, device=ids.device)) & mask.bool()
    last = torch.where(ends.any(-1), (column * ends).amax(-1), mask.sum(-1) - 1)
    logits: torch.Tensor = model.get_submodule(head)(hidden[torch.arange(len(hidden), device=hidden.device), last])
    return logits


def _sort_key(label: str) -> tuple[int, int, str]:
    """Returns a sort key: numbers by size first, then names in alphabetical order."""
    return (0, int(label), "") if _is_number(label) else (1, 0, label)


def _is_number(label: str) -> bool:
    # Unlike str.isdigit, only what int() takes: "²" and "--5" are names.
    return label.removeprefix("-").isdecimal()


plugin = Classification
