"""Prices of devices that stand in a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneoff.config.spec import PricesSpec
from tuneoff.errors import StudyError
from tuneoff.files import special_kind
from tuneoff.planning.problem_places import problems_of
from tuneoff.planning.yaml import Lines, read_yaml


def read_prices(path: str | Path) -> PricesSpec:
    """Reads a file of prices.

    Raises:
        StudyError: if it cannot be read, or with every problem found, each with its line.
    """
    raw, lines = _read(path)
    try:
        return PricesSpec.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error, lines, lambda _: PricesSpec.model_fields)
        raise StudyError(problems, origin=str(path)) from None


def with_prices(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns plain study data whose `prices` are keys; where they are a file's name, those of the file.

    Raises:
        StudyError: likewise.
    """
    named = raw.get("prices")
    if not isinstance(named, str):
        return dict(raw)
    return {**raw, "prices": read_prices(named).model_dump()}


def _read(path: str | Path) -> tuple[Mapping[str, Any], Lines]:
    place = Path(path)
    hint = f"A file of prices is YAML with the keys {', '.join(PricesSpec.model_fields)}; examples/prices.yaml is one."
    if kind := special_kind(place):
        raise StudyError(f"prices: {path} is {kind}, not a file", hint=hint)
    try:
        text = place.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise StudyError(f"prices: {path} is not UTF-8 text", hint=hint) from None
    except ValueError:
        raise StudyError("prices: no name of a file holds a NUL character") from None
    except OSError as error:
        raise StudyError(f"prices: {path} cannot be read: {error.strerror}", hint=hint) from None
    raw, lines = read_yaml(text, str(path))
    if not isinstance(raw, Mapping):
        raise StudyError(f"prices: {path} holds no keys", hint=hint)
    return raw, lines
