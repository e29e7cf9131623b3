"""The command `tuneoff`, and `python -m tuneoff`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line and returns its exit status. Handles an interrupt even while the command is still being
    imported."""
    try:
        from tuneoff.cli.main import main as run
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
