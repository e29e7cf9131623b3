"""What a chart shows of a trial's use of the machine."""

from __future__ import annotations

from pathlib import Path

from record_helpers import World, build_store, small_study
from tuneoff.analysis.machine_use import POINTS, machine_use
from tuneoff.analysis.results import gather
from tuneoff.records.record import Utilisation


def test_samples_are_thinned_to_means_of_equal_stretches(tmp_path: Path) -> None:
    count = 4 * POINTS
    many = Utilisation(
        interval_seconds=1.0,
        seconds=tuple(float(second) for second in range(count)),
        process_cpu_percent=tuple(float(second % 2) for second in range(count)),
        resident_bytes=tuple(range(count)),
    )
    few = many.model_copy(
        update={"seconds": (1.0, 2.0), "process_cpu_percent": (5.0, 7.0), "resident_bytes": (), "gpu_percent": ()}
    )
    world = World(changes={"full": {"utilisation": many}, "lora": {"utilisation": few}})
    results = gather(build_store(tmp_path / "study", small_study("majority", "full", "lora"), world))
    full, lora = machine_use(results.arms)
    assert (full.method, full.seed, len(full.seconds)) == ("full", 0, POINTS)
    assert set(full.series) == {"process_cpu_percent", "resident_bytes"}
    assert set(full.series["process_cpu_percent"]) == {0.5}
    assert (full.seconds[0], full.series["resident_bytes"][0]) == (1.5, 1.5)
    assert (lora.seconds, lora.series) == ((1.0, 2.0), {"process_cpu_percent": (5.0, 7.0)})
