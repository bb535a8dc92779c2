"""How the values of a pixel over all integrations become one: notebook mode and flight mode.

Notebook mode does what the notebook does, by way of ``jwst_reffiles``: groups from the first JUMP_DET of an
integration on are not used, the rest is clipped at 3 standard deviations, SCI is the mean of what is left,
and ERR its population standard deviation.

Flight mode removes each integration's own pedestal, clips with a rule that knows N, and gives the error of
the mean. Per integration and pixel, group 0 is subtracted from all groups: each reset leaves its own pedestal
(kTC noise, some 37 e-), which the superbias cannot contain. SCI and ERR are therefore 0 in group 0. Later
groups carry the read noise of group 0 but no kTC noise, and the mean ramp does not step by a pedestal where
an integration drops out. An integration without a usable group 0 is not used at that pixel. The clip and its
constants are those of `services.darkref.combine.small_samples`; ERR is ``sqrt(f(N) * var / n)``, with the
variance (ddof 1) of the n values that are left, and f(N) for what the clip takes out of a Gaussian's
variance.

In both modes the values of a pixel are sorted by a network of comparators that runs over pixels side by side,
and medians are read off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from services.darkref.combine import small_samples
from services.darkref.combine.small_samples import clip_in_words
from services.darkref.combine.unclipped import ClippedValues
from services.darkref.combine.windows import BandState, Combined
from services.darkref.kernels.pedestal_clip import combine_pedestal_free
from services.darkref.kernels.sigma_clip import combine_window
from services.darkref.kernels.simd import comparators
from services.darkref.reference_file.history import (
    STANDARD_DEVIATION,
    STANDARD_ERROR,
    HistoryInput,
    flight_history,
    notebook_history,
)
from shared.errors import PermanentError
from shared.nircam.dq import BAD_GROUP_FLAGS, GroupFlag
from shared.ramps.window_reader import Window


def sigma_clipped_mean(
    window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
) -> NDArray[np.int64]:
    """Sigma-clip over integrations, then mean and population standard deviation (notebook mode).

    Parameters
    ----------
    window : Window
    state : BandState
        Its sums are carried forward by the groups of the window.
    sigma : float
        Width of the clip on either side, in standard deviations.
    pixels : slice
        Which pixels of the window to combine; threads may combine different ones at the same time.
    into : Combined
        Takes the results.

    Returns
    -------
    ndarray, 1D (3)
        Measurements before and after the clip; (group, pixel) places without any.
    """
    tally = np.zeros(3, np.int64)
    combine_window(
        window.signal,
        state.first_bad_group,
        window.groups.start,
        state.positions[window.groups],
        state.moment,
        state.line,
        comparators(len(window.signal)),
        sigma,
        pixels.start,
        pixels.stop,
        into.mean,
        into.error,
        into.n_valid,
        tally,
    )
    return tally


def pedestal_free_mean(
    window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
) -> NDArray[np.int64]:
    """Subtract each integration's group 0, clip, then mean and standard error (flight mode).

    Parameters
    ----------
    window : Window
    state : BandState
        With what flight mode needs; carried forward by the groups of the window.
    sigma : float
        Width of the clip on either side in standard deviations, where there are enough values for that.
    pixels : slice
        Which pixels of the window to combine; threads may combine different ones at the same time.
    into : Combined
        Takes the results; `error` is the standard error of the mean, 0 where fewer than two values are left.
        Where the clip removed a value, `clipped` has what there was before.

    Returns
    -------
    ndarray, 1D (4)
        Measurements before and after the clip; (group, pixel) places without any, and with just one.
    """
    if state.pedestal is None or state.ends is None or state.before is None or state.falls is None:
        raise ValueError("flight mode needs a band state with pedestals, ends and falls")
    count = len(window.signal)
    tally = np.zeros(5, np.int64)
    # Memory that nothing is written to costs nothing.
    places = window.signal.shape[1] * (pixels.stop - pixels.start)
    clipped_at, clipped = np.empty((places, 3), np.uint32), np.empty((places, 3), np.float32)
    combine_pedestal_free(
        window.signal,
        state.first_bad_group,
        window.groups.start,
        state.positions[window.groups],
        state.moment,
        state.line,
        state.pedestal,
        state.ends,
        state.before,
        state.falls,
        comparators(count),
        sigma,
        small_samples.LEAST_FOR_STD,
        small_samples.reach_in_mads(count),
        small_samples.least_reach(count),
        small_samples.variance_factors(count),
        pixels.start,
        pixels.stop,
        into.mean,
        into.error,
        into.n_valid,
        tally,
        clipped_at,
        clipped,
    )
    number = int(tally[4])
    # Copies: the memory behind them is as large as the window.
    into.clipped.append(ClippedValues(clipped_at[:number].copy(), clipped[:number].copy()))
    return tally[:4]


class Combiner(Protocol):
    """Combines some pixels of a window."""

    def __call__(
        self, window: Window, state: BandState, sigma: float, pixels: slice, into: Combined
    ) -> NDArray[np.int64]:
        """See `sigma_clipped_mean` and `pedestal_free_mean`."""
        ...


@dataclass(frozen=True)
class Mode:
    """A way to combine, and what follows from it for the file.

    Attributes
    ----------
    name : str
        As in product keys and manifests, where notebook mode has always been called ``"reference"``.
    combine : Combiner
    bad_group_flags : GroupFlag
        Flags that end the use of an integration at a pixel.
    bad_group_names : str
        The same flags, for people.
    pedestals : bool
        Whether each integration's own pedestal is removed; `combine` then needs `BandState.pedestal`, and the
        first group is 0.
    flags_pixels : bool
        Whether bad pixels are flagged in DQ. If so, the dark is also compared with the one it replaces: in a
        file that flags none, no pixel could be newly hot.
    errors : str
        What ERR is, for people.
    clip : callable
        Describes in a sentence the clip of so many integrations at a width in sigma.
    history : callable
        Makes HISTORY.
    """

    name: str
    combine: Combiner
    bad_group_flags: GroupFlag
    bad_group_names: str
    pedestals: bool
    flags_pixels: bool
    errors: str
    clip: Callable[[int, float], str]
    history: Callable[[HistoryInput], list[str]]


def _notebook_clip(integrations: int, sigma: float) -> str:
    return f"{sigma:g} {STANDARD_DEVIATION}s about the median, at most 5 rounds."


NOTEBOOK = Mode(
    "reference",
    sigma_clipped_mean,
    GroupFlag.JUMP_DET,
    "bit 4, JUMP_DET",
    pedestals=False,
    flags_pixels=False,
    errors=STANDARD_DEVIATION,
    clip=_notebook_clip,
    history=notebook_history,
)
FLIGHT = Mode(
    "flight",
    pedestal_free_mean,
    BAD_GROUP_FLAGS,
    "bits 1, 2, 4 and 32: DO_NOT_USE, SATURATED, JUMP_DET, PERSISTENCE",
    pedestals=True,
    flags_pixels=True,
    errors=STANDARD_ERROR,
    clip=clip_in_words,
    history=flight_history,
)
_MODES = {"notebook": NOTEBOOK, NOTEBOOK.name: NOTEBOOK, FLIGHT.name: FLIGHT}


def mode_named(name: str) -> Mode:
    """Return a mode by its name, ``"flight"``, ``"notebook"`` or its alias ``"reference"``.

    Raises
    ------
    PermanentError
        If this version does not have it.
    """
    try:
        return _MODES[name]
    except KeyError:
        raise PermanentError(
            f"darkref mode {name!r} does not exist in this version; use --mode flight or --mode notebook "
            "(DARKS_MODE)"
        ) from None
