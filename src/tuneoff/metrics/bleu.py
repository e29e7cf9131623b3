"""BLEU: Papineni et al. 2002; by sacrebleu: Post 2018, A Call for Clarity in Reporting BLEU Scores."""

from tuneoff.metrics._sacrebleu import metric

plugin = metric(
    "bleu",
    "BLEU",
    "BLEU",
    "BLEU of the whole split by sacrebleu's defaults (13a tokens, exponential smoothing), 0 to 100.",
)
