"""Which checkpoints of a trial are kept."""

from __future__ import annotations

from pathlib import Path

from tuneoff.store.checkpoints import MANIFEST, Checkpoints


def _save(checkpoints: Checkpoints, processor: str, step: int) -> list[tuple[str, int]]:
    """Saves one; returns those that are kept then, the newest first: processor and step."""
    checkpoints.save(lambda folder: (folder / "state.json").write_text("{}"), {"processor": processor}, step)
    manifests = [checkpoint.manifest() for checkpoint in checkpoints.newest_first()]
    return [(manifest.identity["processor"], manifest.step) for manifest in manifests]


def test_a_further_checkpoint_of_another_processor_is_kept_until_it_is_passed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (800, 900):
        _save(checkpoints, "old", step)
    assert _save(checkpoints, "new", 100) == [("new", 100), ("old", 900)]
    assert _save(checkpoints, "new", 200) == [("new", 200), ("new", 100), ("old", 900)]
    assert _save(checkpoints, "new", 850) == [("new", 850), ("new", 200), ("old", 900)]
    assert _save(checkpoints, "new", 900) == [("new", 900), ("new", 850)]


def test_one_processor_keeps_the_two_newest_whatever_their_steps(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (900, 100):
        _save(checkpoints, "one", step)
    assert _save(checkpoints, "one", 200) == [("one", 200), ("one", 100)]
    (checkpoints.newest_first()[0].folder / MANIFEST).write_text("{")
    assert checkpoints.newest_step() == -1, "it cannot be read"
