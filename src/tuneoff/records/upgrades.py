"""Records, specifications and forecasts of earlier versions, in the form of this one."""

from __future__ import annotations

from typing import Any


def upgraded_record(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a record as plain data in the form of this version; what its own version did not keep is null, with the
    reason.

    A record of an unknown version is returned unchanged.
    """
    if body.get("record_version") == 1:
        body = _with_seals(body)
    if body.get("record_version") == 2:
        body = {**body, "record_version": 3, "spec": upgraded_spec(body.get("spec"))}
    return body


def upgraded_spec(spec: Any) -> Any:
    """Returns a trial's specification as plain data in today's words: `final` was `verdict` once."""
    if isinstance(spec, dict) and spec.get("purpose") == "verdict":
        spec = {**spec, "purpose": "final"}
    return with_former_values(spec)


def with_former_values(stored: Any) -> Any:
    """Returns a stored study or trial with the values that keys stood for before they could be chosen."""
    former: dict[str, dict[str, Any]] = {
        "execution": {"engine": "plain"},
        "protocol": {"batching": "random", "frozen_dropout": True},
    }
    if not isinstance(stored, dict) or not all(isinstance(stored.get(part, {}), dict) for part in former):
        return stored
    return {**stored, **{part: {**values, **stored.get(part, {})} for part, values in former.items()}}


def _with_seals(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of version 1 in the form of version 2."""
    reason = "written by an earlier version of tuneoff, which did not keep it"
    missing = {**body.get("missing", {}), **dict.fromkeys(("kept_files", "spec.fingerprints"), reason)}
    body = {**body, "record_version": 2, "kept_files": None, "missing": missing}
    model = body.get("model") or {}
    checksum = str(model.get("checksum"))
    if checksum.startswith("commit:"):
        # For a model of the hub, version 1 stored the commit instead of a checksum.
        body["model"] = {**model, "checksum": None, "commit": checksum.removeprefix("commit:")}
        missing["model.checksum"] = reason
    return body


def upgraded_forecast(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a forecast as plain data in the words of this version; one of an unknown version unchanged."""
    if body.get("forecast_version") != 1:
        return body
    arms = body.get("rows", {})
    if isinstance(arms, dict):
        arms = {label: _upgraded_arm(arm) if isinstance(arm, dict) else arm for label, arm in arms.items()}
    return {**{key: value for key, value in body.items() if key != "rows"}, "forecast_version": 2, "arms": arms}


def _upgraded_arm(arm: dict[str, Any]) -> dict[str, Any]:
    """Returns an arm's forecast of version 1, which called a profile `probed` and an estimate `counted`."""
    words = {"probed": "profile", "counted": "estimate"}
    steps = {"probed": "profiled_steps", "counted": "estimated_steps"}
    renamed = {steps.get(key, key): value for key, value in arm.items()}
    if arm.get("how") in words:
        renamed["how"] = words[arm["how"]]
    if isinstance(missing := arm.get("missing"), dict):
        renamed["missing"] = {words.get(figure, figure): reason for figure, reason in missing.items()}
    return renamed
