"""The command `tuneoff`, and `python -m tuneoff`."""

from __future__ import annotations

import sys


def main() -> int:
    """Runs the command line; returns its exit status. An interrupt while it is still being loaded is one, too."""
    try:
        from tuneoff.cli.main import main as run
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    return run()


if __name__ == "__main__":
    sys.exit(main())
