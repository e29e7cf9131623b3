"""One seed for everything that is random in a trial, and the state of all of it."""

from __future__ import annotations

import random

import numpy as np
import torch

from tuneoff.config.base import Frozen


def seed_all(seed: int) -> None:
    """Seeds Python, NumPy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class RandomState(Frozen):
    """The state of all generators of one process: Python's and NumPy's (Mersenne twisters), PyTorch's on the CPU and
    on the process's GPU, in hexadecimal digits."""

    python: tuple[int, tuple[int, ...], float | None]
    numpy: tuple[tuple[int, ...], int, int, float]
    cpu: str
    cuda: str | None

    @classmethod
    def of(cls, device: torch.device) -> RandomState:
        """Returns the state now."""
        numpy_state = np.random.get_state(legacy=False)
        assert isinstance(numpy_state, dict)
        twister = numpy_state["state"]
        return cls(
            python=random.getstate(),
            numpy=(
                tuple(int(word) for word in twister["key"]),
                int(twister["pos"]),
                int(numpy_state["has_gauss"]),
                float(numpy_state["gauss"]),
            ),
            cpu=_digits(torch.get_rng_state()),
            cuda=_digits(torch.cuda.get_rng_state(device)) if device.type == "cuda" else None,
        )

    def restore(self, device: torch.device) -> None:
        """Puts all generators back into this state."""
        random.setstate(self.python)
        key, position, has_gauss, gauss = self.numpy
        np.random.set_state(("MT19937", np.array(key, dtype=np.uint32), position, has_gauss, gauss))
        torch.set_rng_state(_bytes(self.cpu))
        if self.cuda is not None:
            torch.cuda.set_rng_state(_bytes(self.cuda), device)


def _digits(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _bytes(digits: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(bytes.fromhex(digits)), dtype=torch.uint8)
