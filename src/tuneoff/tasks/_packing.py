"""Several examples in one row of a batch, none of which sees another.

Positions begin anew with every example, and transformers keeps attention within runs of positions where no mask is
given. A model that does not is refused when it is first used so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tuneoff.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.interfaces import Batch


def packed(batch: Batch) -> Batch:
    """Puts a batch's examples into fewer rows, none longer than its longest example.

    Args:
        batch: right-padded `input_ids` and `attention_mask`, shape (examples, longest), and `predicts`, row and column
            of each position that predicts, shape (terms, 2).

    Returns:
        The same with (rows, longest) for (examples, longest); `position_ids` of that shape; and `places`, row, first
        column and length of each example, shape (examples, 3).
    """
    import torch

    lengths = batch["attention_mask"].sum(-1).tolist()
    width = batch["input_ids"].shape[1]
    places = _places(lengths, width)
    rows = 1 + max(row for row, _, _ in places)
    ids, mask = (batch[name].new_zeros(rows, width) for name in ("input_ids", "attention_mask"))
    positions = torch.zeros_like(ids)
    for number, (row, start, length) in enumerate(places):
        columns = slice(start, start + length)
        ids[row, columns] = batch["input_ids"][number, :length]
        mask[row, columns] = 1
        positions[row, columns] = torch.arange(length)
    where = torch.tensor(places)
    example, column = batch["predicts"].unbind(-1)
    predicts = torch.stack([where[example, 0], where[example, 1] + column], dim=-1)
    return {
        **batch,
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions,
        "predicts": predicts,
        "places": where,
    }


def unpacked(batch: Batch) -> Batch:
    """Returns a packed batch with an example a row again, for methods whose virtual tokens stand before each."""
    import torch

    rows, starts, lengths = batch["places"].unbind(-1)
    columns = torch.arange(int(lengths.max()), device=rows.device)
    mask = columns[None] < lengths[:, None]
    ids = batch["input_ids"][rows[:, None], (starts[:, None] + columns).clamp(max=batch["input_ids"].shape[1] - 1)]
    row, column = batch["predicts"].unbind(-1)
    inside = (row[:, None] == rows) & (column[:, None] >= starts) & (column[:, None] < starts + lengths)
    example = inside.long().argmax(-1)
    rest = {name: tensor for name, tensor in batch.items() if name not in ("position_ids", "places")}
    return {
        **rest,
        "input_ids": ids * mask,
        "attention_mask": mask.long(),
        "predicts": torch.stack([example, column - starts[example]], dim=-1),
    }


def _places(lengths: Sequence[int], width: int) -> list[tuple[int, int, int]]:
    """Returns row, first column and length of each example: the longest first, each in the first row with room."""
    filled: list[int] = []
    places = [(0, 0, 0)] * len(lengths)
    for example in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[example]
        row = next((r for r, used in enumerate(filled) if used + length <= width), len(filled))
        if row == len(filled):
            filled.append(0)
        places[example] = (row, filled[row], length)
        filled[row] += length
    return places


def refuse_crossing(model: nn.Module) -> None:
    """Checks that a model keeps examples in one row apart: another first one must not move what follows.

    Raises:
        UnsupportedModel: if it does not.
    """
    import torch

    any_model: Any = model
    device = any_model.get_input_embeddings().weight.device
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]], device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            one, other = (
                any_model(input_ids=torch.tensor([row], device=device), position_ids=positions, use_cache=False).logits
                for row in ([1, 2, 3, 4, 5, 6], [3, 1, 2, 4, 5, 6])
            )
            alone = any_model(input_ids=torch.tensor([[4, 5, 6]], device=device), use_cache=False).logits
    finally:
        model.train(was_training)
    apart = torch.equal(one[:, 3:], other[:, 3:]) and torch.allclose(one[:, 3:], alone, atol=0.02, rtol=0.02)
    if not apart:
        raise UnsupportedModel(
            f"{type(model).__name__} does not keep several examples in one row apart",
            hint="Set task.packing: false.",
        )
