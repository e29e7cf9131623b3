"""The contract of a method: what is trained and how it is attached.

A method is one file whose attribute `plugin` is a subclass of `Method` (it trains), `Baseline` (it does
not) or `ServedModel` (others run the model). It sees the model and, of the task, only a `TaskView`; it cannot
touch data order, batches, budget or evaluation, so it cannot be unfair. Import torch and peft inside functions:
options are checked and listed without them.

What the contract tests assert for every method, on five architectures: attaching changes only the declared
parameters' `requires_grad`; training changes only trainable parameters; save → attach → load gives the same
logits; merge gives the same logits or `mergeable` is false; a plain LoRA gives the same logits or a reason; counts by
role add up; under bf16 autocast frozen weights of linear layers may be bfloat16 (see `Attached.reads`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from tuneoff.interfaces.examples import Example
from tuneoff.interfaces.model import Attached, StartRows, TaskView
from tuneoff.interfaces.proposals import Proposal, ProposalSetting
from tuneoff.interfaces.task import Produces, Task
from tuneoff.records.prior import Prior
from tuneoff.records.record import Finding, Prediction
from tuneoff.records.served import Reply, Served

if TYPE_CHECKING:
    import torch
    from torch import nn

RATE_REACH = 20.0
"""Factor by which a range of learning rates reaches below and above its centre: 2.6 decades in all. Of ten methods on
AG News (`benchmarks/studies/ag-news-minilm`) the best rate lay within a factor of six of the default."""
WEIGHTS_FILE = "trained.safetensors"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""What PEFT writes of an adapter."""


class MethodOptions(BaseModel):
    """Base of a method's options: frozen, unknown keys refused. Describe every field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class LearningRate:
    """A method's default rate, and the range of its search around it.

    All ranges are equally wide, so that equally many trials search every method equally densely.

    Attributes:
        center: the default, in the middle of the range on a logarithmic scale.
        over_full: how many times full fine-tuning's rate it is in the fits that were published (`search/rates.py`);
            None where none was.
    """

    center: float
    over_full: float | None = None

    @property
    def low(self) -> float:
        return float(f"{self.center / RATE_REACH:.3g}")

    @property
    def high(self) -> float:
        return float(f"{self.center * RATE_REACH:.3g}")


@dataclass(frozen=True)
class PlainCode:
    """Python for whoever has transformers and PEFT alone: how the base model becomes the trained one.

    Attributes:
        imports: lines that import what is needed.
        lines: change `model`, the base model with the task's head, by the files in `FOLDER`, which `save` wrote.
        peft: whether PEFT loads these files as an adapter and does with them what the method does.
    """

    imports: tuple[str, ...]
    lines: tuple[str, ...]
    peft: bool = False


@dataclass(frozen=True)
class Reference:
    """Where a method was published, as a paper that compares it cites it.

    Attributes:
        key: what cites it in LaTeX, e.g. `hu2022lora`; letters and digits.
        authors: as BibTeX takes them: `Hu, Edward J. and Shen, Yelong`.
        title: without LaTeX's commands.
        year: of publication.
        arxiv: its number there; empty where it has none.
        url: where else it stands.
    """

    key: str
    authors: str
    title: str
    year: int
    arxiv: str = ""
    url: str = ""


O = TypeVar("O", bound=MethodOptions)  # noqa: E741 - the field's usual letter


class AnyMethod(ABC, Generic[O]):
    """What methods and baselines share: a description and options."""

    title: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    references: ClassVar[tuple[Reference, ...]] = ()
    """What a paper cites that compares this method."""
    trains: ClassVar[bool]
    uses_model: ClassVar[bool] = True
    mergeable: ClassVar[bool] = False
    shardable: ClassVar[bool] = False
    """Whether its weights may be spread over several devices (FSDP): it changes nothing in the model's modules and
    keeps the default `save` and `load`."""
    prefix: ClassVar[bool] = False
    """Whether its virtual tokens are keys and values, which take positions of an encoder-decoder's decoder; others take
    the encoder's."""
    needs: ClassVar[Literal["", "head", "no_head", "decoder", "biases"]] = ""
    """What task or model must have: a head that the task adds, no such head, a decoder, biases inside the blocks (most
    decoders of today have none). `attach` refuses others; this field is for suggesting methods without a model."""
    resumable: ClassVar[bool] = True
    """Whether training may continue in another process from its trained parameters alone: nothing else changes in it,
    neither in `after_step` nor elsewhere. Where it may not, an interrupted trial begins anew."""
    usual: ClassVar[bool] = False
    """Whether most studies begin with it: `init` writes a row of it that runs, and one of every other as a comment."""
    learning_rate: ClassVar[LearningRate] = LearningRate(0.0)
    prior: ClassVar[Prior | None] = None
    """Prior of quality with the default options; None where none is stated. `tuneoff recommend --before` uses it."""
    Options: ClassVar[type[MethodOptions]] = MethodOptions

    def __init__(self, options: O) -> None:
        self.options = options

    @classmethod
    def create(cls, options: dict[str, Any]) -> AnyMethod[Any]:
        """Returns the method with these options, after checking them."""
        return cls(cls.Options.model_validate(options))  # type: ignore[arg-type]

    @property
    def cited(self) -> tuple[Reference, ...]:
        """Returns the references of the method with these options."""
        return self.references

    def propose(self, setting: ProposalSetting) -> tuple[Proposal, ...]:
        """Proposes values for options, and for settings of the study, by published rules; those that keep what there
        is are told too. `tuneoff init` and `tuneoff recommend --before` show them and change nothing."""
        return ()

    @property
    def virtual_tokens(self) -> int:
        """Returns how many positions of the model the method itself takes."""
        return 0

    @property
    def demonstrations(self) -> int:
        """Returns how many solved training examples are shown before each example."""
        return 0

    def why_unfit(self, task: Task) -> str:
        """Explains why the method cannot do a task here, whatever the model; empty where it can. It is asked before
        anything runs, perhaps before the task is fitted."""
        return ""


class Baseline(AnyMethod[O]):
    """A baseline that needs no model: predicts from the training rows and the input's text alone."""

    uses_model = False
    trains = False
    produces: ClassVar[Produces]
    """What it predicts; it fits tasks that produce the same."""

    @abstractmethod
    def predict(self, task: Task, train: Sequence[Example], examples: Sequence[Example]) -> list[Prediction]:
        """Returns one prediction per example, in order."""


@dataclass(frozen=True)
class Questions:
    """What a trial gives to a served model to be asked about.

    Attributes:
        solved: training examples to show before each example, drawn by the trial's seed.
        examples: those to answer.
        kept: request -> reply, of those that earlier processes of the trial were given; they are not asked for again.
        found: the same of the other trials of the study and of its series.
        keep: takes each new reply as it comes, from any thread, and returns when it is safe.
        tell: takes how many of the requests are answered, and how many there are.
    """

    solved: Sequence[Example]
    examples: Sequence[Example]
    kept: Mapping[str, Reply]
    found: Mapping[str, Reply]
    keep: Callable[[Reply], None]
    tell: Callable[[int, int], None]


@dataclass(frozen=True)
class Answered:
    """What a served model answered.

    Attributes:
        predictions: one for each example, in order.
        seconds: of each example's requests, from sending to the whole answer.
        served: what was asked in all.
        findings: what a reader must know of the answers.
    """

    predictions: list[Prediction]
    seconds: list[float]
    served: Served
    findings: tuple[Finding, ...] = ()


class ServedModel(AnyMethod[O]):
    """A model that others run: it is asked over a network and answers in text.

    Nothing else in tuneoff's trials opens a connection. It is asked by its own trials alone, never for a plan, a
    forecast or a report.
    """

    uses_model = False
    trains = False
    produces: ClassVar[tuple[Produces, ...]]
    """What it can predict; it fits tasks that produce one of these."""

    @abstractmethod
    def ask(self, task: Task, asked: Questions) -> Answered:
        """Asks about the examples, in the words of `Task.prompt_text`.

        Raises:
            EndpointError: where there is no usable answer; replies until then are kept.
        """

    @abstractmethod
    def expected_seconds(self, task: Task, examples: int) -> float:
        """Returns what so many answers of a fitted task are assumed to take, for forecasts, which ask nothing."""


class Method(AnyMethod[O]):
    """A fine-tuning method. The defaults suit a method that trains a subset of the model's own parameters.

    With `trains` false it is a baseline that uses the base model as it is: `attach` freezes everything.
    """

    trains = True

    @abstractmethod
    def attach(self, model: nn.Module, task: TaskView) -> Attached:
        """Adds the trained parameters and sets `requires_grad` on exactly these.

        Must work on the meta device, where parameters are counted.

        Raises:
            UnsupportedModel: if the method cannot take this model; says why.
        """

    @property
    def starts_from_rows(self) -> bool:
        """Returns whether its start is computed from training rows: then `initialise` is called once it is attached."""
        return False

    def initialise(self, attached: Attached, rows: StartRows) -> None:
        """Computes the start of the trained parameters from training rows, before the first step.

        A model whose trained weights are loaded later is not initialised: `load` must not need it.

        Raises:
            UnsupportedModel: if there is no such start for this model or these rows.
        """

    def parameter_groups(self, attached: Attached, weight_decay: float) -> list[dict[str, Any]]:
        """Returns the parameter groups for AdamW. Biases, norms and other vectors get no weight decay.

        A group may carry `learning_rate_ratio`: its rate is that multiple of the trial's.
        """
        trained = [p for p in attached.module.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]

    def after_step(self, attached: Attached, step: int, total_steps: int) -> None:
        """Runs after each optimizer step (`step` counts from 1), for schedules of the rank and the like."""

    def save(self, attached: Attached, folder: Path) -> None:
        """Writes all that must be stored besides the base model; `folder` exists and is empty."""
        save_weights(
            {n: p.detach().cpu().contiguous() for n, p in attached.module.named_parameters() if p.requires_grad}, folder
        )

    def load(self, attached: Attached, folder: Path) -> None:
        """Loads what `save` wrote into a freshly attached model.

        Raises:
            StoreError: if the files do not fit the model.
        """
        from safetensors.torch import load_file

        from tuneoff.errors import StoreError

        saved = load_file(folder / WEIGHTS_FILE)
        trained = {n: p for n, p in attached.module.named_parameters() if p.requires_grad}
        if saved.keys() != trained.keys():
            mismatched = sorted(saved.keys() ^ trained.keys())[:3]
            raise StoreError(f"{folder} does not fit this model and method: {', '.join(mismatched)}")
        import torch

        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(saved[name])

    def why_no_start(self, attached: Attached, folder: Path) -> str:
        """Explains why training cannot go on from what a folder holds, so that it does the same as where it was
        trained; empty where it can. Works on the meta device: names and shapes are read, and no weights.

        Args:
            attached: the method, freshly attached.
            folder: what `save` wrote, or what somebody else did with the method's library.
        """
        if not (folder / WEIGHTS_FILE).is_file():
            return f"it holds no {WEIGHTS_FILE}, which this method keeps: it is of another method"
        shapes = {n: tuple(p.shape) for n, p in attached.module.named_parameters() if p.requires_grad}
        return misfit(saved_shapes(folder / WEIGHTS_FILE), shapes)

    def plain_code(self, attached: Attached, task: TaskView) -> PlainCode:
        """Returns code that loads what `save` wrote without tuneoff, for an export's card.

        By default it loads tensors by name.
        """
        return PlainCode(
            imports=("from safetensors.torch import load_file",),
            lines=(
                f'odd = model.load_state_dict(load_file(f"{{FOLDER}}/{WEIGHTS_FILE}"), strict=False).unexpected_keys',
                "assert not odd, odd",
            ),
        )

    def write_lora(self, attached: Attached, folder: Path) -> None:
        """Writes the method's update, and the head, as a plain LoRA in PEFT's layout for the base model as it is.

        Only where that is the same function for every input: an approximation is refused. `folder` exists and is empty.

        Raises:
            StoreError: why no LoRA is equal to what was trained.
        """
        from tuneoff.errors import StoreError

        raise StoreError("what it trains is no product of two thin matrices beside frozen linear layers")

    def merge(self, attached: Attached) -> nn.Module:
        """Returns the plain transformer with the method's update merged into its weights; only if `mergeable`."""
        return attached.model


def save_weights(trained: dict[str, torch.Tensor], folder: Path) -> None:
    """Writes tensors by name, as `Method.load` reads them; they must be contiguous and on the CPU."""
    from safetensors.torch import save_file

    save_file(trained, folder / WEIGHTS_FILE)


def is_trained_folder(folder: Path) -> bool:
    """Tells whether a folder holds trained weights: a PEFT adapter, or those of a method that keeps tensors by name."""
    return (folder / WEIGHTS_FILE).is_file() or all((folder / name).is_file() for name in ADAPTER_FILES)


def saved_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Reads names and shapes of the tensors in a file of safetensors, and no weights.

    Raises:
        StoreError: if it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    from tuneoff.errors import StoreError

    try:
        with safe_open(file, framework="np") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{file} cannot be read: {error}") from None


def misfit(saved: Mapping[str, tuple[int, ...]], own: Mapping[str, tuple[int, ...]]) -> str:
    """Explains in what saved tensors differ from a method's own, by names and shapes; empty where they are alike."""
    lacking, more = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    odd = sorted(name for name in own.keys() & saved.keys() if own[name] != saved[name])
    if odd:
        return f"{odd[0]} has the shape {saved[odd[0]]} there and {own[odd[0]]} here ({len(odd)} differ so)"
    if lacking or more:
        parts = [
            f"{verb} {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}"
            for verb, names in (("it lacks", lacking), ("it also has", more))
            if names
        ]
        return "; ".join(parts)
    return ""
