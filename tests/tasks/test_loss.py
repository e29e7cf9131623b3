"""The loss over a vocabulary is torch's own, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tuneoff.tasks import _loss
from tuneoff.tasks._loss import summed_cross_entropy

CHUNK = 20


@pytest.mark.parametrize("rows", [1, CHUNK, CHUNK + 1, 3 * CHUNK - 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradient_are_those_of_cross_entropy(
    rows: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loss, "CPU_CHUNK", CHUNK * 50)
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, 7, generator=generator)
    targets = torch.randint(0, 50, (rows,), generator=generator)
    found = []
    for own in (False, True):
        weight = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
        logits = (hidden @ weight.T * 3).to(dtype)
        loss = summed_cross_entropy(logits, targets) if own else cross_entropy(logits.float(), targets, reduction="sum")
        (loss / 7).backward()  # type: ignore[no-untyped-call]
        found.append((loss.detach(), weight.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


def test_logits_that_were_overwritten_are_not_used_again() -> None:
    logits = torch.randn(3, 5, requires_grad=True) * 1.0
    targets = torch.tensor([0, 1, 4])
    loss = summed_cross_entropy(logits, targets)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_a_row_of_many_logits_is_a_chunk_of_its_own() -> None:
    logits = torch.randn(2, _loss.CPU_CHUNK + 1)
    expected = cross_entropy(logits, torch.tensor([3, 4]), reduction="sum")
    torch.testing.assert_close(summed_cross_entropy(logits, torch.tensor([3, 4])), expected)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]]).requires_grad_() * 1.0
    loss = summed_cross_entropy(logits, torch.tensor([1]))
    assert float(loss.detach()) == pytest.approx(2e4)
