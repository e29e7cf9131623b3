"""The page's sections on machine and software, trials that failed, and how to repeat the study."""

from __future__ import annotations

import shlex

from tuneoff.encoding import fenced
from tuneoff.encoding import markdown as escaped
from tuneoff.report import units
from tuneoff.report.schema import Report


def environment(report: Report) -> str:
    """Lists machines, precision, versions and the base model; empty while no trial is completed."""
    environments = report.environments
    if not environments.machines:
        return ""
    lines = []
    for m in environments.machines:
        names = ", ".join(dict.fromkeys(escaped(name) for name in (m.device_name, m.processor) if name))
        lines.append(
            f"- {m.device}: {names}, {m.cores} cores, {m.threads} threads, "
            f"{units.size(m.memory_bytes)} of memory; {m.platform}, Python {m.python}"
            + ("; freed memory given back at once (`execution.release_memory`)" if m.release_memory else "")
        )
    for policy in environments.precision:
        error = policy.matmul_relative_error
        error_text = f"; measured error of a matrix product {error:.1e}" if error is not None else ""
        lines.append(f"- Precision {policy.policy}: {escaped(policy.description)}{error_text}")
    versions = ", ".join(f"{name} {version}" for name, version in environments.versions.items())
    lines.append(f"- Versions: {versions}" + (f"; commit {environments.commit}" if environments.commit else ""))
    model = report.data.model if report.data else None
    if model is not None:
        source = "random weights" if model.random_weights else f"SHA-256 {model.checksum}"
        lines.append(f"- Model: {escaped(model.source)}, {escaped(model.architecture)}, {model.dtype}, {source}")
    return "## Machine and software\n\n" + "\n".join(lines)


def failures(report: Report, folder: str) -> str:
    """Lists the trials that did not complete, with the end of their logs and how to run them again; empty where all
    did. `folder` is that of `markdown.render`."""
    if not report.failures:
        return ""
    place = "" if folder else " (`STUDY` stands for this study's folder)"
    lines = [
        "## Trials that did not complete",
        f"The same command runs them again, and nothing that is finished{place}:",
        fenced([f"tuneoff run {shlex.quote(folder or 'STUDY')}"], "sh"),
    ]
    for failure in report.failures:
        cause = escaped(failure.cause) or "no cause recorded"
        lines.append(f"### {escaped(failure.id)}\n\n{failure.status}: {cause}")
        if failure.log_tail:
            lines.append(fenced(failure.log_tail, "text"))
    return "\n\n".join(lines)


def repeat(report: Report, folder: str, report_folder: str) -> str:
    """Says how to run the study again; the arguments are those of `markdown.render`."""
    devices = list(dict.fromkeys(m.device for m in report.environments.machines))
    device = f" --device {devices[0].partition(':')[0]}" if len(devices) == 1 else ""
    study = shlex.quote(f"{folder or 'STUDY'}/{report_folder}/study.yaml")
    place = "" if folder else " (`STUDY` stands for this study's folder)"
    return (
        "## How to repeat\n\n"
        "`study.yaml` beside this page is the whole study, every default filled in. Paths in it are meant from the "
        f"folder where the study was run, so repeat it there{place}:\n\n"
        f"{fenced([f'tuneoff run {study} --out repeated{device}'], 'sh')}\n\n"
        "Per trial: `results.csv`. Per method: `methods.csv`. Per pair: `pairs.csv`. "
        "Everything here as data: `report.json`."
    )
