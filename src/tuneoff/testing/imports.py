"""What a new process has imported: plug-ins are listed and asked without heavy packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def find_imported(code: str, modules: Sequence[str] = ("torch", "transformers")) -> list[str]:
    """Runs code in a new process; returns those of the modules that it has imported then."""
    code += f"\nimport sys; print(*[name for name in {tuple(modules)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()
