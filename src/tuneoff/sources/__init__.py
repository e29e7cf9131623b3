"""Where rows and base models come from: one file per kind of source."""

from tuneoff.checksums import sha256
from tuneoff.sources._cache import cache_folder
from tuneoff.sources.base import ModelFiles, Rows, find, find_model, fingerprint, local_bytes, read_rows

__all__ = [
    "ModelFiles",
    "Rows",
    "cache_folder",
    "find",
    "find_model",
    "fingerprint",
    "local_bytes",
    "read_rows",
    "sha256",
]
