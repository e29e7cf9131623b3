"""The forms in which a trained model may be deployed, and in which it is measured again."""

from __future__ import annotations

from typing import Any, Literal, get_args

from tuneoff.errors import did_you_mean

Form = Literal["as_trained", "merged", "plain", "lora", "int8", "int4", "onnx", "gguf"]
AS_TRAINED: Form = "as_trained"
FORMS: tuple[Form, ...] = get_args(Form)
TITLES: dict[Form, str] = {
    "as_trained": "as trained",
    "merged": "merged",
    "plain": "without tuneoff",
    "lora": "as plain LoRA",
    "int8": "8-bit weights",
    "int4": "4-bit weights",
    "onnx": "ONNX",
    "gguf": "GGUF",
}
"""Form -> its name for people."""
MEANINGS: dict[Form, str] = {
    "as_trained": "loaded as `predict` loads it; what the others are compared with, so it is always measured",
    "merged": "the method folded into the base model's weights, loaded as a plain model of transformers",
    "plain": "the export's own code run on each row's text on the CPU, by a process that cannot import tuneoff",
    "lora": "the method's update as a plain LoRA in PEFT's layout, only where that is exactly the same function",
    "int8": "the merged model with linear layers in 8 bits (LLM.int8 of bitsandbytes)",
    "int4": "the merged model with linear layers in 4 bits (NF4 of bitsandbytes)",
    "onnx": "the merged model as an ONNX graph, run by onnxruntime on the CPU",
    "gguf": "the merged model as a GGUF file",
}
"""Form -> what it is."""


def read_forms(value: Any) -> Any:
    """Returns the forms that a study's key or a caller names, in their usual order: true is all of them, false none.

    Raises:
        ValueError: for a form that there is none of.
    """
    if isinstance(value, bool) or value is None:
        return FORMS if value else ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        raise ValueError(f"expected true, or a list of forms: {', '.join(FORMS)}")
    for name in names:
        if name not in FORMS:
            raise ValueError(f"no form {name!r}{did_you_mean(str(name), FORMS)}; forms: {', '.join(FORMS)}")
    return tuple(form for form in FORMS if form in names or (names and form == AS_TRAINED))
