"""The page's section with a few test examples and what every arm wrote."""

from __future__ import annotations

from tuneoff.analysis.figures import metric_name
from tuneoff.encoding import markdown as escaped
from tuneoff.report import columns
from tuneoff.report.markup import grid
from tuneoff.report.schema import Report


def section(report: Report) -> str:
    """Shows what every arm generated, beside source and reference. All of it is untrusted text, so escaped."""
    if not report.examples:
        return ""
    metric = metric_name(report.study.primary_metric or "")
    explanation = (
        "Test examples taken evenly from those whose source was kept, whatever was written for them; each arm with its "
        f"lowest seed, and the example's own {metric}. Long texts are cut; whole ones stand in the trials' predictions."
    )
    lines = ["## Examples", explanation]
    for example in report.examples:
        rows = [["*reference*", escaped(example.reference), ""]]
        for output in example.outputs:
            value = "–" if output.value is None else columns.score(output.value, unit=report.study.primary_unit)
            rows.append([escaped(output.method), escaped(output.output) or "*(empty)*", value])
        lines.append(f"### Test example {example.index}\n\nSource: {escaped(example.source)}")
        lines.append(grid(["arm", "text", metric], rows, ":---"))
    return "\n\n".join(lines)
