"""What a file is by its first bytes, whatever it is called.

A pickle can run code when it is opened, so none ever is.
"""

from __future__ import annotations

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz")
"""Endings of files that are pickles or may hold one; none of them is opened."""

_BEGINNINGS = {
    b"\x80": "a pickle",
    b"pk\x03\x04": "a zip archive, as Excel and torch.save write them",
    b"\x1f\x8b": "compressed with gzip",
    b"\x93numpy": "a NumPy array",
    b"gguf\x02": "a GGUF file",
    b"gguf\x03": "a GGUF file",
    b"par1\x15": "a Parquet file",
    b"version https://git-lfs": "a Git LFS pointer; `git lfs pull` fetches the file itself",
    b"<!doctype html": "a page of HTML",
    b"<html": "a page of HTML",
}
"""In lower case; none begins a table of text."""


def recognise(begins: bytes) -> str:
    """Returns a description of the file type that begins with these bytes; empty where it is not known."""
    lower = begins.lower()
    return next((kind for beginning, kind in _BEGINNINGS.items() if lower.startswith(beginning)), "")
