"""The page's sections on what was held equal and what the arms are."""

from __future__ import annotations

import json
from typing import Any

from tuneoff.analysis.figures import metric_name, option_text
from tuneoff.encoding import markdown as escaped
from tuneoff.report import units
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report
from tuneoff.report.sections import search
from tuneoff.report.wording import join
from tuneoff.search.space import LEARNING_RATE


def protocol(report: Report) -> str:
    """Lists every setting, with the values that `auto` and null stand for; other nulls set no limit and are left
    out."""
    asked, selected_by = report.protocol, report.study.selected_by
    policies = join([policy.policy for policy in report.environments.precision])
    model = report.data.model if report.data else None
    null_texts = {"clip_norm": "never clipped", "dropout": "as pretrained"}
    written = asked.model_dump(mode="json")
    settings: dict[str, Any] = {key: null_texts.get(key) if value is None else value for key, value in written.items()}
    settings = {key: value for key, value in settings.items() if value is not None and key != "select_metric"}
    if selected_by:
        settings["select"] = f"best by validation {metric_name(selected_by)}"
    if policies:
        settings["precision"] = f"{asked.precision}: {policies}"
    if model is not None and model.attention:
        kernels = f"{model.attention} in training, {model.evaluation_attention} in evaluations"
        settings["attention"] = f"{asked.attention}: {kernels}"
    if asked.search is not None:
        settings["search"] = search.settings_text(asked.search)
        for name, candidates in asked.search.space.items():
            settings[name] = (
                f"searched for every arm, {search.candidates_text(candidates)}; what was chosen: see Methods"
            )
    seeds = ", ".join(map(str, settings.pop("seeds")))
    rows = [["seeds", seeds], *([key.replace("_", " "), escaped(f"{value}")] for key, value in settings.items())]
    for key, value in report.study.task_options.items():
        if value is not None:
            shown = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else option_text(value)
            rows.append([escaped(f"{report.study.task}: {key.replace('_', ' ')}"), escaped(shown)])
    return "## Protocol\n\nHeld equal for every method.\n\n" + grid(["setting", "value"], rows, ":---")


_RATE_FROM = {"search": "searched", "protocol": "one for all", "study": "set", "default": "default"}


def methods(report: Report) -> str:
    """Lists the arms with their options, where their learning rates come from, and their findings."""
    rows = []
    for entry in report.methods:
        rate = "– (nothing is trained)"
        if entry.learning_rate is not None and entry.learning_rate_from is not None:
            rate = f"{units.rate(entry.learning_rate)} ({_RATE_FROM[entry.learning_rate_from]})"
        per_seed = entry.searched_per_seed
        if LEARNING_RATE in per_seed:
            rate = f"{', '.join(map(units.rate, per_seed[LEARNING_RATE]))} (searched, by seed)"
        options_set = {key: value for key, value in entry.options.items() if value is not None}
        options_set |= entry.searched_settings | {
            key: " / ".join(map(option_text, values)) for key, values in per_seed.items() if key != LEARNING_RATE
        }
        options = ", ".join(
            f"{key.replace('_', ' ') if key in entry.searched_settings else key} {option_text(value)}"
            for key, value in options_set.items()
        )
        findings = join(list(dict.fromkeys(finding.name for finding in entry.findings)))
        rows.append(
            [
                escaped(entry.method),
                escaped(entry.method_name),
                rate,
                escaped(options) or "–",
                escaped(findings) or "–",
            ]
        )
    return "## Methods\n\n" + grid(["arm", "method", "learning rate", "options", "findings"], rows, ":---")
