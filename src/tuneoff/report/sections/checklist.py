"""The page's section on what can be repeated: one line per question that a reader of a paper would ask."""

from __future__ import annotations

from collections.abc import Iterator

from tuneoff.analysis.search_summary import SearchSummary
from tuneoff.encoding import markdown as escaped
from tuneoff.report import units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.wording import join

YES, NO, PART = "✓ yes", "✗ no", "– in part"


def section(report: Report) -> str:
    """Writes the checklist; empty while no trial is completed."""
    if report.data is None:
        return ""
    lines = [*_inputs(report), *_software(report), *_procedure(report)]
    rows = [[question, state, escaped(evidence)] for question, state, evidence in lines]
    return "## Reproducibility checklist\n\n" + grid(["question", "answer", "evidence"], rows, ":---")


Line = tuple[str, str, str]


def _inputs(report: Report) -> Iterator[Line]:
    data = report.data
    assert data is not None  # `section` has looked
    rows = ", ".join(f"{split.rows:,} {name}" for name, split in data.splits.items())
    known = bool(data.splits) and all(split.fingerprint for split in data.splits.values())
    yield "Are the rows known again?", YES if known else NO, f"{rows}; SHA-256 of each split in report.json"
    overlaps = {name: count for name, count in data.overlap.items() if name.endswith("/test") and count}
    text = join([f"{count:,} rows of {name.replace('/', ' stand in ')}" for name, count in overlaps.items()])
    yield "Are test rows kept out of training and validation?", NO if overlaps else YES, text or "no row stands in both"
    model = data.model
    if model is None:
        yield "Is the base model known again?", NO, "no completed trial loaded one"
    elif model.random_weights:
        yield "Is the base model known again?", YES, "random weights, made of the seed: quality means nothing"
    else:
        mark = f"SHA-256 {model.checksum[:16]}…" if model.checksum else f"commit {model.commit}" if model.commit else ""
        yield "Is the base model known again?", YES if mark else NO, f"{model.source} {mark}".strip()


def _software(report: Report) -> Iterator[Line]:
    environments = report.environments
    differing = environments.version_differences
    versions = f"{len(environments.versions)} packages in report.json"
    if differing:
        versions = f"trials differ in {join(list(differing))}"
    yield "Is the software the same in all trials?", NO if differing else YES, versions
    commit = environments.commit
    clean = commit is not None and not commit.endswith("+dirty")
    release = environments.versions.get("tuneoff")
    evidence = f"commit {commit}" if commit else f"tuneoff {release}" if release else "no commit is recorded"
    yield "Is the code of tuneoff known?", YES if clean or (commit is None and release) else NO, evidence
    machines = [m.device_name or m.processor for m in environments.machines]
    same = len(set(machines)) == 1
    yield "Did all trials run on one kind of machine?", YES if same else NO, join(list(dict.fromkeys(machines)))
    errors = [p for p in environments.precision if p.matmul_relative_error is not None]
    precision = join(
        [f"{p.policy}, measured error {p.matmul_relative_error:.1e}" for p in errors]
        or [p.policy for p in environments.precision]
    )
    one = len(environments.precision) == 1
    yield "Is the precision the same and measured?", YES if one and errors else PART if one else NO, precision


def _procedure(report: Report) -> Iterator[Line]:
    study, answer, search = report.study, report.answer, report.search
    seeds = f"seeds {', '.join(map(str, study.seeds))}; {answer.seeds_required} are needed to call anything significant"
    yield "Are there enough seeds?", YES if len(study.seeds) >= answer.seeds_required else NO, seeds
    if search is None:
        yield "Were all methods searched equally?", PART, "nothing was searched: learning rates are as the study says"
    else:
        trials = f"{search.trials} trials an arm by validation {search.metric}, {search.tried_count:,} in all"
        yield "Were all methods searched equally?", YES if search.equal and search.complete else NO, trials
    chosen = f"by validation {study.selected_by}" if study.selected_by else "the last checkpoint of each trial"
    chosen = f"checkpoint chosen {chosen}" if report.is_ours else "not recorded"
    yield "Is the test split scored once, after all choices?", YES if report.is_ours else PART, chosen
    trials_done = report.trials
    missing = trials_done.planned - trials_done.completed
    count = f"{trials_done.completed:,} of {trials_done.planned:,} completed"
    failed = f"; {len(report.failures)} failed, with their causes below" if report.failures else ""
    untold = missing - len(report.failures)
    absent = f"; {untold} without a result" if untold > 0 else ""
    yield "Is every planned trial told of?", PART if untold > 0 else YES, count + failed + absent
    contended = [arm.method for arm in report.methods if arm.contended]
    timing = f"something else used the machine: {join(contended)}"
    if not contended:
        timing = "no trial was disturbed" if report.is_ours else "not recorded"
    yield "Are the timings undisturbed?", NO if contended else YES if report.is_ours else PART, timing
    seconds = sum((arm.total_seconds.mean or 0.0) * arm.total_seconds.n for arm in report.methods)
    untimed = trials_done.completed - sum(arm.total_seconds.n for arm in report.methods)
    searched = f", and {_search_time(search)}" if search else ""
    rest = f" (of {untimed} more the time is not known)" if untimed > 0 else ""
    is_told = untimed <= 0 and (search is None or search.total_seconds is not None)
    told = f"{units.seconds(seconds)} of trials{rest}{searched}"
    yield "Is it told what repeating it takes?", YES if is_told else PART, told


def _search_time(search: SearchSummary) -> str:
    if search.total_seconds is None:
        return "a search whose time is not known"
    return f"{units.seconds(search.total_seconds)} of search"
