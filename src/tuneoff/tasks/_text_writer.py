"""What tasks share that write a text: tokens and tensors, losses, generation, scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tuneoff.errors import CannotTrainTogether, DataError, UnsupportedModel
from tuneoff.interfaces import (
    Attached,
    Batch,
    Example,
    Features,
    Finding,
    MeanMetric,
    MetricDefinition,
    PooledMetric,
    Prediction,
    Task,
    TaskOptions,
    TaskView,
)
from tuneoff.tasks._inputs import is_causal, logits_at, model_inputs, output_layer
from tuneoff.tasks._metrics import bits_per_byte, nats_and_bytes, nats_and_tokens, nats_per_token, perplexity
from tuneoff.tasks._padding import padded, stacked
from tuneoff.tasks._prompts import read_back
from tuneoff.tasks._rouge import answer_scores, rouge
from tuneoff.tasks._words import cut_words, summary_words
from tuneoff.tasks._writing import Settings, generation_config, write

if TYPE_CHECKING:
    import torch
    from torch import nn

SOURCES_KEPT = 20
"""Number of examples of a split whose source is stored with the prediction, for the report."""

LOOKED_AT = 2000
"""Largest number of targets that `fit` inspects to decide how to score them."""
CUT_WORDS = 0.02
"""Share of words with Latin letters beyond a-z above which ROUGE does not split them: English has far fewer, German or
French more."""


class WritingOptions(TaskOptions):
    """Keys of `task` for every task that writes a text."""

    max_target_length: int = Field(128, ge=1, description="tokens that may be written, the end-of-text token included")
    min_target_length: int = Field(
        0, ge=0, description="tokens that are written at least before a text may end; 1: no text is empty"
    )
    long_targets: Literal["keep", "cut"] = Field(
        "keep",
        description="targets of more tokens than that are kept whole, at the cost of the source, or cut to learn from "
        "and to take the loss of; the text that scores compare with is always whole",
    )
    num_beams: int = Field(1, ge=1, description="beams of the search; 1 is greedy")
    length_penalty: float = Field(1.0, description="exponent of the length that a beam's score is divided by")
    no_repeat_ngram_size: int = Field(0, ge=0, description="no sequence of this many tokens is written twice; 0: off")

    @model_validator(mode="after")
    def _room_for_the_least(self) -> WritingOptions:
        if self.min_target_length >= self.max_target_length:
            raise ValueError(
                f"min_target_length {self.min_target_length} is not below max_target_length {self.max_target_length}, "
                "which holds the end-of-text token too"
            )
        return self


@dataclass(frozen=True)
class _Kind:
    """What the task must know of the model before a batch: whether it has an encoder, and its decoder's limits."""

    encoder_decoder: bool = False
    start_token_id: int = 0
    positions: int | None = None


def require_end(tokenizer: Any) -> None:
    """Refuses a tokenizer without an end-of-text token.

    Raises:
        UnsupportedModel: if it has none.
    """
    if tokenizer.eos_token_id is None:
        raise UnsupportedModel("the model's tokenizer has no end-of-text token, so nothing written would end")


def _score_of_text(name: str, title: str) -> MeanMetric:
    return MeanMetric(name=name, direction="higher", title=title, low=0, high=1, written=True)


class TextWriter(Task):
    """A task whose model writes a text: a causal language model, which goes on with the prompt, or an encoder-decoder,
    whose encoder reads the prompt and whose decoder writes. Losses are those of the tokens to write."""

    metrics: ClassVar[tuple[MetricDefinition, ...]] = (
        _score_of_text("rouge_l", "ROUGE-L"),
        _score_of_text("rouge_1", "ROUGE-1"),
        _score_of_text("rouge_2", "ROUGE-2"),
        _score_of_text("rouge_lsum", "ROUGE-Lsum"),
        _score_of_text("exact_match", "exact match"),
        _score_of_text("token_f1", "token F1"),
        PooledMetric(
            name="loss",
            direction="lower",
            unit="nats",
            low=0,
            per_token=True,
            terms=nats_and_tokens,
            of_sums=nats_per_token,
        ),
        PooledMetric(
            name="perplexity",
            direction="lower",
            unit="perplexity",
            low=1,
            per_token=True,
            terms=nats_and_tokens,
            of_sums=perplexity,
        ),
        PooledMetric(
            name="bits_per_byte",
            direction="lower",
            unit="bits",
            title="bits per byte",
            low=0,
            terms=nats_and_bytes,
            of_sums=bits_per_byte,
        ),
    )
    primary_metric = "rouge_l"
    selection_metric = "loss"
    produces = "text"
    sources_kept = SOURCES_KEPT
    Options: ClassVar[type[WritingOptions]] = WritingOptions

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__(options)
        self._kind = _Kind()
        self._stop: str | None = None
        """What ends a text besides the end-of-text token."""
        self._whole_words = False
        self._unseen = self._single = self._looked_at = 0

    @property
    def fitted(self) -> bool:
        return True

    def fit(self, splits: Mapping[str, Sequence[Example]]) -> None:
        """Decides how ROUGE splits the targets into words, and counts targets without a word that it sees."""
        examples = splits.get("test", splits["train"])
        targets = [example.target for example in examples[:: math.ceil(len(examples) / LOOKED_AT)]]
        counts = [cut_words(target) for target in targets]
        self._whole_words = sum(cut for cut, _ in counts) > CUT_WORDS * sum(words for _, words in counts)
        sizes = [len(summary_words(target, whole=self._whole_words)) for target in targets]
        self._unseen, self._single = sizes.count(0), sizes.count(1)
        self._looked_at = len(targets)

    @property
    def tested_metric(self) -> str:
        """Returns token F1, which reads any character, where ROUGE sees no word in most targets."""
        sees_none = 2 * self._unseen > self._looked_at and self.options.primary_metric is None
        return "token_f1" if sees_none else self.main_metric

    def findings(self) -> tuple[Finding, ...]:
        findings = []
        if self._whole_words:
            message = (
                "many words of the targets hold letters beyond a-z (ä, é, …), so ROUGE takes such words whole; the "
                "package rouge-score, which cuts them there, gives other figures"
            )
            findings.append(Finding(name="whole_words", message=message))
        if self._unseen:
            message = (
                f"ROUGE sees no word in {self._unseen} of {self._looked_at} targets (symbols alone) and is 0 for them"
            )
            if self.tested_metric != self.main_metric:
                message += f", so methods are compared by {self.tested_metric}"
            findings.append(Finding(name="unseen_targets", message=message))
        if 2 * self._single > self._looked_at:
            message = f"{self._single} of {self._looked_at} targets are of one word, for which rouge_2 is always 0"
            findings.append(Finding(name="single_words", message=message))
        return tuple(findings)

    # --- the model

    def view(self, model: nn.Module) -> TaskView:
        any_model: Any = model
        if getattr(any_model, "_is_stateful", False):
            raise UnsupportedModel(
                f"{type(model).__name__} keeps a running state instead of keys and values, which padding would change"
            )
        peft_task_type = "SEQ_2_SEQ_LM" if any_model.config.is_encoder_decoder else "CAUSAL_LM"
        return TaskView(head=(), peft_task_type=peft_task_type, output=output_layer(model))

    def model_class(self, config: Any) -> Any:
        """Returns the auto class; also stores whether there is an encoder and how many positions the decoder has."""
        import transformers as hf

        start = (getattr(config, f"{name}_token_id", None) for name in ("decoder_start", "bos", "pad"))
        limit = getattr(config, "max_position_embeddings", None)
        kind = _Kind(bool(config.is_encoder_decoder), next((t for t in start if t is not None), 0), limit)
        if kind.encoder_decoder and type(config) in hf.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
            self._kind = kind
            return hf.AutoModelForSeq2SeqLM
        if not is_causal(config):
            raise UnsupportedModel(
                f"a {config.model_type} model cannot write text",
                hint="Use a causal language model (GPT-2, GPT-Neo, Llama, Gemma, …) or an encoder-decoder (T5, BART).",
            )
        self._kind = kind
        return hf.AutoModelForCausalLM

    def model_arguments(self) -> dict[str, Any]:
        return {}

    @property
    def target_room(self) -> int:
        room: int = self.options.max_target_length
        return room

    def positions(self, max_length: int) -> int:
        """Returns prompt and target together for a causal model, the longer of the two for an encoder-decoder."""
        room = self.target_room
        return max(max_length, room) if self._kind.encoder_decoder else max_length + room

    def check_features(self, attached: Attached, examples: Sequence[Example], features: Sequence[Features]) -> None:
        """Checks that each target and the method's prefix fit the decoder's positions.

        Raises:
            DataError: naming the row with the longest target, where that is too long.
        """
        limit = self._kind.positions
        if not self._kind.encoder_decoder or attached.prefix is None or limit is None or not features:
            return
        lengths = ((len(own.target_ids), example.place) for own, example in zip(features, examples, strict=True))
        length, place = max(lengths, key=lambda length_and_place: length_and_place[0])
        if length + attached.virtual_tokens > limit:
            raise DataError(
                f"{place}: the target's {length} tokens and the prefix's {attached.virtual_tokens} are more than the "
                f"{limit} positions of the model's decoder",
                hint="Shorten it, remove the row, set task.long_targets to cut, or give the method a shorter prefix.",
            )

    # --- tokens -> tensors -> predictions

    def collate(self, features: Sequence[Features], pad_token_id: int) -> Batch:
        """Pads token ids on the right.

        Besides ids and masks: `predicts`, row and column of each position that predicts a target token, shape
        (loss terms, 2); `targets`, those tokens one example after the other, shape (loss terms,); `target_tokens`, how
        many each example has, shape (batch,); and `target_bytes`, their bytes, where these are counted.
        """
        import torch

        targets = [list(f.target_ids) for f in features]
        # A position reads one token and predicts the next, so the last token is read by none.
        if self._kind.encoder_decoder:
            ids, mask = padded([f.input_ids for f in features], pad_token_id)
            decoder_ids, decoder_mask = padded([[self._kind.start_token_id, *t[:-1]] for t in targets], pad_token_id)
            first = [0] * len(features)
            decoder = {"decoder_input_ids": decoder_ids, "decoder_attention_mask": decoder_mask}
        else:
            ids, mask = padded([[*f.input_ids, *t[:-1]] for f, t in zip(features, targets, strict=True)], pad_token_id)
            first = [len(f.input_ids) - 1 for f in features]
            decoder = {}
        learned = [_learned(f) for f in features]
        places = [(row, first[row] + at) for row, own in enumerate(learned) for at in own]
        counted = all(f.target_bytes for f in features)
        return {
            "input_ids": ids,
            "attention_mask": mask,
            **decoder,
            "predicts": torch.tensor(places, dtype=torch.long).view(-1, 2),
            "targets": torch.tensor([t[at] for t, own in zip(targets, learned, strict=True) for at in own]).long(),
            "target_tokens": torch.tensor([len(own) for own in learned]),
            **({"target_bytes": torch.tensor([f.target_bytes for f in features])} if counted else {}),
        }

    def stack(self, parts: Sequence[Sequence[Features]], pad_token_id: int) -> Batch:
        """Pads also the target tokens of each batch to the most of any; `is_target` tells which are none, shape
        (batches, loss terms)."""
        if self._kind.encoder_decoder:
            raise CannotTrainTogether("inputs and targets are padded apart")
        batches = [self.collate(part, pad_token_id) for part in parts]
        return stacked(batches, pad_token_id, places="predicts", numbers="targets", real="is_target")

    def loss_terms(self, features: Sequence[Features]) -> int:
        return sum(len(f.target_ids) - len(f.unlearned) for f in features)

    def forward(self, attached: Attached, batch: Batch) -> torch.Tensor:
        """Computes logits at target tokens only, shape (target tokens of the batch, vocabulary), example by example."""
        model: Any = attached.model
        inputs = model_inputs(attached, batch["input_ids"], batch["attention_mask"])
        ids = batch["input_ids"]
        if "decoder_input_ids" in batch:
            # Causal attention ignores the padding on the right; a mask would have to cover a prefix.
            ids = inputs["decoder_input_ids"] = batch["decoder_input_ids"]
        return self.logits_of(model, inputs, batch, ids.shape[1])

    @staticmethod
    def logits_of(model: Any, inputs: dict[str, Any], batch: Batch, length: int) -> torch.Tensor:
        """Computes the logits of such inputs where the batch predicts, counted in a sequence of `length`."""
        with logits_at(model, batch["predicts"], length):
            logits: torch.Tensor = model(**inputs, use_cache=False).logits[0]
        return logits

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        from tuneoff.tasks._loss import summed_cross_entropy

        if "is_target" in batch:
            losses = cross_entropy(logits.float(), batch["targets"], reduction="none")
            return (losses * batch["is_target"]).sum()
        return summed_cross_entropy(logits, batch["targets"])

    def outcome(self, logits: torch.Tensor, batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
        import torch
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(logits.float(), batch["targets"], reduction="none").double().cpu()
        counts = batch["target_tokens"].tolist()
        sizes = batch["target_bytes"].tolist() if "target_bytes" in batch else [None] * len(counts)
        return [
            Prediction(
                index=example.index,
                target=example.target,
                output="",
                loss=float(part.sum()),
                target_tokens=count,
                target_bytes=size,
                source=example.input_text if example.index < self.sources_kept else "",
            )
            for example, part, count, size in zip(examples, torch.split(losses, counts), counts, sizes, strict=True)
        ]

    def generate(
        self, attached: Attached, features: Sequence[Features], tokenizer: Any, limit: int | None = None
    ) -> list[list[int]]:
        settings = self._settings(min(self.target_room, limit or self.target_room), tokenizer)
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        ids, mask = padded([f.prompt_ids or f.input_ids for f in features], pad)
        return write(attached, ids, mask, settings, tokenizer)

    def end_ids(self, tokenizer: Any) -> tuple[int, ...]:
        """Returns tokens that end a text besides the end-of-text token."""
        return ()

    def _settings(self, room: int, tokenizer: Any) -> Settings:
        options: WritingOptions = self.options
        return Settings(
            max_new_tokens=room,
            min_new_tokens=min(options.min_target_length, room),
            num_beams=options.num_beams,
            length_penalty=options.length_penalty,
            no_repeat_ngram_size=options.no_repeat_ngram_size,
            start_token_id=self._kind.start_token_id,
            stop=self._stop,
            end_ids=self.end_ids(tokenizer),
        )

    def generation_config(self, model: nn.Module, tokenizer: Any) -> Any:
        return generation_config(model, self._settings(self.target_room, tokenizer), tokenizer)

    def answer(self, prediction: Prediction, example: Example, written: str, tokens: int) -> Prediction:
        output = written.strip()
        if self._stop is not None:
            # A token may hold more than the line ends that stopped the writing.
            output = output.partition(self._stop)[0].rstrip()
        return prediction.model_copy(
            update={
                "output": output,
                "generated_tokens": tokens,
                "values": {
                    **rouge(example.target, output, whole=self._whole_words),
                    **answer_scores(example.target, output),
                },
            }
        )

    def references(self, examples: Sequence[Example], tokenizer: Any) -> list[str]:
        return read_back([example.target for example in examples], tokenizer, self._kind.encoder_decoder)


def _learned(features: Features) -> list[int]:
    """Returns the places in an example's target of the tokens that are learned."""
    unlearned = set(features.unlearned)
    return [at for at in range(len(features.target_ids)) if at not in unlearned]
