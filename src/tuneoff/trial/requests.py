"""What a child process can be asked to do, and how it answers."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tuneoff.errors import OutOfMemory, StudyError, TuneoffError, without_passwords
from tuneoff.store import TrialStore
from tuneoff.trial import interruption
from tuneoff.trial.exhaustion import exhausted, said

PRELOADED = ("torch", "transformers", "peft", "tokenizers", "safetensors", "gguf", "tuneoff")
"""Packages whose modules a warm parent may import: importing them starts no thread and touches no device."""


TRAINING = frozenset({"trial", "together", "ranks", "rank"})
MORE_MEMORY = "Free memory on this machine, or use another with more."
LESS_MEMORY = (
    "Raise protocol.gradient_accumulation_steps or set protocol.gradient_checkpointing=true (the same result in less "
    "memory), or shorten max_length; an evaluation takes less with a lower protocol.evaluation_batch_size. "
    "execution.retry_out_of_memory=true tries again by itself with half of both."
)


def answer(verb: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Does what is asked; returns {"result": …} or {"error": {"type", "message", "hint"}}. It never raises."""
    started = time.perf_counter()
    # A rank has nothing to clean up, and may be waiting where Python runs no signal handler.
    if verb == "rank":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    else:
        interruption.heed_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = _do(verb, payload, started)
    except BaseException as error:
        print(without_passwords(traceback.format_exc()), file=sys.stderr, end="", flush=True)
        return {"error": _describe(error, LESS_MEMORY if verb in TRAINING else MORE_MEMORY)}
    return {"result": result, "modules": modules_to_share()}


def modules_to_share() -> list[str]:
    """Names the modules that the warm parent may import for later children; none where bitsandbytes is loaded.

    Modules that need it would bring it to every later trial (see `methods._peft_import`).
    """
    if "bitsandbytes" in sys.modules:
        return []
    return [name for name in list(sys.modules) if name.partition(".")[0] in PRELOADED]


def _do(verb: str, payload: dict[str, Any], started: float) -> Any:
    if verb not in VERBS:
        raise ValueError(f"unknown verb {verb!r}")
    return VERBS[verb](payload, started)


def _inspect(payload: dict[str, Any], started: float) -> Any:
    """Looks at model, rows and arms before any trial."""
    from tuneoff.config.spec import StudySpec, TrialSpec
    from tuneoff.trial.inspection import inspect_study

    trials = [TrialSpec.model_validate(trial) for trial in payload["trials"]]
    gpus = None
    if payload["require_data"]:
        from tuneoff.trial.distributed.allotment import list_gpus
        from tuneoff.trial.distributed.context import check_devices

        check_devices(trials, payload["device"])
        gpus = list_gpus(payload["device"])
    seen = inspect_study(StudySpec.model_validate(payload["study"]), trials, payload["require_data"])
    return {**seen, "gpus": gpus}


def _check_sizes(payload: dict[str, Any], started: float) -> Any:
    """Checks several numbers of training rows before any trial."""
    from tuneoff.config.spec import StudySpec
    from tuneoff.trial.data.sizes import check_sizes

    check_sizes(StudySpec.model_validate(payload["study"]), payload["sizes"])


def _profile(payload: dict[str, Any], started: float) -> Any:
    """Forecasts an arm by a few real steps."""
    from tuneoff.config.spec import TrialSpec
    from tuneoff.trial.estimate.profiler import profile_arm
    from tuneoff.trial.modeling.allocator import configure
    from tuneoff.trial.modeling.precision import choose_device

    final, search = (
        TrialSpec.model_validate(payload[key]) if payload[key] is not None else None
        for key in ("trial", "search_trial")
    )
    assert final is not None
    configure(final.execution, choose_device(payload["device"]), lambda event: None)
    arm = profile_arm(final, search, payload["device"], payload["memory_limit_bytes"])
    return arm.model_dump(mode="json")


def _estimate(payload: dict[str, Any], started: float) -> Any:
    """Forecasts arms by counting."""
    from tuneoff.config.spec import TrialSpec
    from tuneoff.trial.estimate.estimator import estimate_arms

    pairs = [
        (TrialSpec.model_validate(final), TrialSpec.model_validate(search) if search is not None else None)
        for final, search in payload["pairs"]
    ]
    return [
        {"error": _describe(arm)} if isinstance(arm, Exception) else {"arm": arm.model_dump(mode="json")}
        for arm in estimate_arms(pairs, payload["device"], payload["memory_limit_bytes"])
    ]


def _gpus(payload: dict[str, Any], started: float) -> Any:
    """Lists the GPUs that trials may use."""
    from tuneoff.trial.distributed.allotment import list_gpus

    return list_gpus(payload["device"])


def _trial(payload: dict[str, Any], started: float) -> Any:
    """Runs a trial on one device."""
    from tuneoff.trial.distributed.allotment import confine
    from tuneoff.trial.run import run

    confine(payload)
    place = TrialStore(Path(payload["folder"]))
    scratch = Path(payload["scratch"]) if payload.get("scratch") else None
    record = run(
        place,
        payload["device"],
        started,
        payload.get("commit"),
        scratch=scratch,
        shared=payload.get("shared", False),
        apart=payload.get("apart", ""),
        trials_at_once=payload.get("trials_at_once", 1),
    )
    return {"status": record.status}


def _together(payload: dict[str, Any], started: float) -> Any:
    """Runs several trials of an arm on one device. Each that fails has an answer of its own, at its `reply`; one
    without a reply has ended before."""
    from tuneoff.trial.distributed.aggregation import OnlookerTrialStore
    from tuneoff.trial.distributed.allotment import confine
    from tuneoff.trial.together import run_together

    confine(payload)
    replies = {Path(trial["folder"]): trial["reply"] for trial in payload["trials"]}

    def fail(place: TrialStore, error: Exception) -> None:
        write_reply(replies[place.folder], {"error": _describe(error, LESS_MEMORY)})

    places = [
        TrialStore(folder) if reply is not None else OnlookerTrialStore(folder) for folder, reply in replies.items()
    ]
    run_together(places, payload["device"], started, fail, payload.get("commit"), Path(payload["scratch"]))
    return {}


def _ranks(payload: dict[str, Any], started: float) -> Any:
    """Runs a trial on several devices."""
    from tuneoff.trial.distributed.allotment import confine
    from tuneoff.trial.launcher import launch

    confine(payload)
    return launch(TrialStore(Path(payload["folder"])), payload)


def _rank(payload: dict[str, Any], started: float) -> Any:
    """Does one rank's part of a trial."""
    from tuneoff.trial.launcher import serve_rank

    return serve_rank(TrialStore(Path(payload["folder"])), payload, started)


def _export(payload: dict[str, Any], started: float) -> Any:
    """Exports a trained model."""
    from tuneoff.trial.export import export
    from tuneoff.trial.inference import go_to_origin

    place = TrialStore(Path(payload["folder"]))
    go_to_origin(place.spec(), payload.get("origin"))
    return export(place, Path(payload["out"]), payload["merged"], payload["device"])


def _predict(payload: dict[str, Any], started: float) -> Any:
    """Predicts the rows of a file."""
    from tuneoff.trial.inference import go_to_origin, predict

    place = TrialStore(Path(payload["folder"]))
    go_to_origin(place.spec(), payload.get("origin"))
    return predict(place, payload["file"], payload["device"])


def _build_form(payload: dict[str, Any], started: float) -> Any:
    """Writes a trained model's files in one form in which it may be deployed."""
    from tuneoff.trial.deployability.building import build
    from tuneoff.trial.inference import go_to_origin

    place = TrialStore(Path(payload["folder"]))
    go_to_origin(place.spec(), payload.get("origin"))
    return build(place, payload["form"], Path(payload["scratch"]), payload["device"]).model_dump(mode="json")


def _score_form(payload: dict[str, Any], started: float) -> Any:
    """Scores such a form on the trial's test rows."""
    from tuneoff.trial.deployability.building import Built
    from tuneoff.trial.deployability.scoring import score
    from tuneoff.trial.inference import go_to_origin

    place = TrialStore(Path(payload["folder"]))
    go_to_origin(place.spec(), payload.get("origin"))
    form, built = payload["form"], Built.model_validate(payload["built"])
    return score(place, form, Path(payload["scratch"]) / form, built, payload["device"]).model_dump(mode="json")


VERBS: dict[str, Callable[[dict[str, Any], float], Any]] = {
    "inspect": _inspect,
    "check_sizes": _check_sizes,
    "profile": _profile,
    "estimate": _estimate,
    "gpus": _gpus,
    "trial": _trial,
    "together": _together,
    "ranks": _ranks,
    "rank": _rank,
    "export": _export,
    "predict": _predict,
    "build_form": _build_form,
    "score_form": _score_form,
}
"""What can be asked: each function takes the payload and when the process started."""


def _describe(error: BaseException, remedy: str = MORE_MEMORY) -> dict[str, Any]:
    """Returns an error as plain data. Running out of memory is recognised in all its forms and has its remedy as the
    hint."""
    if isinstance(described := getattr(error, "described", None), dict):
        return described
    shortage = exhausted(error)
    if shortage is not None and not isinstance(shortage, OutOfMemory):
        return {"type": OutOfMemory.__name__, "message": f"out of memory{said(shortage)}", "hint": remedy}
    if isinstance(error, StudyError):
        problems = [[p.where, p.message, p.line] for p in error.problems]
        return {"type": "StudyError", "message": error.message, "hint": error.hint, "problems": problems}
    if isinstance(error, TuneoffError):
        return {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    return {"type": type(error).__name__, "message": f"{type(error).__name__}{said(error)}", "hint": ""}


def write_reply(path: str, reply: dict[str, Any]) -> None:
    """Leaves the reply where the asker looks for it, whole or not at all."""
    temporary_path = f"{path}.new"
    with open(temporary_path, "w", encoding="utf-8") as file:
        json.dump(reply, file)
    os.replace(temporary_path, path)
