"""Statistics of a study, pure: from values over seeds and examples to intervals, tests, ties and a verdict.

    sample.py     Sample: what one method scored, seeds × test examples
    crossed.py    the error of a mean over seeds and examples: intervals and tests
    two_errors.py  the sum of those two errors: its tail, and many intervals at once
    all_pairs.py  the differences of all pairs, measured together
    moderated.py  what all pairs tell together of how much seeds differ
    multiple.py   Shaffer's correction, and groups of methods that cannot be told apart
    ranking.py    who is the best where methods have different seeds
    joint.py      draws of all methods' true means together: how often each would be the best
    estimates.py  one method's mean and its interval
    pairs.py      two methods' difference: interval, test, seeds that would settle it
    discordant.py two models that answer nearly alike: an interval by the answers that differ
    sequential.py p-values that hold over several looks, while seeds are added
    racing.py     which methods need more seeds, look by look
    power.py      the smallest difference that a study finds
    proportions.py  shares of one test set that are known by their count alone
    equivalence.py  whether a method is shown to be as good as another, within a margin
    verdict.py    Verdict: all of it for a study
    learning_law.py  a law of how errors fall with training rows, with fewer parameters than sizes
    learning_curve.py  of several sizes: laws with their errors, what more rows bring, where methods cross
    average_ranks.py  of several data sets: average ranks and the critical difference

Nothing here reads a record or knows a metric. `benchmarks/calibration.py` checks by simulation that it is calibrated.
"""

from tuneoff.analysis.statistics.equivalence import Equivalence, equivalence, most_better, most_worse
from tuneoff.analysis.statistics.estimates import LEVEL, Estimate, Interval, estimate, estimate_positive
from tuneoff.analysis.statistics.joint import best_probabilities, draw_means
from tuneoff.analysis.statistics.multiple import letters, shaffer, tie_groups
from tuneoff.analysis.statistics.pairs import SEEDS_REQUIRED, Pair
from tuneoff.analysis.statistics.racing import Race, replay
from tuneoff.analysis.statistics.ranking import Ranking, rank
from tuneoff.analysis.statistics.sample import Sample
from tuneoff.analysis.statistics.sequential import Looks
from tuneoff.analysis.statistics.verdict import Verdict, tie_letters, verdict

__all__ = [
    "LEVEL",
    "SEEDS_REQUIRED",
    "Equivalence",
    "Estimate",
    "Interval",
    "Looks",
    "Pair",
    "Race",
    "Ranking",
    "Sample",
    "Verdict",
    "best_probabilities",
    "draw_means",
    "equivalence",
    "estimate",
    "estimate_positive",
    "letters",
    "most_better",
    "most_worse",
    "rank",
    "replay",
    "shaffer",
    "tie_groups",
    "tie_letters",
    "verdict",
]
