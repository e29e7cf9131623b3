"""Where arms continue from: an adapter's folder or hub id, or an arm of an earlier study, as one folder of weights."""

from __future__ import annotations

from pathlib import Path

from tuneoff import registry, sources
from tuneoff.checksums import content_hash, folder_checksums
from tuneoff.config.spec import MethodSpec, StudySpec
from tuneoff.errors import Problem, SourceNotFound, StudyError, TuneoffError, did_you_mean, listed, shortened
from tuneoff.interfaces import is_trained_folder
from tuneoff.records.record import TrialRecord
from tuneoff.store import StudyStore, TrialStore


def resolved(study: StudySpec) -> StudySpec:
    """Returns the study with every `start_from` as the folder of trained weights that it means, which is pinned so.

    Raises:
        StudyError: naming each arm whose weights cannot be found, and why.
    """
    if all(arm.start_from is None for arm in study.methods.values()):
        return study
    arms: dict[str, MethodSpec] = {}
    problems = []
    for label, arm in study.methods.items():
        arms[label] = arm
        if arm.start_from is None:
            continue
        try:
            path, _ = _split(arm.start_from)
            if path.is_absolute() and not path.exists():
                continue  # of a study that was run: it is reported all the same, and refused where it would run
            arms[label] = arm.model_copy(update={"start_from": str(_folder(arm.start_from).resolve())})
        except TuneoffError as error:
            problems.append(Problem(f"methods.{label}.start_from", error.in_one_line))
        except (OSError, RuntimeError) as error:  # a name that is too long, the home of nobody
            reason = getattr(error, "strerror", None) or error
            text = f"{shortened(arm.start_from)!r} cannot be looked for: {reason}"
            problems.append(Problem(f"methods.{label}.start_from", text))
    if problems:
        raise StudyError(problems)
    return study.model_copy(update={"methods": arms})


def fingerprints(study: StudySpec) -> dict[str, str]:
    """Returns folder of trained weights -> fingerprint of its files, of every arm that continues from some.

    Raises:
        SourceNotFound: if they are no longer there.
    """
    found = {}
    for arm in study.methods.values():
        if arm.start_from is None:
            continue
        folder = Path(arm.start_from)
        if not is_trained_folder(folder):
            raise SourceNotFound(
                f"start_from: {folder} holds no trained weights any more",
                hint="Restore the folder, or name other weights.",
            )
        found[arm.start_from] = content_hash(folder_checksums(folder))
    return found


def _folder(text: str) -> Path:
    """Finds the folder of trained weights that a text means.

    Raises:
        TuneoffError: if there is none.
    """
    path, arm = _split(text)
    if arm and not StudyStore(path).is_there:
        raise SourceNotFound(f"'{path}' is no folder of a study, whose arm {arm!r} is named.")
    if StudyStore(path).is_there:
        return _trained_trial(StudyStore(path), arm).weights
    if (trial := TrialStore(path)).record_path.is_file():
        return trial.weights
    if is_trained_folder(path):
        return path
    if path.exists():
        raise SourceNotFound(
            f"{text!r} holds neither a study nor a PEFT adapter (adapter_config.json, adapter_model.safetensors) nor "
            "what a trial kept."
        )
    source, reference = sources.find(registry.sources(), text)
    return Path(source.adapter(reference))


def _split(text: str) -> tuple[Path, str]:
    """Returns the path that a text names, and the arm after it; no arm where the whole text is a path, or nothing is
    where it says."""
    root, _, label = text.rpartition(":")
    if root and not Path(text).expanduser().exists() and Path(root).expanduser().exists():
        return Path(root).expanduser(), label
    return Path(text).expanduser(), ""


def _trained_trial(store: StudyStore, label: str) -> TrialStore:
    """Returns the trial of an arm that kept its weights and is best on validation; without a label of the arm that is
    recommended."""
    label = label or _recommended(store)
    known = dict.fromkeys(record.spec.label for record in store.records())
    if label not in known:
        raise SourceNotFound(f"{store.root} has no arm {label!r}{did_you_mean(label, known)}; it has {listed(known)}.")
    trials = [(record, store.trial(record.spec.id)) for record in store.records() if record.spec.label == label]
    kept = [(record, trial) for record, trial in trials if record.status.finished and trial.weights.is_dir()]
    if not kept:
        raise SourceNotFound(
            f"no completed trial of arm {label!r} in {store.root} kept its weights.",
            hint="Run that study with execution.keep_weights: true, or name an arm that trains.",
        )
    return max(kept, key=lambda pair: (_validation_score(pair[0]), -pair[0].spec.seed))[1]


def _recommended(store: StudyStore) -> str:
    from tuneoff.report.advice import Criteria, advise

    advice = advise(store, Criteria({}))
    trained = [arm.label for arm in advice.results.arms if arm.trains]
    answer, best = advice.recommendation.answer, advice.recommendation.best
    if answer in trained:
        return str(answer)
    if best is None:
        raise SourceNotFound(f"no arm of {store.root} was trained.")
    return best


def _validation_score(record: TrialRecord) -> float:
    """Returns how good a trial is on validation, by the metric that its task is judged by; more is better."""
    for metric in record.metrics:
        if metric.split == "validation" and metric.name == record.primary_metric:
            return metric.value if metric.direction == "higher" else -metric.value
    return float("-inf")
