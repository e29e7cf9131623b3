"""What is held beside a study: texts and tasks that the base model can do before it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.config.protocol import Protocol
from tuneoff.config.retention import HeldSpec, RetentionSpec
from tuneoff.config.spec import TrialSpec
from tuneoff.errors import DataError, Problem, SourceError, StudyError, UnsupportedModel
from tuneoff.interfaces import Example, Features, Method, MetricDefinition, Rows, Task, is_missing
from tuneoff.records.record import SplitInfo
from tuneoff.sources import read_rows
from tuneoff.tasks._running_text import RunningText
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.data.commits import TEXT
from tuneoff.trial.data.draws import subset
from tuneoff.trial.data.lengths import check_length
from tuneoff.trial.exhaustion import loading
from tuneoff.trial.modeling import load as trial_model
from tuneoff.trial.modeling.vocabulary import check_tokens

FEWEST_ROWS = 2
"""Rows of what is held, at least: fewer tell nothing of how much rows differ."""
TEXT_BATCH = 8
"""Texts of a batch, at most: every token of them has logits over the whole vocabulary."""


@dataclass(frozen=True)
class HeldSet:
    """A text or a task that is held, with its rows.

    Attributes:
        label: its name in the study.
        task: scores it; fitted to its rows.
        examples: the rows that are scored.
        info: what the record says of them.
        commits: role (`text`, or those of the task's data) -> commit of the hub's data set that was read.
        max_length: tokens kept of an input.
        is_text: whether it is a text.
    """

    label: str
    task: Task
    examples: list[Example]
    info: SplitInfo
    commits: dict[str, str]
    max_length: int
    is_text: bool

    @property
    def metric(self) -> MetricDefinition:
        """Returns the definition of the metric that says how well it goes."""
        return self.task.metric(self.task.tested_metric)

    def batch_size(self, protocol: Protocol) -> int:
        """Returns how many of its rows go through the model at once, at most."""
        size = protocol.evaluation_batch_size
        return min(size, TEXT_BATCH) if self.is_text else size


@dataclass(frozen=True)
class TokenizedSet:
    """A set that is held, and its rows as tokens."""

    held: HeldSet
    features: list[Features]


def _load(label: str, held: HeldSpec, retention: RetentionSpec, protocol: Protocol) -> HeldSet:
    task, max_length = _make_task(held), retention.max_length or protocol.max_length
    with loading("what is held"), _naming(label):
        if held.task is not None:
            own_protocol = Protocol(seeds=(0,), data_seed=protocol.data_seed, test_rows=retention.rows)
            data = trial_data.load(task, held.task, own_protocol)
            examples, commits = data.splits["test"], data.info.commits
        else:
            assert held.text is not None
            rows = read_rows(registry.sources(), held.text, "test", task.named_columns)
            examples = _examples_of_text(task, rows, label, retention.rows, protocol.data_seed)
            commits = {TEXT: rows.commit} if rows.commit else {}
        if len(examples) < FEWEST_ROWS:
            raise DataError(
                "it has one row, of which no error can be told", hint=f"Hold something of {FEWEST_ROWS} rows or more."
            )
    info = trial_data.describe(task, examples)
    return HeldSet(label, task, examples, info, commits, max_length, is_text=held.task is None)


def _examples_of_text(task: Task, rows: Rows, label: str, limit: int, seed: int) -> list[Example]:
    """Returns the rows of a text as examples. Empty ones are left out: running text has blank lines."""
    columns = task.columns(rows)
    filled = [index for index, text in enumerate(rows.columns[columns["text"]]) if not is_missing(text)]
    rows = rows.only(filled) if 0 < len(filled) < len(rows) else rows
    examples = subset(task, task.examples(rows, columns, label), limit, seed)
    return [replace(example, index=index) for index, example in enumerate(examples)]


@contextmanager
def _naming(label: str) -> Iterator[None]:
    """Raises errors, while open, with the name of what is held and the keys that it has in the study."""
    try:
        yield
    except (DataError, SourceError, UnsupportedModel) as error:
        hint = error.hint.replace("task.text", f"retention.held.{label}.column")
        raise type(error)(f"retention, {label}: {error.message}", hint=hint) from error


def _make_task(held: HeldSpec) -> Task:
    return registry.create_task(held.task) if held.task is not None else RunningText({"text": held.column})


def tokenize_held(
    retention: RetentionSpec, protocol: Protocol, model: ModelSpec, tokenizer: Any, config: Any
) -> list[TokenizedSet]:
    """Reads and tokenizes all that is held. The rows are the same for every arm and seed: `data_seed` draws them.

    Args:
        retention, protocol: of the study.
        model: the base model.
        tokenizer, config: the base model's.

    Raises:
        SourceError, DataError, UnsupportedModel: if some cannot be read or used; names which.
    """
    return [
        _tokenize(_load(label, held, retention, protocol), model, tokenizer, config)
        for label, held in retention.held.items()
    ]


def _tokenize(held: HeldSet, model: ModelSpec, tokenizer: Any, config: Any) -> TokenizedSet:
    # A task that writes remembers here what the model is like.
    held.task.model_class(config)
    with _naming(held.label):
        features = held.task.encode(held.examples, tokenizer, held.max_length)
        check_tokens(features, tokenizer, config, model.source)
    return TokenizedSet(held, features)


def check_held(model: ModelSpec, study_task: Task, trials: Sequence[TrialSpec], *, reads: bool) -> None:
    """Checks that the base model can do what is held, and has room for it beside each method's virtual tokens; where it
    `reads`, that rows which can be had here can be used, too.

    Raises:
        StudyError: naming all that it cannot do.
        SourceError: if the model's configuration cannot be had.
    """
    holding = {trial.label: trial for trial in trials if trial.retention is not None}
    retention = next((trial.retention for trial in holding.values()), None)
    if retention is None:
        return
    problems: list[Problem] = []
    for label, held in retention.held.items():
        try:
            _check(model, _make_task(held), study_task, list(holding.values()))
        except (DataError, UnsupportedModel) as error:
            problems.append(Problem(f"retention.held.{label}", error.in_one_line))
            continue
        if not reads:
            continue
        try:
            _load(label, held, retention, next(iter(holding.values())).protocol)
        except DataError as error:
            problems.append(Problem("", error.in_one_line))
        except SourceError:
            continue  # what cannot be had here and now is told where it is needed
    if problems:
        raise StudyError(problems)


def _check(model: ModelSpec, task: Task, study_task: Task, trials: Sequence[TrialSpec]) -> None:
    empty_model: Any = trial_model.build_empty(model, task)[0]
    config = empty_model.config
    if config.is_encoder_decoder and task.model_class(config) is not study_task.model_class(config):
        raise UnsupportedModel(
            "an encoder-decoder with a head has lost the part that writes",
            hint="Use a causal language model, or leave it out.",
        )
    for trial in trials:
        assert trial.retention is not None
        method = registry.methods()[trial.method].create(trial.options)
        assert isinstance(method, Method)
        check_length(empty_model, task, trial.retention.max_length or trial.protocol.max_length, method, trial.label)
