"""Run the kernel of the segments on plain arrays; and the same least squares by numpy, the long way."""

from dataclasses import dataclass

import numpy as np

from services.darkref.combine.segments import STEP_LIMIT, sums_of_curve
from services.darkref.kernels import segments as kernels

UNUSABLE = 1 | 2 | 32
JUMP = 4


@dataclass
class Fitted:
    """Results of the kernel; `planes` by the names of their rows, `counts` are its tally."""

    mean: np.ndarray
    error: np.ndarray
    n_valid: np.ndarray
    planes: np.ndarray
    counts: np.ndarray

    def plane(self, name):
        return self.planes[getattr(kernels, name)]


def fit(samples, quality=None, curve=None, gain=2.0, step_limit=STEP_LIMIT, most=64, shared=None, skip=None):
    """Fit (integrations, groups, pixels), DN."""
    n, groups, pixels = samples.shape
    curve = np.zeros(groups) if curve is None else curve
    mean, error = np.full((2, groups, pixels), 7, np.float32)
    result = Fitted(
        mean,
        error,
        np.full((groups, pixels), 7, np.uint16),
        np.full((kernels.PLANES, pixels), np.nan, np.float32),
        np.zeros(4, np.int64),
    )
    kernels.fit_pixels(
        samples.astype(np.float32),
        np.zeros(samples.shape, np.uint8) if quality is None else quality,
        sums_of_curve(curve),
        curve,
        gain,
        n + 1 if shared is None else shared,
        step_limit,
        most,
        np.zeros(pixels, bool) if skip is None else skip,
        (0, pixels),
        mean,
        error,
        result.n_valid,
        result.planes,
        result.counts,
    )
    return result


@dataclass
class Dense:
    """The least squares of one pixel, with a column for each group but the first and each segment."""

    mean: np.ndarray
    variance: np.ndarray
    n_valid: np.ndarray
    reached: int
    scatter: float
    freedom: int
    model: np.ndarray
    model_variance: np.ndarray


def dense(samples, quality, curve=None):
    """Solve (integrations, groups) by `numpy.linalg.lstsq`; variances are for noise of 1 DN."""
    n, groups = samples.shape
    labels, count = np.full((n, groups), -1), 0
    for i in range(n):
        at = -1
        for g in range(groups):
            if quality[i, g] & UNUSABLE:
                at = -1
                continue
            if at < 0 or quality[i, g] & JUMP:
                at, count = count, count + 1
            labels[i, g] = at
    links = np.array(
        [np.sum((labels[:, g] >= 0) & (labels[:, g] == labels[:, g - 1])) for g in range(groups)]
    )
    links[0] = np.sum(labels[:, 0] >= 0)
    reached = next((g for g in range(1, groups) if links[g] == 0), groups)
    links[reached:] = 0
    at = [(i, g) for i in range(n) for g in range(reached) if labels[i, g] >= 0]
    values = np.array([samples[i, g] for i, g in at], float)
    levels = np.zeros((len(at), count))
    steps = np.zeros((len(at), reached - 1))
    for row, (i, g) in enumerate(at):
        levels[row, labels[i, g]] = 1
        if g:
            steps[row, g - 1] = 1
    design = np.hstack([steps, levels])
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    mean, variance = np.zeros((2, groups))
    mean[1:reached] = solution[: reached - 1]
    variance[1:reached] = np.diag(np.linalg.pinv(design.T @ design))[: reached - 1]
    terms = [np.arange(groups, dtype=float)] + ([] if curve is None else [curve])
    lines = np.hstack([np.stack([[term[g] for _, g in at] for term in terms], axis=1), levels])
    model = np.linalg.lstsq(lines, values, rcond=None)[0][: len(terms)]
    return Dense(
        mean,
        variance,
        links,
        reached,
        float(np.sum((values - design @ solution) ** 2)),
        len(at) - int(rank),
        model,
        np.linalg.pinv(lines.T @ lines)[: len(terms), : len(terms)],
    )
