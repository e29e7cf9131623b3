"""`tuneoff recommend --before`: the answer from a forecast and stated priors, before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.cli import printing, study_arguments, wording
from tuneoff.cli.commands import forecast as forecasts
from tuneoff.errors import StudyError, did_you_mean

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuneoff.analysis.decisions.prior import PriorAdvice
    from tuneoff.records.forecast import StudyForecast
    from tuneoff.records.prior import Prior
    from tuneoff.report.advice import Criteria
    from tuneoff.report.recommendation_schema import PriorReport
    from tuneoff.study.study import Study

_NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class AdviceBefore:
    """An answer before training, which prints as words.

    Attributes:
        advice: the answer and its reasons.
        report: the same as data, with cautions.
    """

    advice: PriorAdvice
    report: PriorReport

    @property
    def answer(self) -> str | None:
        """Returns the arm to use; None where no arm is the answer."""
        return self.advice.answer

    @property
    def command(self) -> str:
        """Returns the command of the study that checks what is proposed, for a line of its own, which is not wrapped:
        it is to be copied. Empty without one."""
        check = self.report.proposed.check
        return check.command if check is not None else ""

    def as_data(self) -> dict[str, Any]:
        """Returns plain data, as `--json` prints it."""
        return self.report.as_data()

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from tuneoff.report import prior as words
        from tuneoff.report import proposals

        answer, *rest = [*words.lines(self.advice), *proposals.lines(self.report.proposed)]
        cautions = [Text(f"Caution: {note}", style="yellow") for note in self.report.notes]
        return Group(*cautions, Text(answer, style="bold"), *map(Text, rest))


def advise_before(
    reference: Path,
    options: study_arguments.StudyOptions,
    criteria: Criteria,
    prior_texts: Iterable[str],
    profile: bool,
) -> AdviceBefore:
    """Answers for a study, or for the study in a folder.

    Args:
        reference: a recipe's name, a study file, or a study's folder.
        options: what changes or narrows a recipe or a study file.
        criteria: limits of costs that a forecast has, and the cost that decides among arms that cannot be told apart.
        prior_texts: priors as `NAME=LOW..HIGH`; they replace those of the methods.
        profile: whether a new forecast profiles; a folder's own forecast is used if it has every arm.

    Raises:
        StudyError: if the criteria need measured results, a prior cannot be read, or a folder's study is to be changed.
        StoreError: if the folder holds no study.
    """
    from tuneoff import registry
    from tuneoff.analysis.decisions.prior import advise
    from tuneoff.planning.plan import devices_of
    from tuneoff.report import prior as words
    from tuneoff.report.advice import in_currency
    from tuneoff.study import advisor
    from tuneoff.study.forecast_money import with_money

    _refuse_measured(criteria)
    limits = criteria.cost_limits()
    study = _open(reference, options)
    prices = criteria.prices or study.spec.prices
    limits = in_currency(criteria, limits, prices)
    methods = {label: registry.methods()[arm.method] for label, arm in study.spec.methods.items()}
    priors = {label: method.prior for label, method in methods.items()} | read_priors(prior_texts, list(methods))
    devices = {label: devices_of(study.spec, arm)[0] for label, arm in study.spec.methods.items()}
    forecast = with_money(_forecast(study, profile), prices, devices, {}, {})
    baselines = [label for label, method in methods.items() if not method.trains]
    advice = advise(forecast, priors, baselines, limits, criteria.prefer)
    proposed = advisor.advise(study, forecast.arms, "STUDY" if study.folder is not None else str(reference))
    notes = _notes(study, forecast)
    if proposed.check is not None and (option := study_arguments.study_option_given()):
        notes.append(
            f"The command of the study that checks what is proposed has none of this call's options ({option} and the "
            "like): add those that it is to keep."
        )
    return AdviceBefore(advice, words.build_prior(study.spec.name, advice, forecast, proposed, notes))


def _refuse_measured(criteria: Criteria) -> None:
    """Refuses criteria that only measured results can answer.

    Raises:
        StudyError: names the option of the first.
    """
    from tuneoff.analysis.decisions.prior import COSTS

    options = {
        "--max-latency": criteria.costs["latency"],
        "--max-forgetting": criteria.costs["forgetting"],
        "--as-good-as": criteria.as_good_as,
        "--margin": criteria.margin,
        "--min": criteria.at_least,
        "--max": criteria.at_most,
        "--metric": criteria.metric,
        "--pareto": criteria.pareto,
        "--deployable": criteria.forms,
    }
    if option := next((option for option, value in options.items() if value), ""):
        raise StudyError(
            f"{option} needs measured results, and with --before there are none",
            hint="Leave it out, or run the study and ask `tuneoff recommend DIR`.",
        )
    if criteria.prefer not in COSTS:
        raise StudyError(
            f"--prefer {criteria.prefer} needs measured results, and with --before there are none",
            hint=f"A forecast knows {', '.join(COSTS)}.",
        )


def read_priors(texts: Iterable[str], labels: Sequence[str]) -> dict[str, Prior]:
    """Reads priors as they are given on the command line.

    Raises:
        StudyError: if one is not `NAME=LOW..HIGH`, is no interval, or names no arm.
    """
    from tuneoff.records.prior import Prior

    priors = {}
    for text in texts:
        label, _, span = (part.strip() for part in text.rpartition("="))
        match = re.fullmatch(rf"({_NUMBER})\.\.({_NUMBER})", span)
        if match is None or not label:
            example = f"--prior '{_example_label(label or span, labels)}=0.8..1'"
            raise StudyError(
                f"--prior: {text!r} is not NAME=LOW..HIGH",
                hint=f"Shares of full fine-tuning's gain over the baseline, e.g. {example}.",
            )
        if label not in labels:
            raise StudyError(
                f"--prior: no arm {label!r}{did_you_mean(label, labels)}", hint=f"Arms: {', '.join(labels)}."
            )
        try:
            priors[label] = Prior(float(match[1]), float(match[2]), "stated on the command line")
        except ValueError as error:
            raise StudyError(f"--prior {text}: {error}", hint="The lower end comes first.") from None
    return priors


def _example_label(label: str, labels: Sequence[str]) -> str:
    """Returns the label for an example: the arm that was named if it exists, else the last one, because the first is
    often a baseline."""
    return label if label in labels else labels[-1]


def _open(reference: Path, options: study_arguments.StudyOptions) -> Study:
    """Opens the study of a folder as it is, or that of a file or a recipe with the options applied.

    Raises:
        StoreError: if it is a folder without a study.
        StudyError: if there is no such study, it has problems, or a folder's is to be changed.
    """
    from tuneoff.planning import loading
    from tuneoff.store import StudyStore
    from tuneoff.study.study import Study

    # A folder with the name of a recipe is not a study just for its name.
    named = str(reference) in loading.recipe_names() and not StudyStore(reference).is_there
    if named or not reference.is_dir():
        return study_arguments.open_study(str(reference), options)
    study = Study.open(reference)
    if option := study_arguments.study_option_given():
        raise StudyError(
            f"{option} does not change the study of a folder: {reference} is asked about as it was run",
            hint=f"Leave it out, or give a study file or a recipe in place of the folder, with {option}.",
        )
    return study


def _forecast(study: Study, profile: bool) -> StudyForecast:
    """Returns the forecast in the study's folder if it has every arm, else makes a new one."""
    from tuneoff.store import StudyStore
    from tuneoff.study.kept_forecast import kept

    saved = kept(StudyStore(study.folder)) if study.folder is not None else None
    if saved is not None and study.spec.methods.keys() <= saved.arms.keys():
        return saved
    with forecasts.progress(printing.console(stderr=True)) as listener:
        return study.forecast(profile=profile, listener=listener)


def _notes(study: Study, forecast: StudyForecast) -> list[str]:
    """Describes where measured results are, and how the forecast was made."""
    notes = []
    if study.folder is not None:
        done = sum(record.status.finished for record in study.records())
        if done:
            notes.append(
                f"{study.folder} holds measured results ({wording.count(done, 'completed trial')}). They have no "
                f"part in this answer; `tuneoff recommend {study.folder}` goes by them."
            )
    estimated = [label for label in study.spec.methods if forecast.arms[label].how == "estimate"]
    if estimated:
        notes.append(f"Estimated and not profiled, so times are rough: {', '.join(estimated)}.")
    return notes
