"""What published rules propose for a study before anything is measured, and the smallest study that would check it.

Methods state the rules of their own options (`AnyMethod.propose`), `search/rates.py` that of the rate. Nothing is
changed: whoever reads the proposal takes it over.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from typing import Any

from tuneoff import registry
from tuneoff.config.search import SearchSpec
from tuneoff.config.spec import MethodSpec, StudySpec
from tuneoff.encoding import one_line
from tuneoff.errors import TuneoffError
from tuneoff.executors.base import Inspection
from tuneoff.interfaces import Proposal, ProposalSetting, Rule
from tuneoff.planning import loading
from tuneoff.records.forecast import ArmForecast
from tuneoff.report.proposal_schema import CheckStudy, Proposed, ProposedValue
from tuneoff.search import rates
from tuneoff.study.budget import has_prior
from tuneoff.study.study import Study

DIFFERENCE = 0.02
"""Difference that is worth a change of settings, where the study states no margin."""
MEMORY = Rule(
    "fits-memory",
    "this study's forecast, as `tuneoff plan` tells it",
    "it is about the machine, and about quality only where the change computes the same",
)


def advise(study: Study, arms: Mapping[str, ArmForecast], origin: str) -> Proposed:
    """Proposes values for every arm that a rule covers.

    Args:
        study: as the user wrote it.
        arms: label -> forecast; empty where none was made, which leaves out what needs counting.
        origin: the study as a command names it.
    """
    spec = study.spec
    values: list[ProposedValue] = []
    uncovered, not_counted = [], []
    covered = {
        label: found
        for label, arm in spec.methods.items()
        if (found := _propose(spec, arm, ProposalSetting(_batch(spec))))
    }
    inspection, why = _inspect(study, covered) if arms and covered else (None, "nothing of it was counted")
    for label, arm in spec.methods.items():
        found = covered.get(label, ())
        if found:
            setting, reason = _setting(spec, label, arms.get(label), inspection, why)
            found = _propose(spec, arm, setting)
            if reason:
                not_counted.append(f"the rank of {label}, because {reason}")
        rate = rates.propose_rate(spec, label)
        values += [_value(label, proposal) for proposal in (*found, *([rate] if rate is not None else []))]
        if forecast := arms.get(label):
            values += _memory(spec, forecast)
        method = registry.methods()[arm.method]
        if not found and rate is None and method.trains and method.learning_rate.over_full is None:
            uncovered.append(label)
    reasons = [*not_counted, *_unknown_rates(spec)]
    if uncovered:
        reasons.append(f"anything for {', '.join(uncovered)}, because no published rule covers the method here")
    proposed = Proposed(values=tuple(values), not_covered=tuple(reasons), check=None)
    return proposed.model_copy(update={"check": _check(spec, proposed, arms, origin)})


def _batch(study: StudySpec) -> int:
    """Returns the batch size; 0, of which no rule says anything, where it is searched."""
    search = study.protocol.search
    return 0 if search is not None and "batch_size" in search.space else study.protocol.batch_size


def _propose(study: StudySpec, arm: MethodSpec, setting: ProposalSetting) -> tuple[Proposal, ...]:
    """Returns what a method proposes for what is not searched anyway; nothing where it goes on from trained weights,
    whose shape is settled."""
    if arm.start_from is not None:
        return ()
    proposals = registry.methods()[arm.method].create(arm.options).propose(setting)
    return tuple(proposal for proposal in proposals if proposal.key not in arm.search)


def _inspect(study: Study, covered: Mapping[str, tuple[Proposal, ...]]) -> tuple[Inspection | None, str]:
    """Counts what arms would train with what is proposed for them; None and the reason where that cannot be."""
    arms = {label: proposed_arm(study.spec.methods[label], _changes(found)) for label, found in covered.items()}
    twin = Study(study.spec.model_copy(update={"methods": arms}), device=study.device)
    try:
        trials = {trial.label: trial for trial in twin.plan()}
        inspection = twin.inspect(list(trials.values()))
    except TuneoffError as error:
        return None, one_line(error.message)
    counts = {label: inspection.trials.get(trial.id, {}) for label, trial in trials.items()}
    return Inspection(counts, inspection.labels, inspection.data, inspection.warnings), ""


def _setting(
    study: StudySpec, label: str, forecast: ArmForecast | None, inspection: Inspection | None, why: str
) -> tuple[ProposalSetting, str]:
    """Returns what rules go by, and why something is not known of it; empty where all is."""
    plain = ProposalSetting(_batch(study))
    if inspection is None:
        return plain, why
    rows = ((inspection.data or {}).get("splits", {}).get("train") or {}).get("rows")
    parameters = inspection.trials[label].get("trainable_parameters", {}).get("adapter")
    if not rows or not parameters:
        return plain, "neither rows nor parameters could be counted"
    if forecast is None or forecast.largest is None:
        return plain, "no step of it was forecast"
    largest, task = forecast.largest, registry.create_task(study.task)
    # A tag of each word is learned at the input's own tokens, and a class or a number once.
    tags = task.adds_head and not task.scores_whole
    each = largest.tokens if tags else max(1, math.ceil(largest.targets / largest.examples))
    return ProposalSetting(plain.batch_size, rows * each, parameters), ""


def _changes(proposals: tuple[Proposal, ...]) -> dict[str, Any]:
    return {proposal.key: proposal.value for proposal in proposals if proposal.changes and "." not in proposal.key}


def _value(label: str, proposal: Proposal) -> ProposedValue:
    return ProposedValue(
        method=label,
        key=proposal.key,
        value=proposal.value,
        current=proposal.current,
        rule=proposal.rule.id,
        source=proposal.rule.source,
        outside=proposal.rule.outside,
        reason=proposal.reason,
    )


def _memory(study: StudySpec, forecast: ArmForecast) -> list[ProposedValue]:
    """Returns the first change under which an arm would fit that does not, as the forecast found it."""
    if forecast.fits is not False or not forecast.remedies:
        return []
    remedy = forecast.remedies[0]
    ((name, value),) = loading.override({}, [remedy.change])["protocol"].items()
    same = "it computes the same" if remedy.same_result else "it computes something else"
    reason = f"It does not fit into this machine's memory, and would with this; {same}."
    proposal = Proposal(f"protocol.{name}", value, getattr(study.protocol, name), MEMORY, reason)
    return [_value(forecast.label, proposal)]


def _unknown_rates(study: StudySpec) -> list[str]:
    """Says of which arms no rule tells a rate, though one was published for their methods."""
    labels = [
        label
        for label, arm in study.methods.items()
        if registry.methods()[arm.method].learning_rate.over_full is not None
        and not rates.is_rate_stated(study, label)
        and rates.propose_rate(study, label) is None
    ]
    if not labels:
        return []
    model = study.model.source
    return [f"a rate for {', '.join(labels)}, because no published rule covers {model}: search it (protocol.search)"]


def proposed_arm(arm: MethodSpec, changes: Mapping[str, Any]) -> MethodSpec:
    """Returns an arm with other options."""
    return arm.model_copy(update={"options": {**arm.options, **changes}})


def written(arm: MethodSpec) -> dict[str, Any]:
    """Returns an arm as a study file holds it."""
    body = arm.model_dump(mode="json", exclude_defaults=True)
    options, search = body.pop("options", {}), body.pop("search", {})
    return {**body, **options, **{name: {"search": values} for name, values in search.items()}}


def twin_label(label: str, taken: Mapping[str, Any]) -> str:
    """Returns a label that no arm has, for an arm as proposed."""
    twin = f"{label}-proposed"
    return twin if twin not in taken else twin_label(twin, taken)


def _check(study: StudySpec, proposed: Proposed, arms: Mapping[str, ArmForecast], origin: str) -> CheckStudy | None:
    """Returns the smallest study that would check what is proposed for the first arm with other options.

    Its search checks rates by itself; what all arms share is no part of it.
    """
    label = next((label for label in study.methods if proposed.of_arm(label)), None)
    if label is None:
        return None
    twin = twin_label(label, study.methods)
    arm = study.methods[label]
    pair = {label: written(arm), twin: written(proposed_arm(arm, proposed.of_arm(label)))}
    search = study.protocol.search
    trials = (search or SearchSpec()).trials
    difference = study.margin or DIFFERENCE
    forecast = arms.get(label)
    seeds, least, most, reason = _seeds(study, difference, forecast.test_examples if forecast else None)
    methods = shlex.quote(f"methods={json.dumps(pair)}")
    return CheckStudy(
        methods=tuple(pair),
        search_trials=trials,
        seeds=seeds,
        difference=difference,
        seeds_least=least,
        seeds_most=most,
        reason=reason,
        seconds=_seconds(forecast, trials, seeds),
        command=f"tuneoff run {shlex.quote(origin)} --set {methods} --search {trials} --seeds {seeds}",
    )


def _seeds(study: StudySpec, difference: float, examples: int | None) -> tuple[int, int | None, int | None, str]:
    """Returns how many seeds to run, how many find the difference at best and at worst, and why so many."""
    # Statistics take a while to import.
    from tuneoff.analysis.statistics.pairs import SEEDS_REQUIRED
    from tuneoff.analysis.statistics.power import prior_components, prior_seeds, smallest_difference

    if not has_prior(study, registry.create_task(study.task)) or examples is None or examples < 2:
        return SEEDS_REQUIRED, None, None, "the fewest that tell anything; how many it takes is known after these"
    least, most = prior_seeds(difference, 2, examples)
    if least is None:
        found = smallest_difference(prior_components(SEEDS_REQUIRED, examples, 2), 2)
        reason = (
            f"no number of seeds finds a difference of {difference:g} with {examples:,} test rows; these find about "
            f"{found:.2g} four times in five"
        )
        return SEEDS_REQUIRED, None, None, reason
    worst = f"{most:,}" if most is not None else "more test rows"
    reason = f"a difference of {difference:g} takes so many by a prior, and {worst} where seeds differ much"
    return least, least, most, reason


def _seconds(forecast: ArmForecast | None, trials: int, seeds: int) -> float | None:
    """Sums the time of both arms, each as the arm is now; a search that the study does not have takes trials of its
    length."""
    if forecast is None or forecast.trial_seconds is None:
        return None
    search = forecast.search_trial_seconds() or forecast.trial_seconds
    return 2 * (trials * search + seeds * forecast.trial_seconds)
