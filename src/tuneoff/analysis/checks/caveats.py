"""Warnings that a reader needs before trusting the figures: everything that makes arms unequal or incomplete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

from tuneoff.analysis.checks.detectors import detect
from tuneoff.analysis.outcomes import Outcomes
from tuneoff.analysis.results import Results
from tuneoff.analysis.side_by_side import JoinedStore
from tuneoff.analysis.statistics import SEEDS_REQUIRED
from tuneoff.analysis.statistics.power import PRIOR_QUARTILES, prior_seeds
from tuneoff.analysis.statistics.proportions import ExampleTies
from tuneoff.config.protocol import Protocol
from tuneoff.records.record import Environment, Finding, Status, TrialRecord
from tuneoff.store import StudyStore

LOUD = (
    "random_weights",
    "left_out_trials",
    "failed_trials",
    "diverged_seeds",
    "missing_trials",
    "overlap",
    "unseen_targets",
    "targets_not_read_back",
    "different_data",
    "different_order",
    "unequal_data",
    "unequal_search",
    "different_model",
    "different_precision",
    "different_hardware",
    "different_versions",
    "different_release_memory",
    "contended",
    "collapsed_seeds",
    "unequal_seeds",
    "unplanned_looks",
)
"""Names of the caveats that belong to the answer itself, the most serious first."""

INCOMPARABLE = frozenset({"different_hardware", "different_versions", "different_release_memory", "contended"})
"""Warnings after which times and memory of different arms do not compare."""

RANDOM_WEIGHTS = "The base model's weights are random: quality means nothing here, only times, memory and sizes count."


def caveats(results: Results, outcomes: Outcomes | None = None) -> list[Finding]:
    """Returns all warnings of a study: first those found by comparing records, then the records' own findings.

    Args:
        outcomes: of these results, where there are some already: predictions are then read once.
    """
    findings: list[Finding] = []
    if results.random_weights:
        findings.append(Finding(name="random_weights", message=RANDOM_WEIGHTS))
    findings += _trials(results)
    findings += _looks(results)
    findings += _inequalities(results)
    findings += _machines(results)
    outcomes = outcomes or Outcomes(results)
    recorded = _recorded_findings(results, {"random_weights", "contended"})
    return findings + detect(results, outcomes) + _examples_alone(results, outcomes) + recorded + _trackers(results)


def _examples_alone(results: Results, outcomes: Outcomes) -> list[Finding]:
    """Says which arms of one seed each the test examples alone do not tell apart."""
    metric = results.primary
    ties = outcomes.example_ties(metric) if metric is not None else None
    if metric is None or ties is None:
        return []
    best, *others = ties.with_best
    named = ", ".join(others) if others else "no arm"
    message = (
        f"Over the {ties.examples:,} test examples alone, {named} cannot be told apart from {best} by {metric.name} "
        f"({len(others)} arms; unpaired tests, Shaffer's correction over {ties.pairs:,} pairs; {len(ties.groups)} "
        f"groups in all). A pair by itself must differ by {ties.smallest:.3f} to be found four times in five. This is "
        "of test examples, not of seeds: how much seeds differ one seed does not show, and it takes "
        f"{SEEDS_REQUIRED} of each arm, at the least, to say that one arm is better.{_seeds_needed(ties)}"
    )
    return [Finding(name="examples_alone", message=message)]


def _seeds_needed(ties: ExampleTies) -> str:
    """Says how many seeds would tell the best from the next and from the last of the arms that one seed ties with it,
    if seeds differed as they did elsewhere; empty where none is tied."""
    behind = dict(list(zip(ties.with_best, ties.behind, strict=True))[1:])
    pairs = {label: behind[label] for label in [*list(behind)[:1], *list(behind)[-1:]] if behind[label]}
    if not pairs:
        return ""
    (low, least), (high, most) = PRIOR_QUARTILES
    told = [
        f"{label} ({difference:.3f} behind) with {_seeds_range(difference, ties)}"
        for label, difference in pairs.items()
    ]
    return (
        " If differences varied as those of half of the pairs of arms in tuneoff's study of AG News with MiniLM did (a "
        f"standard deviation of {low:g} to {high:g} between seeds and a variance of {least:g} to {most:g} between "
        f"examples; for another task that is a guess), the {len(ties.with_best)} arms of this group alone, run again, "
        f"would tell {ties.with_best[0]} four times in five from {', and from '.join(told)}."
    )


def _seeds_range(difference: float, ties: ExampleTies) -> str:
    fewer, more = prior_seeds(difference, len(ties.with_best), ties.examples)
    too_few = f"no number of seeds ({ties.examples:,} test examples are too few)"
    if fewer is None:
        return too_few
    if more is None:
        return f"{fewer:,} seeds of each in the better case, and in the worse one with {too_few}"
    return f"{fewer:,} to {more:,} seeds of each" if fewer < more else f"{more:,} seeds of each"


def comparable(warnings: Iterable[Finding]) -> bool:
    """Returns whether times and memory of different arms compare, by a study's warnings."""
    return not any(warning.name in INCOMPARABLE for warning in warnings)


def _trials(results: Results) -> list[Finding]:
    findings = []
    if results.left_out:
        details = "; ".join(f"{trial}: {why}" for trial, why in results.left_out.items())
        message = (
            f"{len(results.left_out)} recorded trials are left out ({details}). Run the study again to repeat what is "
            "damaged or of other contents."
        )
        findings.append(Finding(name="left_out_trials", message=message))
    failed = [r for r in results.records if r.status is not Status.COMPLETED]
    if failed:
        statuses = {status.value: [r for r in failed if r.status is status] for status in Status}
        details = "; ".join(f"{status}: {tally(results, records)}" for status, records in statuses.items() if records)
        message = f"{len(failed)} of {results.planned_count} trials did not complete ({details})."
        findings.append(Finding(name="failed_trials", message=message))
    if results.search_trouble:
        message = f"What the search found cannot be told here: {results.search_trouble}"
        findings.append(Finding(name="search_untold", message=message))
    recorded = {record.spec.id for record in results.records} | results.left_out.keys()
    missing = {arm.label: sum(trial.id not in recorded for trial in arm.trials) for arm in results.arms}
    incomplete = [(arm, missing[arm.label]) for arm in results.arms if missing[arm.label]]
    if incomplete:
        recorded_count = results.planned_count - sum(missing.values())
        names = ", ".join(f"{arm.label}: {count}" for arm, count in incomplete)
        message = f"{recorded_count} of {results.planned_count} trials so far; still without a record: {names}."
        findings.append(Finding(name="missing_trials", message=message))
    seeds = {arm.label: {*(r.spec.seed for r in arm.completed), *arm.diverged} for arm in results.arms}
    seeds = {label: arm_seeds for label, arm_seeds in seeds.items() if arm_seeds}
    # A race gives arms different numbers of seeds, and says so itself; several together say nothing.
    says_so = results.study.protocol.race is not None and not isinstance(results.store, JoinedStore)
    if not says_so and len({frozenset(arm_seeds) for arm_seeds in seeds.values()}) > 1:
        counts = {label: len(arm_seeds) for label, arm_seeds in seeds.items()}
        names = ", ".join(f"{label} {count}" for label, count in counts.items())
        numbers = "numbers of seeds" if len(set(counts.values())) > 1 else "seeds"
        message = f"Arms have different {numbers} ({names}); arms are compared on the seeds they share."
        findings.append(Finding(name="unequal_seeds", message=message))
    if results.superseded:
        message = (
            f"{len(results.superseded)} earlier trials of the same arm and seed are left out, because later ones "
            "replace them (their data or model changed)."
        )
        findings.append(Finding(name="superseded_trials", message=message))
    if results.others:
        arms = ", ".join(dict.fromkeys(trial.label for trial in results.others))
        message = (
            f"Only what was asked for is told here; the folder holds {len(results.others)} more trials of earlier runs "
            f"({arms}), which `tuneoff report` of the folder takes in."
        )
        findings.append(Finding(name="other_trials", message=message))
    return findings


def _looks(results: Results) -> list[Finding]:
    """Finds looks at other numbers of seeds that were not planned: claims after several are false more often."""
    if isinstance(results.store, JoinedStore):
        # Each study was looked at by itself, as it was planned.
        looked = [(store, store.study().protocol) for store in results.store.stores.values()]
    else:
        looked = [(results.store, results.study.protocol)]
    others = {count for store, protocol in looked for count in _unplanned_looks(store, protocol)}
    counted = sorted(count for count in others if count >= SEEDS_REQUIRED)
    if not counted:
        return []
    message = (
        f"It was looked at before with {' and with '.join(map(str, counted))} seeds, which was not planned. After "
        "several looks more than 5% of studies make a false claim; seeds by racing (`--seeds race`) plan them."
    )
    return [Finding(name="unplanned_looks", message=message)]


def _unplanned_looks(store: StudyStore, protocol: Protocol) -> set[int]:
    """Returns at how many seeds a study has been looked at, but for the looks of this plan."""
    race = protocol.race.model_dump() if protocol.race is not None else None
    # A look at a fixed number of seeds spends all of the error, so that it is no look of a race, whatever its number.
    planned = {"seeds": None if race else len(protocol.seeds), "race": race}
    looks = [look for look in store.looks() if look != planned]
    return {look["seeds"] if look["race"] is None else look["race"]["max"] for look in looks}


def _inequalities(results: Results) -> list[Finding]:
    """Finds trials that should have had the same data, model or precision and did not."""
    findings = []
    completed = results.completed
    splits = dict.fromkeys(split for r in completed if r.data for split in r.data.splits)
    unequal = [split for split in splits if _differ(completed, _fingerprint_of(split))]
    if unequal:
        message = f"Methods did not see the same rows at the same seed (split {', '.join(unequal)})."
        findings.append(Finding(name="different_data", message=message))
    trained = [r for r in completed if r.spec.learning_rate is not None]
    search = results.study.protocol.search
    searches_batches = search is not None and "batch_size" in search.space

    def batches(record: TrialRecord) -> Hashable:
        """Returns what trials must have in common to have the same batches."""
        return record.spec.seed, record.spec.protocol.batch_size if searches_batches else None

    if _differ(trained, lambda r: (batches(r), r.data.train_order_fingerprint if r.data else None)):
        message = "Methods were trained on a different order of examples at the same seed."
        findings.append(Finding(name="different_order", message=message))
    elif _differ(trained, lambda r: (r.spec.seed, r.data.examples_trained if r.data else None)):
        message = "Methods were trained on different numbers of examples at the same seed."
        findings.append(Finding(name="unequal_data", message=message))
    # In a series over base models an arm of each has its own.
    if _differ(completed, lambda r: (r.spec.model.source, r.model.checksum if r.model else None)):
        message = "Trials started from different weights of the base model (checksums differ)."
        findings.append(Finding(name="different_model", message=message))
    policies = sorted({r.precision.policy for r in completed if r.precision})
    if len(policies) > 1:
        message = f"Trials ran under different precision policies ({', '.join(policies)})."
        findings.append(Finding(name="different_precision", message=message))
    return findings


def _machines(results: Results) -> list[Finding]:
    findings = []
    environments = [r.environment for r in results.completed if r.environment]
    machines = list(dict.fromkeys(_machine(e) for e in environments))
    if len(machines) > 1:
        message = f"Trials ran on different machines, so times and memory are not comparable: {'; '.join(machines)}."
        findings.append(Finding(name="different_hardware", message=message))
    differing = version_differences(environments)
    if differing:
        parts = "; ".join(f"{name} {', '.join(values)}" for name, values in differing.items())
        findings.append(Finding(name="different_versions", message=f"Trials ran with different software: {parts}."))
    with_release = [r for r in results.completed if r.environment and r.environment.release_memory]
    if with_release and len(with_release) < len(environments):
        names = tally(results, with_release)
        message = (
            "Freed memory went back to the system at once in some trials and not in others (execution.release_memory), "
            f"so peaks of memory and times are not comparable between them; it did in: {names}."
        )
        findings.append(Finding(name="different_release_memory", message=message))
    contended = [r for r in results.completed if r.noise.contended]
    if contended:
        names = tally(results, contended)
        reasons = list(dict.fromkeys(r.noise.reason for r in contended if r.noise.reason))
        reason = f" ({reasons[0]})" if len(reasons) == 1 else ""
        share = f"{len(contended)} of {len(results.completed)} completed trials"
        message = (
            f"Something else used the machine while {share} were timed{reason}; their times are marked †: {names}."
        )
        findings.append(Finding(name="contended", message=message))
    return findings


def version_differences(environments: Iterable[Environment]) -> dict[str, list[str]]:
    """Maps each package (and the commit) that differs between trials to its versions."""
    versions: dict[str, dict[str, None]] = {}
    all_environments = list(environments)
    for environment in all_environments:
        for name, version in {**environment.versions, "python": environment.python}.items():
            versions.setdefault(name, {})[version] = None
        if environment.commit:
            versions.setdefault("commit", {})[environment.commit] = None
    return {name: list(values) for name, values in versions.items() if len(values) > 1}


def _machine(environment: Environment) -> str:
    processor, cores, device = environment.hardware
    return f"{device or environment.device} ({processor}, {cores} cores, {environment.threads} threads)"


def _recorded_findings(results: Results, excluded: set[str]) -> list[Finding]:
    """Collects the records' findings, one for each kind.

    Its message is that of the first trial, with a count of the trials that have it. The report's `methods[].findings`
    list all.
    """
    messages_by_name: dict[str, dict[str, list[TrialRecord]]] = {}
    for record in results.records:
        for finding in record.findings:
            if finding.name not in excluded:
                messages_by_name.setdefault(finding.name, {}).setdefault(finding.message, []).append(record)
    findings = []
    for name, messages in messages_by_name.items():
        first, *others = messages.items()
        message = f"{first[0]} ({tally(results, first[1])})"
        rest = {record.spec.id: record for _, records in others for record in records}
        if rest:
            message += f"; the like, in other words or figures, in {tally(results, list(rest.values()))}"
        findings.append(Finding(name=name, message=message))
    return findings


def tally(results: Results, records: Sequence[TrialRecord]) -> str:
    """Names trials by their arms: `lora seed 0`, `2 of lora, 1 of full`, `all trials that train`."""
    if len(records) == 1:
        return f"{results.label_of(records[0])} seed {records[0].spec.seed}"
    ids = {record.spec.id for record in records}
    groups = {
        "all trials": {r.spec.id for r in results.records},
        "all trials that use a model": {r.spec.id for r in results.records if r.model},
        "all trials that train": {r.spec.id for r in results.records if r.spec.learning_rate is not None},
    }
    group = next((name for name, members in groups.items() if ids == members), None)
    counts = Counter(map(results.label_of, records))
    return group or ", ".join(f"{count} of {label}" for label, count in counts.items())


def _trackers(results: Results) -> list[Finding]:
    """Finds trackers that were given up in the last run, except those that a record names already."""
    recorded = {finding for record in results.records for finding in record.findings}
    return [finding for finding in results.store.trackers.findings() if finding not in recorded]


def _differ(records: Iterable[TrialRecord], key: Callable[[TrialRecord], tuple[Hashable, str | int | None]]) -> bool:
    """Returns whether the second part of `key` has several values, None aside, at one value of its first part."""
    values_by_group: dict[Hashable, set[str | int]] = {}
    for record in records:
        group, value = key(record)
        if value is not None:
            values_by_group.setdefault(group, set()).add(value)
    return any(len(values) > 1 for values in values_by_group.values())


def _fingerprint_of(split: str) -> Callable[[TrialRecord], tuple[int, str | None]]:
    """Returns a function that reads a record's seed and the fingerprint of a split."""

    def read(record: TrialRecord) -> tuple[int, str | None]:
        split_data = record.data.splits.get(split) if record.data else None
        return record.spec.seed, split_data.fingerprint if split_data else None

    return read
