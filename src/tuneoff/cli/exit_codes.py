"""What a command ends with: its exit codes, and what it reports to the code that runs it."""

from __future__ import annotations

from dataclasses import dataclass

OK, TRIAL_FAILED, BAD_INPUT, NOTHING_FITS, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = {
    OK: "all went well",
    TRIAL_FAILED: "a trial failed (the report is written all the same), an essential part is missing (`doctor`), or "
    "tuneoff met an error of its own",
    BAD_INPUT: "the command line, the study or its data cannot be used; nothing was trained",
    NOTHING_FITS: "`recommend` has no answer: no method keeps the limits, or none has a score that can be weighed",
    INTERRUPTED: "interrupted; finished trials are kept and the same command continues",
}


@dataclass
class State:
    """What a command reports to the code that runs it.

    Attributes:
        traceback: show where an error came from.
        exit_code: exit code of a command that ends without an error.
        error_code: exit code of a `TuneoffError`; becomes 1 once training has begun.
    """

    traceback: bool = False
    exit_code: int = OK
    error_code: int = BAD_INPUT
