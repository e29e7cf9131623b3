"""A hook of MkDocs: pages stand in the site where they stand in the repository, so that links hold in both."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = ("*.md", "docs/*.md", "examples/*/README.md", "benchmarks/**/README.md")
FILES = (
    "LICENSE",
    "docs/*.png",
    *(f"benchmarks/**/{name}" for name in ("*.png", "*.csv", "*.json", "*.yaml", "report.md")),
)
"""What pages show or link to."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces the files of docs/ by the repository's pages and what they link to; keeps those of the theme."""
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)
    theme = [file for file in files if not Path(file.abs_src_path or "").is_relative_to(docs)]
    paths = {path.relative_to(root).as_posix() for pattern in (*PAGES, *FILES) for path in root.glob(pattern)}
    own = [File(path, str(root), config.site_dir, config.use_directory_urls) for path in sorted(paths)]
    return Files([*theme, *own])
