"""Metrics that a study may add to those of its task, one file each."""
