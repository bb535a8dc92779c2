"""Run flight mode's kernel on plain arrays, as a job does: in windows of groups and parts of pixels."""

from dataclasses import dataclass

import numpy as np

from services.darkref.combine.methods import pedestal_free_mean
from services.darkref.combine.windows import BandState, Combined, group_positions
from services.darkref.kernels.blocks import first_bad_group
from shared.nircam.dq import BAD_GROUP_FLAGS, GroupFlag
from shared.ramps.window_plan import Place
from shared.ramps.window_reader import Window


@dataclass
class Result:
    """In native numbers; `line`, `moment` and `falls` are the running sums.

    `clipped` has for each (group, pixel) what the clip removed: how many values, the mean and the variance of
    all, and the variance without the farthest.
    """

    mean: np.ndarray
    error: np.ndarray
    n_valid: np.ndarray
    kept: int
    unmeasured: int
    single: int
    moment: np.ndarray
    line: np.ndarray
    pedestal: np.ndarray
    falls: np.ndarray
    clipped: dict


def window_of(samples, first_group=0):
    """Return samples, (integrations, groups, pixels), as a window that begins at a group."""
    groups = slice(first_group, first_group + samples.shape[1])
    place = Place(slice(0, len(samples)), groups, slice(0, 1))
    return Window(place, 0, np.ascontiguousarray(samples, ">f4").view(np.uint32))


def first_bad_groups(groupdq, step=None, dtype=np.uint8, flags=BAD_GROUP_FLAGS):
    """First bad groups of (integrations, groups, pixels), found in windows of `step` groups."""
    first = np.full((len(groupdq), groupdq.shape[2]), np.iinfo(dtype).max, dtype)
    for n, plane in enumerate(groupdq):
        for start in range(0, len(plane), step or len(plane)):
            part = np.ascontiguousarray(plane[start : start + (step or len(plane))])
            first_bad_group(part, flags.mask, start, first[n])
    return first


def ends_of(groupdq, dtype=np.uint8):
    """First group of (integrations, groups, pixels) with another bad flag than JUMP_DET."""
    bad = groupdq & (BAD_GROUP_FLAGS & ~GroupFlag.JUMP_DET).mask != 0
    return np.where(bad.any(axis=1), bad.argmax(axis=1), np.iinfo(dtype).max).astype(dtype)


def combine(samples, groupdq=None, step=None, parts=None, dtype=np.uint8, sigma=3.0):
    """Combine (integrations, groups, pixels), DN."""
    n, ngroups, pixels = samples.shape
    groupdq = np.zeros(samples.shape, np.uint8) if groupdq is None else groupdq
    state = BandState(
        first_bad_groups(groupdq, step, dtype),
        group_positions(ngroups),
        np.zeros((n, pixels)),
        np.zeros((5, pixels)),
        np.full((n, pixels), 7, np.float32),
        ends=ends_of(groupdq, dtype),
        before=np.full((n, pixels), 7, np.float32),
        falls=np.zeros((3, pixels), np.float32),
    )
    clipped = {}
    mean, error = np.full((2, ngroups, pixels), 7, np.uint32)
    n_valid = np.full((ngroups, pixels), 7, np.uint16)
    tally = np.zeros(4, np.int64)
    for start in range(0, ngroups, step or ngroups):
        groups = slice(start, start + (step or ngroups))
        window = window_of(samples[:, groups], start)
        into = Combined(mean[groups], error[groups], n_valid[groups])
        for part in parts or [slice(0, pixels)]:
            tally += pedestal_free_mean(window, state, sigma, part, into)
        for at, values in into.clipped:
            for (group, pixel, removed), numbers in zip(at.tolist(), values.tolist(), strict=True):
                clipped[start + group, pixel] = (removed, *numbers)
    assert tally[0] == n_valid.sum()
    floats = [bits.view(">f4").astype(np.float32) for bits in (mean, error)]
    return Result(
        *floats,
        n_valid,
        *(int(count) for count in tally[1:]),
        state.moment,
        state.line,
        state.pedestal,
        state.falls,
        clipped,
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
