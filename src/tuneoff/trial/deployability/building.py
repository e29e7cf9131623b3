"""Writes a trained model's files in one form."""

from __future__ import annotations

from pathlib import Path

from tuneoff import registry
from tuneoff.config.base import Frozen
from tuneoff.config.deployability import AS_TRAINED, Form
from tuneoff.errors import StoreError
from tuneoff.interfaces import Method
from tuneoff.store import TrialStore
from tuneoff.trial import early
from tuneoff.trial.deployability.loading import base_files
from tuneoff.trial.export import export
from tuneoff.trial.inference import restore
from tuneoff.trial.modeling.precision import choose_device

WEIGHTS = frozenset({".safetensors", ".onnx", ".data"})
"""Suffixes of files that hold weights."""
NO_GGUF = (
    "no maintained package converts to GGUF: the converter is a script in the source tree of llama.cpp, which no "
    "package index has"
)


class Built(Frozen):
    """A form's files.

    Attributes:
        weights_bytes: its files of weights.
        base_bytes: those of the base model that it needs besides, 0 where it needs none; None where there are none,
            because its weights are random.
        notes: what to know of how it was made.
    """

    weights_bytes: int
    base_bytes: int | None
    notes: tuple[str, ...] = ()


def build(place: TrialStore, form: Form, scratch: Path, device: str) -> Built:
    """Writes a form's files to a folder of its name.

    Args:
        place: the trial.
        form: which form.
        scratch: a folder for all forms of this trial; the merged model in it is made once.
        device: where the model is put for it.

    Raises:
        StoreError: if the trained model has no such form.
        TuneoffError: whatever else keeps it from being made.
    """
    folder, notes = scratch / form, tuple[str, ...]()
    needs_base = True
    if form == AS_TRAINED:
        return Built(weights_bytes=_weights_bytes(place.weights), base_bytes=_base_bytes(place))
    if form == "plain":
        needs_base = export(place, folder, merged=False, device=device)["kind"] != "plain model"
    elif form == "lora":
        _write_lora(place, folder, device)
    elif form == "gguf":
        raise StoreError(NO_GGUF)
    else:
        merged, needs_base = merge(place, scratch, device), False
        if form in ("int8", "int4"):
            from tuneoff.trial.deployability.quantising import quantise_folder

            notes = quantise_folder(place, merged, folder, bits=8 if form == "int8" else 4, device=device)
        elif form == "onnx":
            from tuneoff.trial.deployability.onnx_graph import write_graph

            notes = write_graph(place, merged, folder)
    return Built(weights_bytes=_weights_bytes(folder), base_bytes=_base_bytes(place) if needs_base else 0, notes=notes)


def merge(place: TrialStore, scratch: Path, device: str) -> Path:
    """Returns the folder of the merged model; writes it where it is not there yet.

    Raises:
        StoreError: if the method cannot be merged.
    """
    folder = scratch / "merged"
    if not folder.is_dir():
        export(place, folder, merged=True, device=device)
    return folder


def _write_lora(place: TrialStore, folder: Path, device: str) -> None:
    spec, _ = early.finished(place)
    method = registry.methods()[spec.method].create(spec.options)
    assert isinstance(method, Method)
    _, attached, _, _ = restore(place, choose_device(device), whole=True)
    folder.mkdir()
    method.write_lora(attached, folder)


def _weights_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in WEIGHTS)


def _base_bytes(place: TrialStore) -> int | None:
    """Returns the size of the base model's files of weights; None where they are random."""
    files = base_files(place)
    if files is None:
        return None
    folder = Path(files.path)
    weights = [folder / files.gguf_file] if files.gguf_file else folder.glob("*.safetensors")
    return sum(path.stat().st_size for path in weights)
