"""Plug-ins for tuneoff, a file each."""
