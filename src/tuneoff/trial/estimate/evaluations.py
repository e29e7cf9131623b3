"""How long the evaluations of a trial will take: validation, test, single examples, and writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

from tuneoff.interfaces import Features
from tuneoff.trial.assembly import Assembled
from tuneoff.trial.data.batching import pads_targets_apart
from tuneoff.trial.estimate import real_steps
from tuneoff.trial.estimate.material import Material
from tuneoff.trial.estimate.real_steps import WritingTiming
from tuneoff.trial.estimate.schedule import Lengths, MicroBatch, evaluation_batches, writing_batches
from tuneoff.trial.estimate.step_cost import ModelStateBytes, Part, StepCost, rule_of_thumb
from tuneoff.trial.estimate.time_model import Curve, TimeModel
from tuneoff.trial.estimate.topology import Topology
from tuneoff.trial.modeling.load import load_config
from tuneoff.trial.retention.held import TokenizedSet
from tuneoff.trial.training.evaluate import WARM_UP, evenly, latency_budget, latency_examples

SINGLES = 3
"""Single examples that are run to measure the time of one."""


def _within(budget: float, costs: Iterable[float]) -> float:
    """Sums the first cost and as many more as the budget holds, as the timing of single examples does."""
    total = 0.0
    for cost in costs:
        if total and total + cost > budget:
            break
        total += cost
    return total


class Evaluations:
    """Seconds of a trial's evaluations.

    Args:
        material: what it works on.
        topology: how its batches are divided.
        times: seconds of steps, corrected by training where there was any.
        count: counts the forward pass of some examples, or a part of it.
        states: what the model holds.
        keeps_frozen: whether what frozen first blocks give is computed once and kept.
    """

    def __init__(
        self,
        material: Material,
        topology: Topology,
        times: TimeModel,
        count: Callable[[Sequence[Features], Part], StepCost],
        states: ModelStateBytes,
        keeps_frozen: bool,
    ) -> None:
        self._material, self._topology, self._times, self._states = material, topology, times, states
        self._keeps_frozen = keeps_frozen
        self._batches = {
            split: topology.longest_share(material.evaluation_batches(split, topology.device_type))
            for split in ("validation", "test")
        }
        all_batches = [(split, batch) for split, batches in self._batches.items() for batch in batches]
        by_size = sorted(all_batches, key=lambda pair: pair[1].padded_tokens)

        def counted(part: Part) -> dict[int, StepCost]:
            # The largest first: where only one is counted, the others are assumed to be in proportion to it.
            return {
                batch.padded_tokens: count(material.chosen(split, batch.rows), part)
                for split, batch in (by_size[-1], by_size[0])
            }

        def curve(costs: dict[int, StepCost]) -> Curve:
            return Curve([(padded_tokens, times.seconds(cost)) for padded_tokens, cost in costs.items()])

        costs = counted("all")
        self.largest = costs[by_size[-1][1].padded_tokens]
        if material.writes:
            prompts = count(material.chosen("test", material.writing_batches("test")[0].rows), "all")
            self.largest = max(self.largest, prompts, key=lambda cost: cost.activations)
        self._forward = self._rest = curve(costs)
        self._frozen: Callable[[int], float] = lambda padded_tokens: 0.0
        if keeps_frozen:
            self._rest, self._frozen = curve(counted("rest")), curve(counted("frozen"))
        middle = material.features["test"][len(material.features["test"]) // 2]
        self._single, self._calls = times.seconds(count([middle], "all")), self.largest.calls
        # Measured seconds by counted ones: of all of a pass, of the frozen blocks, and of the rest.
        self._whole = self._before = self._first = self._again = 1.0
        self._single_writing: WritingTiming | None = None
        self._batch_writing: WritingTiming | None = None

    def profile(self, trial: Assembled) -> list[MicroBatch]:
        """Runs a real batch, a few single examples and, where the task writes, a few tokens; returns the batches."""
        batch = self._middle_batch(self._batches["validation"])
        real_batch = real_steps.evaluate(trial, "validation", batch)
        counted_seconds, frozen_seconds = self._rest(batch.padded_tokens), self._frozen(batch.padded_tokens)
        self._first, self._again = real_batch.first_seconds / counted_seconds, real_batch.seconds / counted_seconds
        self._whole = (real_batch.frozen_seconds + real_batch.seconds) / (frozen_seconds + counted_seconds)
        if self._keeps_frozen:
            self._before = real_batch.frozen_seconds / frozen_seconds
        if not trial.runner.writes:
            self._single = real_steps.single(trial, evenly(self._material.features["test"], SINGLES))
            return [batch]
        prompts = self._middle_batch(self._material.writing_batches("validation"))
        features = self._material.chosen("validation", prompts.rows)
        self._single_writing = real_steps.write(trial, features[:1])
        self._batch_writing = real_steps.write(trial, features) if features[1:] else self._single_writing
        return [batch, prompts]

    def _middle_batch(self, batches: Sequence[MicroBatch]) -> MicroBatch:
        """Returns the batch of middle length, or as many of its examples as the budget of one batch allows."""
        batch = batches[len(batches) // 2]
        count = len(batch.rows)
        while count > 1 and self._forward(batch.padded_tokens) * count / len(batch.rows) > real_steps.OTHER_SECONDS:
            count //= 2
        return MicroBatch(batch.rows[:count], batch.padded_tokens // len(batch.rows) * count, batch.targets)

    def forward(self, padded_tokens: int) -> float:
        """Returns the seconds of a whole forward pass, frozen blocks included."""
        return self._whole * self._forward(padded_tokens)

    def frozen(self, split: str) -> float:
        """Returns the seconds in which the frozen first blocks are computed for a split, once; only where what they
        give is kept."""
        batches = self._material.evaluation_batches(split, self._topology.device_type)
        return self._before * sum(self._frozen(batch.padded_tokens) for batch in batches)

    def validation(self, times: int) -> float:
        """Returns the seconds of so many validations, without what is computed once; the first one prepares kernels for
        its shapes."""
        seconds = sum(self._rest(batch.padded_tokens) for batch in self._batches["validation"])
        total = seconds * (self._first + (times - 1) * self._again)
        task, protocol = self._material.task, self._material.spec.protocol
        if task.metric(task.selects(protocol.select_metric)).written:
            total += times * self._writing("validation")
        return total

    def test(self) -> float:
        """Returns the seconds of the test, without what is computed once."""
        seconds = self._first * sum(self._rest(batch.padded_tokens) for batch in self._batches["test"])
        return seconds + (self._writing("test") if self._material.writes else 0.0)

    def held(self) -> float:
        """Returns the seconds of scoring what the study holds, once."""
        return sum(self._held(one) for one in self._material.held)

    def _held(self, one: TokenizedSet) -> float:
        spec, task, features = self._material.spec, one.held.task, one.features
        lengths = Lengths(features, pads_targets_apart(task, features))
        size, device_type = one.held.batch_size(spec.protocol), self._topology.device_type
        batches = evaluation_batches(lengths, size, device_type)
        seconds = sum(self.forward(batch.padded_tokens) for batch in batches)
        if one.held.is_text:
            # Every token has logits, where in the study's own task a few have.
            tokens = sum(batch.targets for batch in batches)
            seconds += self._times.seconds(rule_of_thumb(self._output_weights(), tokens))
        if one.held.metric.written:
            prompts = [len(f.prompt_ids or f.input_ids) for f in features]
            room = task.target_room or 1
            seconds += sum(
                self._writing_seconds(len(batch.rows), batch.padded_tokens, room)
                for batch in writing_batches(lengths, size, prompts)
            )
        return seconds

    def _output_weights(self) -> int:
        """Returns the weights of the layer that turns hidden states into logits over the vocabulary."""
        config, _ = load_config(self._material.spec.model, offline=True)
        return int(config.hidden_size * config.vocab_size)

    def inference(self, before: float) -> float:
        """Returns the seconds of timing the trained model, in a trial that has taken so many seconds before; none
        where the trial does not time it."""
        if not self._material.spec.times_inference:
            return 0.0
        count = self._material.spec.execution.latency_examples
        timed_examples = latency_examples(self._material.features["test"], count) if count else []
        budget = latency_budget(before)
        if self._material.writes:
            return _within(
                budget, (self._writing_seconds(1, len(f.input_ids), self._steps([f])) for f in timed_examples)
            )
        singles = (
            _within(budget, repeat(self._single, len(timed_examples)))
            + min(WARM_UP, len(timed_examples)) * self._single
        )
        batch = evenly(self._material.features["test"], self._material.spec.protocol.evaluation_batch_size)
        return singles + 2 * self.forward(len(batch) * max(f.row_tokens for f in batch))

    def _steps(self, features: Sequence[Features]) -> int:
        """Returns the tokens written for a batch: a trained model is assumed to write as many as the targets hold, any
        other to go on to the limit."""
        room = self._material.task.target_room or 1
        return min(room, max(len(f.target_ids) for f in features)) if self._material.trains else room

    def _writing(self, split: str) -> float:
        batches = self._topology.longest_share(self._material.writing_batches(split))
        return sum(
            self._writing_seconds(
                len(batch.rows), batch.padded_tokens, self._steps(self._material.chosen(split, batch.rows))
            )
            for batch in batches
        )

    def _writing_seconds(self, examples: int, padded_tokens: int, steps: int) -> float:
        """Returns the seconds to write for a batch."""
        return self.forward(padded_tokens) + (steps - 1) * self._token(examples)

    def _token(self, examples: int) -> float:
        """Returns the seconds of one more token for so many examples."""
        if self._single_writing is None or self._batch_writing is None:
            # Every weight is read, and used once for each example.
            operations = 2 * self._states.parameters * examples
            return self._times.seconds(StepCost(0, operations, self._states.weights, self._calls))
        one, many = self._single_writing, self._batch_writing
        if many.examples == one.examples:
            return one.token_seconds * examples
        slope = max(0.0, many.token_seconds - one.token_seconds) / (many.examples - one.examples)
        return one.token_seconds + slope * (examples - one.examples)
