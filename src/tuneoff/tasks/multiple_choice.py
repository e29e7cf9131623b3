"""Multiple choice: a question or the beginning of a text, and options of the row's own, one of which is right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuneoff.errors import DataError, did_you_mean, listed
from tuneoff.interfaces import (
    Attached,
    Batch,
    ColumnRole,
    Example,
    Features,
    Finding,
    MeanMetric,
    Outputs,
    Prediction,
    Rows,
    TaskView,
    is_missing,
    letter_of,
)
from tuneoff.tasks._cells import lower_names
from tuneoff.tasks._choice_options import MultipleChoiceOptions
from tuneoff.tasks._choice_scores import (
    ChoiceHead,
    ChoiceLikelihood,
    chosen_by,
    collate_choices,
    log_shares,
)
from tuneoff.tasks._choices import CHOICES_NAMES, RowOptions, choices_column, name_options, option_columns, read_answers
from tuneoff.tasks._choices import read_options as options_of
from tuneoff.tasks._labels import kept_text
from tuneoff.tasks._metrics import right
from tuneoff.tasks._prompts import Template
from tuneoff.tasks._rows import choose_column, require_cells, require_columns, require_filled, require_unicode
from tuneoff.tasks._text_head import SequenceHead

if TYPE_CHECKING:
    import torch
    from torch import nn

QUESTION_NAMES = (
    *("question.stem", "question", "question_stem", "stem", "ctx", "startphrase", "query", "goal", "premise"),
    *("sentence", "prompt", "text", "context", "passage"),
)
CONTEXT_NAMES = ("context", "article", "passage", "support", "story", "premise")
ANSWER_NAMES = (
    *("answer", "answerkey", "answer_key", "label", "gold", "correct", "correct_answer", "answer_idx", "answer_index"),
    *("correct_option", "cop", "target", "y"),
)
QUESTION, CONTINUED = "Question: {question}\nAnswer: ", "{question} "
"""The prompts where none is given: of questions, and of texts that an option goes on with."""
LETTERED = "{question}\n{choices}\nAnswer: "
"""The prompt where letters are scored."""


def _recorded(name: str, title: str) -> MeanMetric:
    return MeanMetric(name=name, direction="higher", title=title, low=0, high=1)


def target_losses(outputs: Outputs) -> list[float] | None:
    """Returns the nats of each example's right option among its own; None where an example has no probabilities."""
    if not all(outputs.scores):
        return None
    numbers = {letter_of(number): number for number in range(max(map(len, outputs.scores)))}
    return [-scores[numbers[target]] for scores, target in zip(outputs.scores, outputs.targets, strict=True)]


class MultipleChoice(SequenceHead):
    """One of a row's own options, by the likelihood that a causal language model gives each after the prompt, or by a
    head that reads each with the question.

    Both are trained by the cross-entropy of the softmax over the row's options. A likelihood per byte or token is
    multiplied by the mean size of the row's options, so that probabilities have the scale of whole options.
    """

    title = "Multiple choice"
    summary = "A question and its own options, one right: accuracy, also by other lengths' rules, cross-entropy."
    roles = (
        ColumnRole("question", guesses=QUESTION_NAMES),
        ColumnRole("context", guesses=CONTEXT_NAMES, optional=True),
        ColumnRole("choices", guesses=CHOICES_NAMES),
        ColumnRole("answer", guesses=ANSWER_NAMES),
    )
    metrics = (
        MeanMetric(name="accuracy", direction="higher", low=0, high=1, of_examples=right),
        _recorded("accuracy_sum", "accuracy by sums"),
        _recorded("accuracy_byte", "accuracy per byte"),
        MeanMetric(name="loss", direction="lower", unit="nats", low=0, of_examples=target_losses),
    )
    primary_metric = "accuracy"
    init_order = 3
    produces = "choice"
    way_out = "Set task.scoring: likelihood, which needs no head, or use another model."
    Options = MultipleChoiceOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._reading: str = self.options.answer_is
        self._template: str | None = self.options.template
        self._most = 0
        """The most options of any row that was encoded."""
        self._counts: Counter[int] = Counter()
        self._repeated = 0

    @property
    def fitted(self) -> bool:
        return True  # one output, whatever the rows

    @property
    def fitted_options(self) -> dict[str, float | str]:
        template = {"template": self._template} if self._template is not None and not self.adds_head else {}
        return {"answer_is": self._reading, **template}

    @property
    def adds_head(self) -> bool:
        return bool(self.options.scoring == "head")

    @property
    def placeholder_target(self) -> str:
        return "\0"  # which no file of text holds

    @classmethod
    def starter_options(cls, target_tokens: int) -> dict[str, Any]:
        return {"scoring": "likelihood", "normalise": "byte"}

    # --- rows -> examples

    def columns(self, rows: Rows) -> dict[str, str]:
        """Returns role -> column; the first of several columns of options stands for all."""
        options = self.options
        columns = {"question": choose_column(rows, "question", options.question, QUESTION_NAMES)}
        context = options.context or self.columns_by_name(rows).get("context")
        if context is not None:
            columns["context"] = choose_column(rows, "context", context, ())
        several = options.choices if isinstance(options.choices, tuple) else ()
        for column in several:
            choose_column(rows, "choices", column, ())
        first = several[0] if several else options.choices or self._guessed_choices(rows)
        columns["choices"] = choose_column(rows, "choices", first, ())
        columns["answer"] = choose_column(rows, "answer", options.answer, ANSWER_NAMES)
        return {**columns, **self._template_columns(rows, columns)}

    def columns_by_name(self, rows: Rows) -> dict[str, str]:
        """Returns the column of contexts, where one is called so, is not the question, and none is named; none where a
        template shows no context."""
        if not self.options.shows("context"):
            return {}
        lower = lower_names(rows)
        asked = self.options.question or next((lower[name] for name in QUESTION_NAMES if name in lower), None)
        names = [name for name in CONTEXT_NAMES if name in lower and lower[name] != asked]
        return {"context": lower[names[0]]} if names and self.options.context is None else {}

    def _guessed_choices(self, rows: Rows) -> str | None:
        column = choices_column(rows)
        return column if column is not None else next(iter(option_columns(rows)), None)

    def _template_columns(self, rows: Rows, columns: Mapping[str, str]) -> dict[str, str]:
        """Returns the further columns that a template names."""
        others = {}
        for name in Template.parse(self.options.template or "").names:
            if name in ("question", "context", "choices"):
                if name == "context" and name not in columns:
                    raise DataError("task.template holds {context}, and no column is one", hint="Set task.context.")
            elif name == columns["answer"]:
                raise DataError(f"task.template shows {name!r}, the column of the answers")
            elif name in rows.columns:
                others[name] = name
            else:
                raise DataError(
                    f"task.template names {name!r}, which {rows.origin} does not have"
                    f"{did_you_mean(name, rows.columns)}",
                    hint=f"Its columns: {listed(rows.columns)}.",
                )
        return others

    def columns_read(self, columns: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """Returns also the second of several columns of options: every row has two, and may lack more."""
        several = self.options.choices if isinstance(self.options.choices, tuple) else ()
        return (*super().columns_read(columns), *(("choices", column) for column in several[1:2]))

    def recognise(self, rows: Rows) -> dict[str, Any]:
        try:
            columns = self.columns(rows)
            several = self._several(rows, columns["choices"])
            if not several:
                return {**columns}
            options = self._options(rows, columns["choices"])
        except DataError:
            return {}
        # Columns of texts may be called so and hold something else.
        is_named = name_options(rows.columns[columns["answer"]], options)
        return {**columns, "choices": several} if is_named else {}

    def _several(self, rows: Rows, first: str) -> tuple[str, ...]:
        """Returns the columns of which each holds an option; empty where one holds them all."""
        if isinstance(self.options.choices, tuple):
            return self.options.choices if first in self.options.choices else ()
        guessed = option_columns(rows)
        return guessed if first in guessed[:1] and self.options.choices is None else ()

    def _options(self, rows: Rows, column: str) -> list[RowOptions]:
        several = self._several(rows, column)
        cells = [[rows.columns[name][i] for name in several] for i in range(len(rows))] if several else None
        return [_row_options(rows, column, i, cells[i] if cells else None) for i in range(len(rows))]

    def examples(self, rows: Rows, columns: Mapping[str, str], split: str) -> list[Example]:
        require_columns(rows, columns, split)
        several = self._several(rows, columns["choices"])
        require_columns(rows, {f"choices {name}": name for name in several}, split)
        texts = {role: column for role, column in columns.items() if role not in ("choices", "answer")}
        require_cells(rows, texts, split)
        require_filled(rows, {"choices": columns["choices"], "answer": columns["answer"]}, split)
        options = self._options(rows, columns["choices"])
        answers = rows.columns[columns["answer"]]
        if all(answer == self.placeholder_target for answer in answers):
            numbers = [0] * len(answers)
        else:
            numbers, self._reading = read_answers(rows, columns["answer"], options, self._reading)
        source = "context" if "context" in texts else "question"
        examples = []
        for i, (own, number) in enumerate(zip(options, numbers, strict=True)):
            self._count(own, number, rows.place(i))
            fields = {role: str(rows.columns[column][i]).strip() for role, column in texts.items() if role != source}
            text = str(rows.columns[texts[source]][i]).strip()
            examples.append(Example(text, letter_of(number), i, rows.place(i), fields, choices=own.texts))
        self._settle_template(examples, source)
        return require_unicode(examples)

    def _count(self, options: RowOptions, number: int, place: str) -> None:
        """Counts a row's options for the findings.

        Raises:
            DataError: if the right option stands there twice.
        """
        self._counts[len(options.texts)] += 1
        if len(set(options.texts)) == len(options.texts):
            return
        if options.texts.count(options.texts[number]) > 1:
            raise DataError(
                f"{place}: the right option, {options.texts[number][:60]!r}, stands twice among the options",
                hint="Correct the row or remove it: no model could tell the two apart.",
            )
        self._repeated += 1

    def _settle_template(self, examples: Sequence[Example], source: str) -> None:
        """Chooses the prompt by the first rows that are read, where none is given."""
        if self._template is not None:
            return
        questions = [example.text if source == "question" else example.fields["question"] for example in examples]
        if self.options.scored == "letter":
            plain = LETTERED
        else:
            plain = (
                QUESTION if 2 * sum(text.endswith(("?", "？")) for text in questions) > len(questions) else CONTINUED
            )
        self._template = "{context}\n" + plain if source == "context" else plain

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        """Fits nothing: how answers are read and which prompt is used is settled by the first rows that are read."""

    def findings(self) -> tuple[Finding, ...]:
        sizes = ", ".join(f"{rows} with {count}" for count, rows in sorted(self._counts.items()))
        kind = {"number_from_1": "numbers from 1", "number": "numbers from 0"}.get(self._reading, f"{self._reading}s")
        message = f"answers are read as {kind} (task.answer_is); rows by options: {sizes}"
        found = [Finding(name="answers", message=message)] if self.options.answer_is == "auto" else []
        if self._repeated:
            message = f"{self._repeated} rows have two options that are the same, none of them the right one"
            found.append(Finding(name="repeated_options", message=message))
        return tuple(found)

    # --- the model

    @property
    def _scores(self) -> ChoiceLikelihood | ChoiceHead:
        template = Template.parse(self._template or CONTINUED)
        if self.adds_head:
            return ChoiceHead()
        return ChoiceLikelihood(template, self.options.normalise, letters=self.options.scored == "letter")

    def view(self, model: nn.Module) -> TaskView:
        return super().view(model) if self.adds_head else ChoiceLikelihood.view(model)

    def model_class(self, config: Any) -> Any:
        return super().model_class(config) if self.adds_head else ChoiceLikelihood.model_class(config)

    def model_arguments(self) -> dict[str, Any]:
        return {"num_labels": 1, "problem_type": "regression"} if self.adds_head else {}

    # --- examples -> tensors -> predictions

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: Any,
        max_length: int,
        demonstrations: Sequence[Example] = (),
    ) -> list[Features]:
        self._most = max(self._most, *(len(example.choices) for example in examples), 0)
        return self._scores.encode(examples, tokenizer, max_length, demonstrations)

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        return collate_choices(features, pad_token_id)

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes a score for each option, shape (batch, the most options of any row); 0 where a row has fewer."""
        if self.adds_head:
            scores = super().forward(attached, batch)[:, 0].float()
        else:
            scores = ChoiceLikelihood.scores(attached, batch)
        example, option = batch["places"].unbind(-1)
        logits: torch.Tensor = scores.new_zeros(len(batch["labels"]), self._most)
        return logits.index_put((example, option), scores)

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        chosen: torch.Tensor = log_shares(logits, batch).gather(-1, batch["labels"][:, None])
        return -chosen.sum()

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        shares = log_shares(logits, batch).cpu()
        rules = (
            {} if self.adds_head else {f"accuracy_{rule}": chosen_by(logits, batch, rule) for rule in ("sum", "byte")}
        )
        predictions = []
        for i, example in enumerate(examples):
            scores = shares[i, : len(example.choices)]
            output = letter_of(int(scores.argmax()))
            predictions.append(
                Prediction(
                    index=example.index,
                    target=example.target,
                    output=output,
                    scores=tuple(round(score, 6) for score in scores.tolist()),
                    values={name: float(letter_of(chosen[i]) == example.target) for name, chosen in rules.items()},
                    source=kept_text(example, output),
                )
            )
        return predictions

    def describe(self, prediction: Prediction, example: Example) -> dict[str, Any]:
        shares = {letter_of(number): math.exp(score) for number, score in enumerate(prediction.scores)}
        texts = {letter_of(number): text for number, text in enumerate(example.choices)}
        return {"choice": texts[prediction.output], "probability": shares[prediction.output], "scores": shares}

    def plain_code(self, model: nn.Module, tokenizer: Any, columns: Mapping[str, str], max_length: int) -> list[str]:
        others = [role for role in columns if role not in ("question", "choices", "answer")]
        return self._scores.plain_code(model, tokenizer, others, max_length)


def _row_options(rows: Rows, column: str, index: int, cells: Sequence[Any] | None) -> RowOptions:
    """Returns a row's options.

    Args:
        rows, column, index: where they stand.
        cells: of several columns, one an option each; the last may be empty.

    Raises:
        DataError: for fewer than two, or what is no text.
    """
    given: Any = rows.columns[column][index]
    if cells is not None:
        filled = [not is_missing(cell) for cell in cells]
        if filled != sorted(filled, reverse=True):
            raise DataError(
                f"{rows.place(index)}: option {letter_of(filled.index(False))} is empty, and a later one is not",
                hint="Leave the last ones empty where a row has fewer options.",
            )
        given = list(cells[: sum(filled)])
    options = options_of(given)
    if options is None:
        raise DataError(
            f"{rows.place(index)}: column {column!r} holds no two options but {str(given)[:60]!r}",
            hint="A row's options are a list of texts, an object with the lists text and label, or several columns "
            "(task.choices), none of them empty.",
        )
    return options


plugin = MultipleChoice
