"""What a model said that others run and that was asked over a network. Every key is described in docs/record.md."""

from __future__ import annotations

from pydantic import Field

from tuneoff.config.base import Frozen


class Reply(Frozen):
    """What a served model said to one request, as it is kept beside the trial. It holds no key and no header."""

    request: str = Field(description="SHA-256 of the address and of what was sent")
    text: str = Field(description="what it wrote")
    finish: str = Field("", description="why it stopped, in its own word: `stop`, `length`, …")
    log_probability: float | None = Field(
        None, description="nats of the words that were asked about, where their likelihood was asked for"
    )
    input_tokens: int | None = Field(None, description="tokens that were read, as the server counts them")
    output_tokens: int | None = Field(None, description="tokens that were written, likewise")
    seconds: float = Field(description="from sending the request to the whole answer, over the network")
    tries: int = Field(1, description="how often it was sent until it was answered")
    model: str = Field("", description="name of the model, as the server gives it")
    time: str = Field(description="UTC, ISO 8601")


class Served(Frozen):
    """What a trial asked of a model that others run."""

    url: str = Field(description="address that was asked")
    model: str = Field(description="name of the model, as the arm gives it")
    answering_models: tuple[str, ...] = Field((), description="names of the models that answered, as the server says")
    examples: int = Field(description="examples that were answered")
    requests: int = Field(description="requests that were answered; equal ones count once")
    found: int = Field(
        0,
        description="of these, how many other trials of the study or of its series had sent; their tokens and seconds "
        "count here too",
    )
    repeated: int = Field(0, description="requests that were sent again after a failure, and may have been charged")
    input_tokens: int | None = Field(None, description="tokens read in all; null where the server does not count them")
    output_tokens: int | None = Field(None, description="tokens written in all, likewise")
    unparsed: int | None = Field(
        None, description="answers that name no class by the rule, and count as wrong; null for a task that writes text"
    )
    cut: int = Field(0, description="answers that were cut off because they took all their tokens")
    file: str = Field("", description="replies, inside the trial's folder; empty before they are written")
    sha256: str = Field("", description="checksum of the file")
