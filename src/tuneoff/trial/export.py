"""Exports a trained model for readers who have transformers and PEFT only."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tuneoff import registry
from tuneoff.config.data import ModelSpec
from tuneoff.interfaces import Method
from tuneoff.methods._peft import edit_config
from tuneoff.sources import find_model, sha256
from tuneoff.store import TrialStore, give_usual_modes, write_atomically
from tuneoff.trial.card import Base, Exported, Kind, render
from tuneoff.trial.data.commits import as_recorded
from tuneoff.trial.early import refuse_export
from tuneoff.trial.eval_results import write_eval_results
from tuneoff.trial.inference import restore
from tuneoff.trial.modeling.precision import choose_device

NO_HUB_ID = "FOLDER-OF-THE-BASE-MODEL-see-README.md"
"""In an adapter's configuration, where a hub id would stand: the base model is no model of the hub."""


def export(place: TrialStore, out: Path, merged: bool, device: str) -> dict[str, Any]:
    """Writes what a trial trained into a new folder that transformers and PEFT load, with a card that says how.

    What PEFT wraps becomes an adapter in PEFT's layout, head included; what changes the model's own weights and, with
    `merged`, all that can be merged, a plain model of transformers. Each comes with the tokenizer, the configuration,
    labels included, and for a task that writes the settings of writing.

    Raises:
        StoreError: if `out` is not empty, nothing was trained, no weights were kept, or the method cannot be merged.
    """
    spec, record = place.spec(), place.record()
    method_class = registry.methods()[spec.method]
    refuse_export(place, out, merged)
    task, attached, tokenizer, _ = restore(place, choose_device(device), whole=True)
    method = method_class.create(spec.options)
    assert record is not None
    assert isinstance(method, Method)
    plain = merged or (method_class.mergeable and attached.module is attached.model)
    four_bits = bool(getattr(attached.model, "is_loaded_in_4bit", False))
    out.parent.mkdir(parents=True, exist_ok=True)
    # Written completely or not at all, so that the same command works again after a failure.
    temporary_folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        attaching = method.plain_code(attached, task.view(attached.model))
        model: Any = method.merge(attached) if plain else attached.model
        if model.can_generate() and (settings := task.generation_config(model, tokenizer)) is not None:
            model.generation_config = settings
        tokenizer.save_pretrained(str(temporary_folder))
        base = _base(as_recorded(spec, record).model)
        if plain:
            model.save_pretrained(str(temporary_folder))
            kind: Kind = "merged model" if merged else "plain model"
        else:
            kind = "PEFT adapter" if attaching.peft else "trained weights"
            _write_trained(place, model, base, temporary_folder, adapter=attaching.peft)
        exported = Exported(
            kind=kind,
            record=record,
            task=task,
            model=model,
            tokenizer=tokenizer,
            base=base,
            attaching=attaching,
            notes=_notes(four_bits, plain),
        )
        write_atomically(temporary_folder / "README.md", render(exported))
        write_eval_results(record, temporary_folder)
        write_atomically(temporary_folder / "tuneoff-trial.json", spec.model_dump_json(indent=1))
        give_usual_modes(temporary_folder)
        temporary_folder.replace(out)
    finally:
        shutil.rmtree(temporary_folder, ignore_errors=True)
    files = sorted(str(f.relative_to(out)) for f in out.rglob("*") if f.is_file())
    return {"files": files, "folder": str(out), "kind": kind}


def _write_trained(place: TrialStore, model: Any, base: Base, folder: Path, *, adapter: bool) -> None:
    """Copies the weights that the method kept, with the base model's configuration for the task."""
    for file in place.weights.iterdir():
        # PEFT's own card is empty. Without the configuration, nobody mistakes other weights for an adapter of PEFT.
        if file.suffix != ".md" and (adapter or file.name != "adapter_config.json"):
            shutil.copyfile(file, folder / file.name)
    model.config.save_pretrained(str(folder))
    if model.can_generate():
        model.generation_config.save_pretrained(str(folder))
    if adapter:
        name = base.name if base.at_hub else NO_HUB_ID
        edit_config(folder, {"base_model_name_or_path": name, "revision": base.revision})


def _base(spec: ModelSpec) -> Base:
    """Returns where a reader of the export finds the base model."""
    if spec.random_weights:
        return Base()
    files = find_model(registry.sources(), spec)
    if files.hub_id:
        return Base(files.hub_id, at_hub=True, revision=files.hub_commit, gguf_file=files.gguf_file)
    folder = Path(files.path).resolve()
    weights = [folder / files.gguf_file] if files.gguf_file else sorted(folder.glob("*.safetensors"))
    return Base(
        str(folder),
        gguf_file=files.gguf_file,
        checksums=tuple((file.name, sha256(file)) for file in weights),
    )


def _notes(four_bits: bool, plain: bool) -> list[str]:
    """Returns what a reader must know of a model that was trained in four bits."""
    if not four_bits:
        return []
    if plain:
        return ["Trained on a base model in 4 bits, whose weights were turned back to full precision here"]
    return ["The base model was loaded in 4 bits while this was trained; loaded otherwise, outputs differ slightly"]
