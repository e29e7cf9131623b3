"""What a study may say of multiple choice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tuneoff.interfaces import TaskOptions
from tuneoff.tasks._prompts import Template


class MultipleChoiceOptions(TaskOptions):
    """Keys of `task` for multiple choice."""

    question: str | None = Field(
        None, description="column that holds the question, or the text to go on with; guessed where obvious"
    )
    context: str | None = Field(
        None, description="column that holds a text that the question is about, put before it; guessed where obvious"
    )
    choices: str | tuple[str, ...] | None = Field(
        None,
        description="column that holds a row's options (a list, or an object with `text` and `label`), or a list of "
        "columns, one an option; guessed where obvious",
    )
    answer: str | None = Field(None, description="column that holds the right option; guessed where obvious")
    answer_is: Literal["auto", "label", "number", "number_from_1", "letter", "text"] = Field(
        "auto",
        description="what an answer is: the option's own `label` in the data, its `number` from 0 or from 1, its "
        "`letter`, or its `text`; `auto`: the only one by which every row of the first split names an option",
    )
    scoring: Literal["likelihood", "head"] = Field(
        "likelihood",
        description="'likelihood': the option that a causal language model finds likeliest after the prompt; 'head': "
        "a fresh head that gives each option, read with the question, a number",
    )
    normalise: Literal["byte", "token", "sum"] = Field(
        "byte",
        description="for likelihood: an option's log-probability is divided by its bytes or its tokens, or is the "
        "`sum`, which favours short options",
    )
    scored: Literal["text", "letter"] = Field(
        "text",
        description="for likelihood: what is scored after the prompt, an option's text or its letter, which the "
        "prompt then shows before it",
    )
    template: str | None = Field(
        None,
        description="for likelihood: the prompt, with {question} once, {context} and other columns by name, and "
        "{choices} for the lettered options; unset: the question, with `Question:` and `Answer:` around it where most "
        "end with a question mark",
    )

    @field_validator("choices")
    @classmethod
    def _several(cls, choices: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if isinstance(choices, tuple) and (len(choices) < 2 or len(set(choices)) < len(choices)):
            raise ValueError("a list of columns names two or more, each once")
        return choices

    @field_validator("template")
    @classmethod
    def _readable(cls, template: str | None) -> str | None:
        names = Template.parse(template).names if template is not None else ["question"]
        if names.count("question") != 1 or len(set(names)) < len(names):
            raise ValueError("it must hold {question} once, and no other name twice")
        return template

    @model_validator(mode="after")
    def _for_likelihood_alone(self) -> MultipleChoiceOptions:
        if self.scoring == "head" and (self.template is not None or self.scored == "letter"):
            raise ValueError("template and scored: letter are used by scoring: likelihood, not by a head")
        if self.scored == "letter" and not self.shows("choices"):
            raise ValueError("scored: letter needs {choices} in the template, else the letters say nothing")
        if self.context is not None and not self.shows("context"):
            raise ValueError("context names a column that the template does not show: put {context} into it")
        return self

    def shows(self, name: str) -> bool:
        """Tells whether the prompt may hold this; where no template is given, the task chooses one that does."""
        return self.template is None or name in Template.parse(self.template).names
