"""Bottleneck adapters, in Houlsby's and in Pfeiffer's placement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tuneoff.interfaces import (
    WEIGHTS_FILE,
    Attached,
    LearningRate,
    Method,
    MethodOptions,
    PlainCode,
    Prior,
    Reference,
    TaskView,
)
from tuneoff.methods._layers import attention_end, feedforward_end
from tuneoff.methods._modules import blocks, freeze, train_head

if TYPE_CHECKING:
    import torch
    from torch import nn


class AdapterOptions(MethodOptions):
    """Options of `adapter`."""

    placement: Literal["houlsby", "pfeiffer"] = Field(
        "pfeiffer", description="houlsby: after attention and feed-forward; pfeiffer: after feed-forward alone"
    )
    reduction_factor: float = Field(16, ge=1, description="hidden size / width of the bottleneck")
    activation: Literal["relu", "gelu", "silu"] = Field("relu", description="non-linearity of the bottleneck")


class Adapter(Method[AdapterOptions]):
    """Trains small bottlenecks with a skip connection after frozen projections.

    A bottleneck is `x + up(activation(down(x)))`, put where a sub-layer ends, before the model's own residual
    sum. `up` starts at zero, so training starts from the base model's function. Not mergeable: it is not
    linear.
    """

    title = "Bottleneck adapter"
    summary = "Trains small bottleneck networks after frozen sub-layers (Houlsby: two per block, Pfeiffer: one)."
    paper = (
        "Houlsby et al. 2019, https://arxiv.org/abs/1902.00751; "
        "Pfeiffer et al. 2021, AdapterFusion, https://arxiv.org/abs/2005.00247"
    )
    references = (
        Reference(
            "houlsby2019parameter",
            "Houlsby, Neil and Giurgiu, Andrei and Jastrzebski, Stanislaw and Morrone, Bruna and "
            "de Laroussilhe, Quentin and Gesmundo, Andrea and Attariyan, Mona and Gelly, Sylvain",
            "Parameter-Efficient Transfer Learning for NLP",
            2019,
            arxiv="1902.00751",
        ),
        Reference(
            "pfeiffer2021adapterfusion",
            "Pfeiffer, Jonas and Kamath, Aishwarya and Rücklé, Andreas and Cho, Kyunghyun and Gurevych, Iryna",
            "AdapterFusion: Non-Destructive Task Composition for Transfer Learning",
            2021,
            arxiv="2005.00247",
        ),
    )
    learning_rate = LearningRate(1e-3)
    prior = Prior(
        0.8,
        1.02,
        "within half a point of full fine-tuning on GLUE in Houlsby et al. 2019; a little behind on summaries and "
        "translation in He et al. 2022, https://arxiv.org/abs/2110.04366; 0.96 for MiniLM on AG News in "
        "benchmarks/studies/ag-news-minilm",
    )
    Options = AdapterOptions

    @property
    def cited(self) -> tuple[Reference, ...]:
        houlsby, pfeiffer = self.references
        return (houlsby,) if self.options.placement == "houlsby" else (pfeiffer,)

    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        any_model: Any = model
        hidden = any_model.config.hidden_size
        freeze(model)
        for block in blocks(model):
            self._insert(feedforward_end(block, hidden), hidden)
            if self.options.placement == "houlsby":
                self._insert(attention_end(block), hidden)
        train_head(model, task)
        return Attached(model, model)

    def plain_code(self, attached: Attached, task: TaskView) -> PlainCode:
        code = super().plain_code(attached, task)
        activation = type(self._activation()).__name__
        return PlainCode(
            imports=("from torch import nn", *code.imports),
            lines=(
                "def through_bottleneck(end, inputs, output):",
                "    if isinstance(output, tuple):",
                "        return through_bottleneck(end, inputs, output[0]), *output[1:]",
                "    return output + end.bottleneck(output)",
                "",
                f'kept = load_file(f"{{FOLDER}}/{WEIGHTS_FILE}")',
                'for name in [name for name in kept if name.endswith(".bottleneck.0.weight")]:',
                '    projection = model.get_submodule(name.removesuffix(".bottleneck.0.weight"))',
                "    width, hidden = kept[name].shape",
                "    projection.bottleneck = nn.Sequential(",
                f"        nn.Linear(hidden, width), nn.{activation}(), nn.Linear(width, hidden)",
                "    )",
                "    projection.register_forward_hook(through_bottleneck)",
                *code.lines,
            ),
        )

    def _activation(self) -> nn.Module:
        from torch import nn

        kinds: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
        return kinds[self.options.activation]()

    def _insert(self, module: nn.Module, hidden: int) -> None:
        """Adds a bottleneck after a module's output.

        The module's own weights keep their names, so the base model's files still load.
        """
        from torch import nn

        width = max(1, int(hidden / self.options.reduction_factor))
        # A bias, which comes last, keeps its type where weights do not.
        last = list(module.parameters())[-1]
        factory: dict[str, Any] = {"device": last.device, "dtype": last.dtype}
        bottleneck = nn.Sequential(
            nn.Linear(hidden, width, **factory), self._activation(), nn.Linear(width, hidden, **factory)
        )
        nn.init.normal_(bottleneck[0].weight, std=0.02)  # type: ignore[arg-type]
        for tensor in (bottleneck[0].bias, bottleneck[2].weight, bottleneck[2].bias):
            nn.init.zeros_(tensor)  # type: ignore[arg-type]
        module.add_module("bottleneck", bottleneck)
        module.register_forward_hook(_through_bottleneck)


def _through_bottleneck(module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):  # experts may tell their router's choices too
        return _through_bottleneck(module, inputs, output[0]), *output[1:]
    adapted: torch.Tensor = output + module.bottleneck(output)  # type: ignore[operator]
    return adapted


plugin = Adapter
