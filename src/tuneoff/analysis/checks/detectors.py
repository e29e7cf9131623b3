"""Warnings that need the records of a whole study: training that ended too early or went on too long, seeds that
diverge or collapse at times, arms below the baseline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuneoff.analysis.figures import metric_name
from tuneoff.analysis.outcomes import DIFFERENT_EXAMPLES, Outcomes
from tuneoff.analysis.results import Arm, Results
from tuneoff.analysis.statistics import Sample, estimate
from tuneoff.analysis.statistics.pairs import SEEDS_FOR_SPREAD
from tuneoff.records.record import Finding, TrialRecord

POINTS_FOR_ROUGHNESS = 3


def detect(results: Results, outcomes: Outcomes) -> list[Finding]:
    """Finds `still_improving`, `best_at_last`, `best_at_first`, `diverged_seeds`, `collapsed_seeds` and
    `below_baseline`, each with the names of its arms."""
    trained = [arm for arm in results.arms if arm.trains and arm.completed]
    improving = {arm.label: gain for arm in trained if (gain := _still_improving(arm))}
    findings = []
    if improving:
        details = "; ".join(
            f"{label} by {gain.value:.3g} in {metric_name(gain.metric)}" for label, gain in improving.items()
        )
        message = (
            "Still improving at the end of the budget: the last validation is the best by more than its noise "
            f"({details}). A longer training may rank the arms differently."
        )
        findings.append(Finding(name="still_improving", message=message))
    findings += _best_at_an_end([arm for arm in trained if arm.label not in improving], last=True)
    findings += _best_at_an_end(trained, last=False)
    return [
        *findings,
        *_diverged_seeds(results, outcomes),
        *_collapsed_seeds(results),
        *_below_baseline(results, outcomes),
    ]


@dataclass(frozen=True)
class _Gain:
    metric: str
    value: float


def _still_improving(arm: Arm) -> _Gain | None:
    """Returns how much better the last validation is than the best before it; None where that is no more than noise,
    or the seeds are too few to tell.

    Noise is the spread of these gains over the seeds, where they differ. Else it is the roughness of the curves: the
    variance of white noise is a sixth of that of its second differences. A bend counts as noise too, so little is
    claimed of short curves.
    """
    curves = [curve for record in arm.completed if (curve := _validation_curve(record)) is not None]
    curves = [curve for curve in curves if len(curve.values) > 1 and curve.metric == curves[0].metric]
    if len(curves) < SEEDS_FOR_SPREAD:
        return None
    gains = [curve.values[-1] - max(curve.values[:-1]) for curve in curves]
    gain = math.fsum(gains) / len(gains)
    interval = estimate(Sample.from_scores(arm.label, range(len(gains)), gains)).interval
    if interval is not None:
        noise = gain - interval.low
    else:
        second_differences = [
            curve.values[i - 1] - 2 * curve.values[i] + curve.values[i + 1]
            for curve in curves
            if len(curve.values) >= POINTS_FOR_ROUGHNESS
            for i in range(1, len(curve.values) - 1)
        ]
        if not second_differences:
            return None
        sigma = math.sqrt(math.fsum(difference**2 for difference in second_differences) / (6 * len(second_differences)))
        # Three standard errors of a difference of two values, averaged over the seeds: sigma is a rough estimate.
        noise = 3 * sigma * math.sqrt(2 / len(gains))
    return _Gain(curves[0].metric, gain) if gain > max(noise, 1e-9) else None


@dataclass(frozen=True)
class _Curve:
    """The validations of one trial in order; greater is better."""

    metric: str
    values: tuple[float, ...]


def selecting_metric(record: TrialRecord) -> str | None:
    """Returns the validation metric that selects checkpoints, as far as a record shows it.

    It is the protocol's, else the primary metric where it is scored during training, else the loss; None where none of
    them is recorded.
    """
    candidates = (record.spec.protocol.select_metric, record.primary_metric, "loss")
    validations = [point.validation for point in record.curve]
    return next(
        (name for name in candidates if name and validations and all(name in values for values in validations)), None
    )


def _validation_curve(record: TrialRecord) -> _Curve | None:
    name = selecting_metric(record)
    direction = next((m.direction for m in record.metrics if m.name == name), None)
    if name is None or direction is None:
        return None
    sign = 1.0 if direction == "higher" else -1.0
    return _Curve(name, tuple(sign * point.validation[name] for point in record.curve))


def _best_at_an_end(arms: list[Arm], last: bool) -> list[Finding]:
    """Finds arms whose tested checkpoint is the first, or the last, of several validations at every seed."""
    labels = []
    for arm in arms:
        records = [r for r in arm.completed if r.spec.protocol.select == "best" and len(r.curve) > 1]
        steps = [(r.selected_step, r.curve[-1 if last else 0].step) for r in records]
        if steps and all(selected == end for selected, end in steps):
            labels.append(arm.label)
    if not labels:
        return []
    arms_named = ", ".join(labels)
    if last:
        message = f"The last validation was the best at every seed ({arms_named}): more training might still help."
        return [Finding(name="best_at_last", message=message)]
    message = (
        f"The first validation was the best at every seed ({arms_named}): what came after made it worse; the "
        "learning rate may be too high, or the training too long."
    )
    return [Finding(name="best_at_first", message=message)]


def _diverged_seeds(results: Results, outcomes: Outcomes) -> list[Finding]:
    """Finds seeds at which training diverged, which count as doing without training, and gives the arms' means without
    them."""
    metric = results.primary
    if metric is None:
        return []
    figures = [(arm, figure) for arm in results.arms if (figure := outcomes.figure(arm, metric)) and figure.diverged]
    if not figures:
        return []
    details = []
    for arm, figure in figures:
        seeds = ", ".join(map(str, figure.diverged))
        summary = f"{arm.label} at {len(figure.diverged)} of {figure.estimate.seeds} seeds ({seeds})"
        if figure.without is None:
            details.append(f"{summary}: none is left")
        else:
            details.append(f"{summary}: {figure.estimate.mean:.4g} with them, {figure.without.mean:.4g} without")
    message = (
        f"Training diverged at some seeds. In means of test {metric_name(metric.name)}, intervals and comparisons such "
        f"a seed counts as doing without training ({figures[0][1].counted_as}): {'; '.join(details)}."
    )
    return [Finding(name="diverged_seeds", message=message)]


def _collapsed_seeds(results: Results) -> list[Finding]:
    """Finds arms of which some seeds collapsed and others did not: a mean and interval of two kinds of outcome say
    little."""
    details = []
    for arm in results.arms:
        collapsed = [r for r in arm.completed if any(finding.name == "collapsed" for finding in r.findings)]
        if 0 < len(collapsed) < len(arm.completed):
            details.append(f"{arm.label} at {len(collapsed)} of {len(arm.completed)}")
    if not details:
        return []
    message = (
        f"Some seeds collapsed and others did not ({', '.join(details)}): such scores are of two kinds, so these arms' "
        "means, intervals and comparisons can be trusted less than the rest."
    )
    return [Finding(name="collapsed_seeds", message=message)]


def _below_baseline(results: Results, outcomes: Outcomes) -> list[Finding]:
    """Finds trained arms whose mean is no better than that of the best arm that does not train."""
    metric = results.primary
    baseline = outcomes.best((arm for arm in results.arms if not arm.trains), metric) if metric else None
    baseline_mean = outcomes.mean(baseline, metric) if baseline and metric else None
    if metric is None or baseline is None or baseline_mean is None:
        return []
    sign = 1.0 if metric.direction == "higher" else -1.0
    trained = [(arm, figure) for arm in results.arms if arm.trains and (figure := outcomes.figure(arm, metric))]
    # A value that is too large cannot be compared with others, but it is certainly no better.
    means = {
        arm.label: figure.estimate.mean if (mean := outcomes.mean(arm, metric)) is None else mean
        for arm, figure in trained
        if figure.note != DIFFERENT_EXAMPLES
    }
    details = [f"{label} {mean:.4g}" for label, mean in means.items() if sign * mean <= sign * baseline_mean]
    if not details:
        return []
    message = (
        f"Test {metric_name(metric.name)} is no better than that of {baseline.label}, without training, "
        f"{baseline_mean:.4g}: "
    )
    return [Finding(name="below_baseline", message=message + ", ".join(details) + ".")]
