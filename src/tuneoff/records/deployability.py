"""What became of a trained model in each form in which it may be deployed: `deployability.json`, beside its record."""

from __future__ import annotations

from pydantic import Field

from tuneoff.config.base import Frozen
from tuneoff.config.deployability import FORMS, Form
from tuneoff.records.record import Environment, Inference, Metric, PredictionsInfo

DEPLOYABILITY_VERSION = 1


class FormResult(Frozen):
    """One form of a trained model, scored on the trial's test rows."""

    form: Form = Field(description="which form")
    works: bool = Field(description="whether it could be made, loaded and scored")
    reason: str = Field("", description="why it does not work; else empty")
    metrics: tuple[Metric, ...] = Field((), description="test scores that its predictions allow")
    predictions: PredictionsInfo | None = Field(None, description="its file of test predictions")
    weights_bytes: int | None = Field(None, description="files of weights of this form on disk")
    base_bytes: int | None = Field(
        None, description="files of weights of the base model that it needs besides; 0 where it needs none"
    )
    inference: Inference = Field(Inference(), description="its speed, measured as the trial's")
    peak_memory_bytes: int | None = Field(None, description="peak while it was scored, loading not counted")
    notes: tuple[str, ...] = Field((), description="what to know of how it was made or measured")
    missing: dict[str, str] = Field(default_factory=dict, description="figure -> why it is null")
    environment: Environment | None = Field(None, description="machine and software that measured it")


class Deployability(Frozen):
    """The forms of one trial's trained model."""

    deployability_version: int = Field(DEPLOYABILITY_VERSION, description="version of this format")
    trial: str = Field(description="the trial's id")
    weights: dict[str, str] = Field(
        description="file in `weights/` -> its SHA-256 when this was measured; results of other weights do not count"
    )
    forms: tuple[FormResult, ...] = Field(description="the forms that were tried, in their usual order")

    def form(self, name: str) -> FormResult | None:
        """Returns a form's result; None where it was not tried."""
        return next((result for result in self.forms if result.form == name), None)

    def with_result(self, result: FormResult) -> Deployability:
        """Returns the same with one form's result added, or put in the place of an earlier one."""
        results = {each.form: each for each in self.forms} | {result.form: result}
        return self.model_copy(update={"forms": tuple(results[form] for form in FORMS if form in results)})
