"""Imports PEFT without bitsandbytes, which it would load with every use and which few trials need.

bitsandbytes brings PyTorch's compiler with it: 45 MiB in every process, and a third of the time that importing PEFT
takes. PEFT asks once whether it is installed and remembers the answer, so the answer is "no" until something has
loaded it.
"""

from __future__ import annotations

import sys
from typing import Any

NAME = "bitsandbytes"


def import_peft() -> None:
    """Imports PEFT as where bitsandbytes is not installed; does nothing where either is loaded already."""
    if "peft" in sys.modules or NAME in sys.modules:
        return
    hidden: dict[str, Any] = {NAME: None}
    sys.modules.update(hidden)
    try:
        import peft.import_utils

        peft.import_utils.is_bnb_available()
        peft.import_utils.is_bnb_4bit_available()
    finally:
        del sys.modules[NAME]


def show_bitsandbytes() -> None:
    """Has PEFT ask again where bitsandbytes is loaded by now, as a model with packed weights has it."""
    if NAME not in sys.modules:
        return
    import peft.helpers
    import peft.import_utils

    peft.import_utils.is_bnb_available.cache_clear()
    peft.import_utils.is_bnb_4bit_available.cache_clear()
    helpers: Any = peft.helpers
    helpers.bnb = sys.modules[NAME]
