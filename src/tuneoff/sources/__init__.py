"""Where rows and base models come from: one file per kind of source."""

from tuneoff.checksums import sha256
from tuneoff.sources._benchmarks import BenchmarkTask, benchmark_tasks
from tuneoff.sources._cache import cache_folder
from tuneoff.sources._lookup import (
    fetch_weights,
    find,
    find_model,
    fingerprint,
    local_bytes,
    read_rows,
    splits,
)
from tuneoff.sources._weights import describing_checksums, has_weights

__all__ = [
    "BenchmarkTask",
    "benchmark_tasks",
    "cache_folder",
    "describing_checksums",
    "fetch_weights",
    "find",
    "find_model",
    "fingerprint",
    "has_weights",
    "local_bytes",
    "read_rows",
    "sha256",
    "splits",
]
