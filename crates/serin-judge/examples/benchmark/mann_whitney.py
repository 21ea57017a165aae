"""How long scipy.stats.mannwhitneyu takes for the metrics on standard input; the median of so many looks, in milliseconds."""

import json
import statistics
import sys
import time

from scipy.stats import mannwhitneyu

looks, metrics = json.load(sys.stdin)
# A minute without requests comes as null.
metrics = [[[value for value in side if value is not None] for side in sides] for sides in metrics]


def look():
    for control, experiment in metrics:
        mannwhitneyu(experiment, control, method="asymptotic")


def milliseconds():
    start = time.perf_counter()
    look()
    return (time.perf_counter() - start) * 1e3


look()
print(statistics.median(milliseconds() for _ in range(looks)))
