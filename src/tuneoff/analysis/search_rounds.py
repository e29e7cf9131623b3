"""The search of one study: round after round, a trial of every arm in each, so that it is equal wherever it stops.
A pruned search has its rounds in every rung (see `halving.py`).

The only state is in the records: what a search found and what comes next is derived from them each time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress

from tuneoff import registry
from tuneoff.analysis.arm_search import ArmSearch, rules_of, space_data, why_hopeless
from tuneoff.config.search import SearchSpec
from tuneoff.config.spec import StudySpec, Suggestion, TrialSpec
from tuneoff.errors import CorruptRecord
from tuneoff.planning.plan import own_fingerprints, plan, search_protocol, search_studies, search_trial
from tuneoff.records.record import Status, TrialRecord
from tuneoff.search.halving import promoted, rungs
from tuneoff.search.sampling import SPREAD, rules, suggest
from tuneoff.search.space import LEARNING_RATE, Dimension, Outcome, Space, Values, first, grow, size, spaces
from tuneoff.search.stopping import STARTUP, bounds, is_stopped
from tuneoff.store import StudyStore


class Search:
    """Derives a study's search from the records in its folder: what it found, and which trials come next.

    Where ranges may grow, the search is one of all arms of the folder, those of earlier runs too: whether they grow
    depends on every arm, and must not depend on which arms a run was asked for.

    Args:
        study: a checked study; without `protocol.search` there is nothing to search.
        fingerprints: of its sources (see `plan`).
        store: its folder, whether it is there yet or not.

    Raises:
        StudyError: if its search is to be pruned and cannot be (see `halving.rungs`).
    """

    def __init__(self, study: StudySpec, fingerprints: Mapping[str, str], store: StudyStore) -> None:
        self.asked = frozenset(study.methods)
        self.study, self.fingerprints, self.store = _with_folder_arms(study, store), fingerprints, store
        self.spec = study.protocol.search or SearchSpec()
        self.rungs = rungs(study.protocol)
        self.metric, self.sign = selection_metric(study)
        self.arms: dict[str, ArmSearch] = {}
        self.complete = False

    def missing(self) -> list[TrialSpec]:
        """Returns the trials to run of the first round that lacks some; none where the search is over."""
        for trials in self.rounds():
            if missing := [trial for trial in trials if self.store.trial(trial.id).answer() is None]:
                return missing
        return []

    def other_rules(self) -> list[str]:
        """Returns the rules, other than the present ones, by which trials of the folder's search were suggested."""
        by_rules = dict.fromkeys(map(rules_of, filter(self._is_of_sources, self._folder_specs())))
        return [each for each in by_rules if each != rules(self.spec.sampler)]

    def _folder_specs(self) -> list[TrialSpec]:
        """Returns the trials that the folder's search has of these arms, in the order in which they were tried."""
        ids = self.store.search_ids() if self.store.is_there else []
        specs = [spec for spec in map(self._spec, ids) if spec is not None]
        return [spec for spec in specs if spec.label in self.study.methods and spec.seed == self.spec.seed]

    def _is_of_sources(self, spec: TrialSpec) -> bool:
        """Tells whether a search trial is of what the sources hold now, as far as they are its own."""
        arm = self.study.methods[spec.label]
        return (spec.fingerprints or {}) == own_fingerprints(self.study, arm, self.fingerprints, holds=False)

    def _over_by_other_rules(self) -> Search | None:
        """Returns the search as it is recorded, where other rules began it and it is over: what it chose counts."""
        if not self.other_rules():
            return None
        search = RecordedSearch(self.study, self.store, self.fingerprints)
        deque(search.rounds(), maxlen=0)
        return search if search.complete else None

    def study_of_trials(self) -> StudySpec:
        """Returns the study with the share of data and steps that its search gives to each trial."""
        return self.study.model_copy(update={"protocol": search_protocol(self.study)})

    def others(self) -> list[TrialSpec]:
        """Plans the final trials, with the chosen values, of arms that the folder has and this run was not asked
        for.

        Empty where the search is of this run's arms alone. A search that grew may choose otherwise for them than
        before; then these trials take the place of those that there are, and wait for a run of their arms.
        """
        labels = [label for label in self.study.methods if label not in self.asked]
        if not labels or not self.complete:
            return []
        planned = {(spec.label, spec.seed) for spec in map(self._spec, self.store.trial_ids()) if spec is not None}
        folder_study = self.store.study()
        rest_study = folder_study.model_copy(
            update={"methods": {label: folder_study.methods[label] for label in labels}}
        )
        trials = plan(rest_study, self.fingerprints, self.chosen)
        return [trial for trial in trials if (trial.label, trial.seed) in planned]

    def _spec(self, trial_id: str) -> TrialSpec | None:
        with suppress(CorruptRecord):
            return self.store.trial(trial_id).spec()
        return None

    @property
    def chosen(self) -> dict[str, Values]:
        """Maps each label to its best configuration.

        Empty while the search is not over; without arms of which no trial completed.
        """
        return {label: arm.choice for label, arm in self.arms.items() if self.complete and arm.choice is not None}

    @property
    def hopeless(self) -> dict[str, str]:
        """Maps each arm of which no trial completed to the reason; empty while the search is not over."""
        return {
            label: why_hopeless(arm.records) for label, arm in self.arms.items() if self.complete and arm.choice is None
        }

    @property
    def is_pruned(self) -> bool:
        """Tells whether some configurations get fewer steps than others."""
        return self.spec.prune != "none"

    def rounds(self, together: int = 1) -> Iterator[list[TrialSpec]]:
        """Yields the trials of each round, from the first on.

        The caller must run a round before it takes the next one. Ends early where trials have no outcome.

        Args:
            together: as many rounds are yielded as one, at most, where no suggestion depends on another's outcome.
        """
        self.complete = False
        if (over := self._over_by_other_rules()) is not None:
            self.arms, self.complete = over.arms, True
            return
        self.arms = {label: ArmSearch(space) for label, space in self._spaces().items()}
        for number, rung in enumerate(self.rungs):
            if not (yield from self._phase(rung.trials, number, together)):
                return
        if self.spec.grow and any(LEARNING_RATE in arm.at_edge for arm in self.arms.values()):
            for label, arm in self.arms.items():
                widened = self._widened(label, arm)
                arm.grown, arm.space = widened != arm.space, widened
            if not (yield from self._phase(math.ceil(self.spec.trials / 2), 0, together)):
                return
        self.complete = True

    def _spaces(self) -> dict[str, Space]:
        """Returns the space of each arm before it grows."""
        return spaces(self.study)

    def _widened(self, label: str, arm: ArmSearch) -> Space:
        return grow(arm.space, arm.history)

    def _phase(self, count: int, rung: int, together: int) -> Generator[list[TrialSpec], None, bool]:
        """Yields `count` rounds, and returns whether all their trials had outcomes.

        An arm is left out that has nothing left to try, or whose last trial has no outcome to continue from.
        """
        stopped: set[str] = set()
        promotions = {label: iter(promoted(arm.history, rung - 1, count)) for label, arm in self.arms.items()}
        while count > 0:
            rounds = min(count, together, self._independent_rounds(rung))
            tried = [
                (label, values, trial)
                for _ in range(rounds)
                for label, (values, trial) in self._choose(rung, promotions, stopped).items()
            ]
            for arm in self.arms.values():
                # What was tried without an outcome yet.
                del arm.history[len(arm.records) :]
            count -= rounds
            yield [trial for _, _, trial in tried]
            self._note_outcomes(tried, rung, stopped)
        return not stopped

    def _independent_rounds(self, rung: int) -> int:
        """Counts the rounds to come of which no suggestion depends on another's outcome."""
        tried = max(len(arm.history) for arm in self.arms.values())
        # A trial that may be stopped hangs on all before it.
        free = STARTUP - tried if self.spec.stop != "none" else self.spec.trials
        if rung or self.spec.sampler == "random":
            return max(1, free)
        return max(1, min(free, SPREAD - tried))

    def _choose(
        self, rung: int, promotions: Mapping[str, Iterator[Values]], stopped: set[str]
    ) -> dict[str, tuple[Values, TrialSpec]]:
        """Returns what each arm tries next; its history holds it, without an outcome. Arms that try nothing more are
        added to `stopped`."""
        configurations = {
            label: values
            for label in self.arms
            if label not in stopped
            and (values := next(promotions[label], None) if rung else self._suggestion(label)) is not None
        }
        chosen = {
            label: (values, trial)
            for label, values in configurations.items()
            if (trial := self._trial(label, values, self.rungs[rung].steps)) is not None
        }
        stopped |= configurations.keys() - chosen.keys()
        if not rung:
            remaining = {label for label, arm in self.arms.items() if len(arm.history) < size(arm.space)}
            stopped |= remaining - configurations.keys()
        for label, (values, _) in chosen.items():
            self.arms[label].history.append(Outcome(values, None, None, rung))
        return chosen

    def _note_outcomes(self, tried: Sequence[tuple[str, Values, TrialSpec]], rung: int, stopped: set[str]) -> None:
        """Adds the outcomes of trials to the histories of their arms, of each as far as there are any."""
        without = set()
        for label, values, trial in tried:
            record = self.store.trial(trial.id).intact_record()
            if label in without or record is None or record.status is Status.CANCELLED:
                without.add(label)
            else:
                self.arms[label].history.append(self._outcome(values, record, rung))
                self.arms[label].records.append(record)
        stopped |= without

    def _trial(self, label: str, values: Values, steps: int | None) -> TrialSpec | None:
        """Returns the trial that tries these values; None where it is not known."""
        arm, stopping = self.arms[label], None
        if self.spec.stop != "none":
            curves = [record.curve for record in arm.records if record.status is Status.COMPLETED]
            stopping = bounds(curves, self.metric, "higher" if self.sign > 0 else "lower")
        trial = search_trial(self.study, label, values, self.fingerprints, steps, stopping)
        suggestion = Suggestion(rules=rules(self.spec.sampler), space=space_data(arm.space))
        return trial.model_copy(update={"suggestion": suggestion})

    def _suggestion(self, label: str) -> Values | None:
        """Suggests what to try next; None where nothing is left, or nothing is known."""
        arm = self.arms[label]
        if len(arm.history) >= size(arm.space):
            return None
        return suggest(arm.space, arm.history, self.spec.seed, self.spec.sampler)

    def _outcome(self, values: Values, record: TrialRecord, rung: int) -> Outcome:
        score = record.metric(self.metric, "validation") if record.status is Status.COMPLETED else None
        loss = record.metric("loss", "validation")
        stopped = is_stopped(record.spec.stopping, record.curve)
        return Outcome(values, None if score is None else self.sign * score, loss, rung, stopped)


class RecordedSearch(Search):
    """A search read back from its records; it suggests nothing and runs nothing.

    Without fingerprints it is the last one: where the rows or the base model were changed, that counts.
    """

    def __init__(self, study: StudySpec, store: StudyStore, fingerprints: Mapping[str, str] | None = None) -> None:
        super().__init__(study, fingerprints or {}, store)
        specs = self._folder_specs()
        if fingerprints is None:
            # Of what several trials name, the last one's counts; each arm has its own start.
            self.fingerprints = {name: found for spec in specs for name, found in (spec.fingerprints or {}).items()}
        self._specs = [*filter(self._is_of_sources, specs)]
        if not self.is_pruned:
            # With more trials the searches of seeds share more steps; those of before are no part of them.
            steps = search_protocol(self.study).max_steps
            self._specs = [spec for spec in self._specs if spec.protocol.max_steps == steps]
        if not self.spec.grow:
            # A run lists the trials of its search at the end, in order. What is left before them is of one that was
            # longer, or that went on from other outcomes.
            listed = [self._tried(label, rung.steps)[-rung.trials :] for rung in self.rungs for label in study.methods]
            self._specs = [spec for specs in listed for spec in specs]

    def _over_by_other_rules(self) -> Search | None:
        return None

    def _spaces(self) -> dict[str, Space]:
        suggestions = {spec.label: spec.suggestion for spec in reversed(self._specs) if spec.suggestion is not None}
        return spaces(self.study) | {label: _space(suggestion) for label, suggestion in suggestions.items()}

    def _widened(self, label: str, arm: ArmSearch) -> Space:
        suggestions = [spec.suggestion for spec in self._tried(label, None) if spec.suggestion is not None]
        last = _space(suggestions[-1]) if suggestions else arm.space
        # Where no trial followed yet, what would follow is derived.
        return super()._widened(label, arm) if last == arm.space else last

    def _trial(self, label: str, values: Values, steps: int | None) -> TrialSpec | None:
        matches = (spec for spec in self._tried(label, steps) if self._values(spec) == values)
        return next(matches, None)

    def _suggestion(self, label: str) -> Values | None:
        specs = self._tried(label, self.rungs[0].steps)
        done = len(self.arms[label].history)
        return self._values(specs[done]) if done < len(specs) else None

    def _tried(self, label: str, steps: int | None) -> list[TrialSpec]:
        specs = [spec for spec in self._specs if spec.label == label]
        return specs if steps is None else [spec for spec in specs if spec.protocol.max_steps == steps]

    def _values(self, spec: TrialSpec) -> Values:
        settings = {**spec.options, **spec.protocol.searchable, LEARNING_RATE: spec.learning_rate}
        return {dimension.name: settings[dimension.name] for dimension in self.arms[spec.label].space}


def _with_folder_arms(study: StudySpec, store: StudyStore) -> StudySpec:
    """Returns the study with the arms that its folder has already, where they are searched together."""
    if study.protocol.search is None or not study.protocol.search.grow or not store.is_there:
        return study
    return study.model_copy(update={"methods": {**store.study().methods, **study.methods}})


def outline(study: StudySpec) -> list[TrialSpec]:
    """Returns a trial for each that a study's search has before its ranges grow, round by round.

    Every trial has the configuration that is tried first, because what comes after it depends on outcomes.
    """
    trials = []
    for each in search_studies(study).values():
        for rung in rungs(each.protocol):
            first_trials = [
                (search_trial(each, label, first(space), steps=rung.steps), size(space))
                for label, space in spaces(each).items()
            ]
            trials += [trial for index in range(rung.trials) for trial, limit in first_trials if index < limit]
    return trials


def selection_metric(study: StudySpec) -> tuple[str, float]:
    """Returns the validation metric that the search goes by, which is the one that selects checkpoints.

    The second value is 1 where higher is better, -1 where lower is.
    """
    task = registry.create_task(study.task)
    name = task.selects(study.protocol.select_metric)
    return name, 1.0 if task.metric(name).direction == "higher" else -1.0


def _space(suggestion: Suggestion) -> Space:
    return tuple(Dimension.from_data(name, data) for name, data in suggestion.space.items())
