"""TensorBoard: event files, written without TensorFlow."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tuneoff.interfaces import StudyInfo, Tracker, TrialInfo, flatten
from tuneoff.records.record import Status

STUDY_RUN = "study"
"""Name of the run that takes the report's plots and text."""
PNG_SIZE = slice(16, 24)
"""Where a PNG file says its width and height, two big-endian whole numbers."""


class TensorBoard(Tracker):
    """Scalars for the curves, the HParams dashboard for configurations and final figures, plots as images."""

    title = "TensorBoard"
    summary = "Event files in the study's folder, one run per trial."
    extra = "'tuneoff[tensorboard]'"
    requires: ClassVar[tuple[str, ...]] = ("tensorboard",)

    def start(self, study: StudyInfo, folder: Path) -> None:
        # Imported before the first trial, so that no trial is disturbed by it.
        from tensorboard.plugins.hparams import summary_v2  # noqa: F401
        from tensorboard.summary.writer import event_file_writer  # noqa: F401

        self._folder = folder
        self._writers: dict[str, Any] = {}

    def begin_trial(self, trial: TrialInfo) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.plugins.hparams import summary_v2

        is_continued = any((self._folder / trial.name).glob("events.out.*"))
        self._writers[trial.id] = self._writer(trial.name)
        if is_continued:
            # TensorBoard then forgets what an earlier attempt told of later steps.
            self._write(trial.id, 0, session_log=SessionLog(status=SessionLog.START))
        self._write(trial.id, 0, summary=summary_v2.hparams_pb(flatten(trial.configuration), trial_id=trial.name))

    def log(self, trial: TrialInfo, step: int, metrics: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(trial.id, step, summary=Summary(value=values))

    def end_trial(
        self, trial: TrialInfo, step: int, status: str, metrics: Mapping[str, float], record: Path | None
    ) -> None:
        if metrics:
            self.log(trial, step, metrics)
        self._write(trial.id, step, summary=_session_end(status == Status.COMPLETED.value))
        self._writers.pop(trial.id).close()

    def artifacts(self, files: Sequence[Path]) -> None:
        """Writes the plots as images and the report as text; other files have no place in TensorBoard."""
        self._writers[STUDY_RUN] = self._writer(STUDY_RUN)
        for file in files:
            if file.suffix == ".png":
                self._write(STUDY_RUN, 0, summary=_image(file))
            elif file.suffix == ".md":
                self._write(STUDY_RUN, 0, summary=_text(file.stem, file.read_text(encoding="utf-8")))
        self._writers.pop(STUDY_RUN).close()

    def finish(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, run: str) -> Any:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        return EventFileWriter(str(self._folder / run))

    def _write(self, run: str, step: int, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writers[run].add_event(Event(wall_time=time.time(), step=step, **content))
        self._writers[run].flush()


def _session_end(completed: bool) -> Any:
    """Returns the summary that tells the HParams dashboard that a trial has ended, and how."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    status = api_pb2.Status.Value("STATUS_SUCCESS" if completed else "STATUS_FAILURE")
    session_info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
    summary_metadata = metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=session_info)
    )
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=summary_metadata, tensor=metadata.NULL_TENSOR)
    return Summary(value=[value])


def _image(file: Path) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    data = file.read_bytes()
    width, height = struct.unpack(">II", data[PNG_SIZE])
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=data)
    return Summary(value=[Summary.Value(tag=f"report/{file.stem}", image=image)])


def _text(name: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

    plugin = SummaryMetadata.PluginData(plugin_name="text", content=TextPluginData(version=0).SerializeToString())
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    value = Summary.Value(tag=f"report/{name}", metadata=SummaryMetadata(plugin_data=plugin), tensor=tensor)
    return Summary(value=[value])


plugin = TensorBoard
