"""Run flight mode's kernel on plain arrays, as a job does: in windows of groups and parts of pixels."""

from dataclasses import dataclass

import numpy as np

from services.darkref.flight import add_ends, pedestal_free_mean
from services.darkref.windows import BandState, Combined, Window


@dataclass
class Result:
    """In native numbers; `line` and `moment` are the running sums."""

    mean: np.ndarray
    error: np.ndarray
    used: np.ndarray
    kept: int
    unmeasured: int
    single: int
    moment: np.ndarray
    line: np.ndarray
    pedestal: np.ndarray


def first_ends(groupdq, step=None, dtype=np.uint8):
    """First unusable groups of (integrations, groups, pixels), found in windows of `step` groups."""
    first = np.full((len(groupdq), groupdq.shape[2]), np.iinfo(dtype).max, dtype)
    for n, flags in enumerate(groupdq):
        for start in range(0, len(flags), step or len(flags)):
            add_ends(np.ascontiguousarray(flags[start : start + (step or len(flags))]), start, first[n])
    return first


def combine(samples, groupdq=None, step=None, parts=None, dtype=np.uint8, sigma=3.0):
    """Combine (integrations, groups, pixels), DN."""
    n, ngroups, pixels = samples.shape
    stored = np.ascontiguousarray(samples, ">f4")
    groupdq = np.zeros(samples.shape, np.uint8) if groupdq is None else groupdq
    first = first_ends(groupdq, step, dtype)
    weights = np.arange(ngroups) - (ngroups - 1) / 2
    state = BandState(
        np.zeros((n, pixels)),
        np.zeros((5, pixels)),
        np.full((n, pixels), 7, np.float32),
    )
    mean, error = np.full((2, ngroups, pixels), 7, np.uint32)
    used = np.full((ngroups, pixels), 7, np.uint16)
    tally = np.zeros(4, np.int64)
    for start in range(0, ngroups, step or ngroups):
        groups = slice(start, start + (step or ngroups))
        window = Window(
            np.ascontiguousarray(stored[:, groups]).view(np.uint32), first, start, weights[groups]
        )
        into = Combined(mean[groups], error[groups], used[groups])
        for part in parts or [slice(0, pixels)]:
            tally += pedestal_free_mean(window, state, sigma, part, into)
    assert tally[0] == used.sum()
    floats = [bits.view(">f4").astype(np.float32) for bits in (mean, error)]
    return Result(
        *floats,
        used,
        *(int(count) for count in tally[1:]),
        state.moment,
        state.line,
        state.pedestal,
    )


def gaussian(n, samples, seed, scale=1000.0):
    """Combine `samples` pixels of n Gaussian values of standard deviation `scale` DN, pedestals 0."""
    rng = np.random.default_rng(seed)
    data = np.zeros((n, 2, samples), np.float32)
    data[:, 1] = rng.standard_normal((n, samples), np.float32) * np.float32(scale)
    ours = combine(data)
    lost = 1 - (ours.kept - n * samples) / (n * samples)
    mean, error = ours.mean[1].astype(np.float64), ours.error[1].astype(np.float64)
    return lost, np.var(mean), np.mean(error**2)
