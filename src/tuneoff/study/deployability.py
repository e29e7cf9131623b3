"""Measures trained models again in the forms in which they may be deployed, each form in processes of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tuneoff.analysis.results import Arm, Results
from tuneoff.config.deployability import Form, read_forms
from tuneoff.errors import CorruptRecord, Problem, StoreError, StudyError, TuneoffError, did_you_mean
from tuneoff.executors.base import Executor
from tuneoff.records.deployability import Deployability, FormResult
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore, TrialStore
from tuneoff.trial import early

FormListener = Callable[[TrialRecord, Form, FormResult | None], None]
"""Is told of each form of a trial before it is measured (without a result) and after."""


def chosen_forms(forms: Sequence[str] | None) -> tuple[Form, ...]:
    """Returns the forms to measure: those named and, to compare with, as trained; all where none is named.

    Raises:
        StudyError: for a form that there is none of.
    """
    try:
        named: tuple[Form, ...] = read_forms(list(forms) if forms else True)
    except ValueError as error:
        raise StudyError([Problem("deployability", str(error))]) from None
    return named


def chosen_arms(results: Results, labels: Sequence[str], every: bool, winner: str | None) -> list[Arm]:
    """Returns the arms to measure.

    Args:
        results: of the study.
        labels: arms by name.
        every: all that train and are completed, in the place of names.
        winner: the arm that is measured where neither is asked for.

    Raises:
        StudyError: for an arm that there is none of, or that trains nothing.
        StoreError: if there is no arm to measure.
    """
    trained = [arm for arm in results.arms if arm.trains and arm.completed]
    if every:
        chosen = trained
    elif labels:
        chosen = [_arm(results, label) for label in dict.fromkeys(labels)]
    else:
        chosen = [results.arm(winner)] if winner is not None else []
    if not chosen:
        raise StoreError(
            "no arm that trains is completed, so there is no trained model to measure",
            hint="Run the study first, or let it go on.",
        )
    return chosen


def _arm(results: Results, label: str) -> Arm:
    labels = [arm.label for arm in results.arms]
    trained = ", ".join(arm.label for arm in results.arms if arm.trains)
    if label not in labels:
        raise StudyError(f"--arm: no arm {label!r}{did_you_mean(label, labels)}", hint=f"Arms that train: {trained}.")
    arm = results.arm(label)
    if not arm.trains:
        raise StudyError(
            f"--arm: {label} trains nothing, so there is no trained model to deploy",
            hint=f"Arms that train: {trained}.",
        )
    if not arm.completed:
        raise StoreError(f"no trial of {label} is completed", hint="Run the study again to complete it.")
    return arm


@dataclass(frozen=True)
class FormMeasurer:
    """Measures forms of trained models.

    Attributes:
        store: the study's folder.
        executor: starts the processes.
        device: auto, cpu or cuda.
        again: measure also what was measured before.
        listener: is told of each form.
    """

    store: StudyStore
    executor: Executor
    device: str
    again: bool
    listener: FormListener

    def measure(self, records: Sequence[TrialRecord], forms: Sequence[Form]) -> None:
        """Measures the forms of these trials. A form that fails has a result that says why.

        Raises:
            StoreError: if a trial kept no weights, or the folder cannot be written.
        """
        places = [self.store.trial(record.spec.id) for record in records]
        for place in places:
            early.finished(place)
        for place, record in zip(places, records, strict=True):
            self._measure_trial(place, record, forms)

    def _measure_trial(self, place: TrialStore, record: TrialRecord, forms: Sequence[Form]) -> None:
        place.discard_scratch()
        results = self._before(place, record)
        with ExitStack() as stack:
            scratch = None
            for form in forms:
                if not self.again and _is_measured(place, results.form(form)):
                    continue
                # Large models need room where the study is, not where temporary files are.
                scratch = scratch or stack.enter_context(
                    tempfile.TemporaryDirectory(prefix=".forms.", dir=place.folder)
                )
                self.listener(record, form, None)
                result = self._measure_form(place, form, Path(scratch))
                results = results.with_result(result)
                place.deployability.write(results)
                self.listener(record, form, result)

    def _before(self, place: TrialStore, record: TrialRecord) -> Deployability:
        """Returns what was measured before; nothing where that was of other weights, or is damaged.

        Raises:
            StoreError: if another version of tuneoff wrote it, whose results are not to be lost.
        """
        weights = record.kept_files or {}
        try:
            before = place.deployability.read()
        except CorruptRecord:
            before = None
        if before is not None and before.weights == weights:
            return before
        return Deployability(trial=record.spec.id, weights=weights, forms=())

    def _measure_form(self, place: TrialStore, form: Form, scratch: Path) -> FormResult:
        origin = self.store.origin()
        payload = {
            "folder": str(place.folder.resolve()),
            "origin": str(origin) if origin is not None else None,
            "form": form,
            "scratch": str(scratch.resolve()),
            "device": self.device,
        }
        try:
            built = self.executor.call("build_form", payload)
            return FormResult.model_validate(self.executor.call("score_form", {**payload, "built": built}))
        except ValidationError as error:
            return FormResult(form=form, works=False, reason=f"the answer to 'score_form' is none: {error}")
        except TuneoffError as error:
            return FormResult(form=form, works=False, reason=f"{error.message}{_hint(error)}")


def _is_measured(place: TrialStore, result: FormResult | None) -> bool:
    """Tells whether a form was found to work, with predictions that are whole: an interrupt may come after new ones
    are written and before the result is."""
    if result is None or not result.works:
        return False
    try:
        if result.predictions is not None:
            place.rows_of(result.predictions)
    except StoreError:
        return False
    return True


def _hint(error: TuneoffError) -> str:
    return f" ({error.hint.rstrip('.')})" if error.hint else ""


def quiet(record: TrialRecord, form: Form, result: FormResult | None) -> None:
    """Hears of forms and says nothing."""
