"""Where rows and base models come from: one file per kind of source."""

from tuneoff.sources.base import ModelFiles, Rows, find, find_model, fingerprint, read_rows

__all__ = ["ModelFiles", "Rows", "find", "find_model", "fingerprint", "read_rows"]
