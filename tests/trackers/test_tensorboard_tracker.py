"""TensorBoard's files, read back with TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracker_helpers import play, read_back
from tuneoff.store import StudyStore
from tuneoff.testing.trackers import EVENTS, PNG, failed_record, follow, make_study, skip_without

pytest_plugins = ("tracker_fixtures",)
pytestmark = pytest.mark.usefixtures("no_outlets")

READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
found = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()
tags = found.Tags()
hparams = {}
for tag, content in found.PluginTagToContent("hparams").items() if "_hparams_/session_start_info" in str(tags) else ():
    data = plugin_data_pb2.HParamsPluginData.FromString(content)
    if data.HasField("session_start_info"):
        hparams["start"] = {
            name: value.string_value if value.HasField("string_value") else value.number_value
            for name, value in data.session_start_info.hparams.items()
        }
    if data.HasField("session_end_info"):
        hparams["status"] = data.session_end_info.status
print(json.dumps({
    "scalars": {tag: [[p.step, p.value] for p in found.Scalars(tag)] for tag in tags["scalars"]},
    "images": {tag: len(found.Images(tag)[0].encoded_image_string) for tag in tags["images"]},
    "texts": {
        tag: found.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in tags["tensors"] if tag.startswith("report/")
    },
    "hparams": hparams,
}))
"""
SUCCESS, FAILURE = 1, 2


def _read(store: StudyStore, run: str) -> Any:
    return read_back(READ, store.trackers.folder("tensorboard") / run)


@pytest.fixture(autouse=True)
def _installed() -> None:
    skip_without("tensorboard")


def test_curves_figures_and_configuration_are_there(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    assert follow(store, ["tensorboard"], lambda listener: play(store, trial, listener)) == []
    found = _read(store, trial.id)
    scalars = found["scalars"]
    assert scalars["train/loss"] == [[2, 1.5], [4, 0.5]]
    assert scalars["train/gradient_norm"] == [[2, 2.5], [4, 2.5]]
    assert scalars["validation/accuracy"] == [[2, 0.5], [4, 0.75]]
    assert scalars["system/resident_bytes"] == [[0, float(512 << 20)]]
    assert scalars["final/test/accuracy"] == [[126, pytest.approx(0.94)]]
    assert found["hparams"]["start"]["method"] == "lora"
    assert found["hparams"]["start"]["learning_rate"] == trial.learning_rate
    assert found["hparams"]["start"]["protocol.seeds"] == "[0]"
    assert found["hparams"]["status"] == SUCCESS


def test_plots_and_report_are_in_a_run_of_their_own(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    follow(store, ["tensorboard"], lambda listener: play(store, trial, listener))
    found = _read(store, "study")
    assert found["images"] == {"report/pareto": len(PNG)}
    assert found["texts"] == {"report/report": "# What came of it\n"}


def test_a_repeated_trial_is_one_run_with_the_curves_of_the_last_attempt(tmp_path: Path) -> None:
    store, (trial,) = make_study(tmp_path / "study")
    record = failed_record(trial)
    follow(store, ["tensorboard"], lambda listener: play(store, trial, listener, record=record))
    assert _read(store, trial.id)["hparams"]["status"] == FAILURE
    again = [*EVENTS[:3], {**EVENTS[3], "step": 1, "loss": 9.0}, *EVENTS[3:]]
    follow(store, ["tensorboard"], lambda listener: play(store, trial, listener, events=again))
    folders = [path.name for path in store.trackers.folder("tensorboard").iterdir() if path.is_dir()]
    assert sorted(folders) == sorted([trial.id, "study"])
    assert _read(store, trial.id)["scalars"]["train/loss"] == [[1, 9.0], [2, 1.5], [4, 0.5]]
