"""How large is the learning rate at each step? Linear warm-up, then half a cosine to zero."""

import math


def learning_rate_at(step: int, *, total: int, peak: float, warmup: float) -> float:
    """Learning rate of one optimizer step.

    Args:
        step: From 0 to total - 1.
        total: Steps of the whole run.
        peak: Largest rate.
        warmup: Share of all steps that climb to the peak.

    Returns:
        A rate above 0, at most `peak`.

    Source: cosine annealing of Loshchilov and Hutter 2017 (arXiv:1608.03983), one period.
    """
    climb = round(total * warmup)
    if step < climb:
        return peak * (step + 1) / (climb + 1)
    done = (step - climb) / max(1, total - climb)
    return peak * 0.5 * (1 + math.cos(math.pi * done))
