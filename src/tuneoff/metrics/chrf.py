"""chrF: Popović 2015, chrF: character n-gram F-score for automatic MT evaluation; by sacrebleu."""

from tuneoff.metrics._sacrebleu import metric

plugin = metric("chrf", "CHRF", "chrF", "chrF2 of the whole split by sacrebleu's defaults, 0 to 100.")
