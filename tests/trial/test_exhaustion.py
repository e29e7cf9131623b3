"""Running out of memory is told from every other failure, wherever it happens and whatever it was turned into."""

from __future__ import annotations

import errno
import signal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tuneoff.errors import OutOfMemory, UnsupportedModel
from tuneoff.trial import requests
from tuneoff.trial.data import load as trial_data
from tuneoff.trial.exhaustion import exhausted, loading

if TYPE_CHECKING:
    from trial_helpers import MakePlace

pytest_plugins = ("trial_fixtures",)

CUDA_LIBRARY = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
MAPPING = RuntimeError("unable to mmap 4096 bytes from file <model.safetensors>: Cannot allocate memory (12)")


def raised(fail: Any) -> BaseException:
    """What a call raises."""
    with pytest.raises(Exception) as caught:
        fail()
    return caught.value


def wrapped(cause: BaseException, suppressed: bool) -> BaseException:
    """A loader's error in the place of another."""

    def load() -> None:
        try:
            raise cause
        except Exception as error:
            if suppressed:
                raise UnsupportedModel("it cannot be loaded") from None
            raise UnsupportedModel("it cannot be loaded") from error

    return raised(load)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        CUDA_LIBRARY,
        MAPPING,
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        raised(lambda: torch.empty(1 << 60)),
        raised(lambda: np.ones(1 << 58)),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}"[:40],
)
def test_every_shape_is_recognised_and_survives_its_way(error: BaseException) -> None:
    assert exhausted(error) is error
    for suppressed in (False, True):
        assert exhausted(wrapped(error, suppressed)) is error
    assert requests._describe(wrapped(error, True))["type"] == "OutOfMemory"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no column 'text'"),
        OSError(errno.ENOSPC, "No space left on device"),
        UnsupportedModel("the label 'out of memory' stands twice"),
        wrapped(ValueError("a bad header"), False),
    ],
)
def test_no_other_failure_is_taken_for_it(error: BaseException) -> None:
    assert exhausted(error) is None


def test_what_was_being_loaded_is_said_once() -> None:
    with pytest.raises(OutOfMemory) as caught, loading("the model"), loading("the rows"):
        raise MemoryError("12 GiB")
    assert caught.value.message == "out of memory while loading the rows: 12 GiB"
    assert "train_rows" in caught.value.hint


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("what", ["the rows", "the base model"])
def test_a_trial_that_runs_out_while_loading_says_so(
    what: str, make_place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **more: Any) -> Any:
        torch.empty(1 << 60)

    place = make_place("head")
    if what == "the rows":
        monkeypatch.setattr(trial_data, "read_rows", fail)
    else:
        monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", fail)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        reply = requests.answer("trial", {"folder": str(place.folder), "device": "cpu"})
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert reply["error"]["type"] == "OutOfMemory"
    assert reply["error"]["message"].startswith(f"out of memory while loading {what}: ")
