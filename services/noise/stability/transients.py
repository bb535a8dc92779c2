"""Reset transients: how the first groups and the first integrations of a set differ from the rest."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.products.noise import Transient

#: Number of first groups that are each compared with the line through the others, and the number of points
#: that this line needs.
_FIRST_GROUPS = 2
_LINE_POINTS = 3
#: Significance from which a transient is called so: 0.3 % of Gaussian deviates are larger.
SIGNIFICANT = 3.0
_ORDINALS = ("first", "second")


def reset_transients(
    medians_dn: ArrayLike, dark_rates: ArrayLike, exposures: Sequence[str], rate_errors: ArrayLike
) -> list[Transient]:
    """Return the transients of a set: of its first groups, and of the first integration of each exposure.

    Parameters
    ----------
    medians_dn : array_like, 2D (integrations, groups)
        Median over science pixels, DN.
    dark_rates, rate_errors : array_like, 1D (integrations)
        Median slope of each integration, and its 1-sigma error from independent pixels, e- per 1000 s.
    exposures : sequence of str
        Exposure of each integration.
    """
    medians, rates = np.asarray(medians_dn, float), np.asarray(dark_rates, float)
    return [
        *first_group_transients(medians),
        _first_integration(
            medians[:, 0] if medians.ndim == 2 and medians.shape[1] else np.full(rates.shape, np.nan),
            exposures,
            "DN",
            "the first integration of each exposure starts",
            np.zeros(rates.shape),
        ),
        _first_integration(
            rates,
            exposures,
            "e-/ks",
            "the dark rate of the first integration of each exposure lies",
            np.asarray(rate_errors, float),
        ),
    ]


def first_group_transients(medians: NDArray[np.float64]) -> list[Transient]:
    """Return how far each of the first groups is off the line through the others, DN.

    Means over integrations. The line is fitted to each integration, which takes out its pedestal and dark
    signal. The error is from the scatter over integrations; of a single one, from that of its line.

    Parameters
    ----------
    medians : ndarray, 2D (integrations, groups)
        DN; integrations with a level that is not finite are left out.
    """
    known = medians[np.isfinite(medians).all(axis=1)]
    groups = medians.shape[1]
    first = min(_FIRST_GROUPS, groups - _LINE_POINTS)
    if first < 1 or not len(known):
        why = (
            f"a line needs {_LINE_POINTS} groups after the first, and these ramps have {groups} groups"
            if first < 1
            else "no integration has a level in every group"
        )
        return [Transient(what="first group", unit="DN", said=f"transients of the first groups: {why}")]
    at = np.arange(first, groups, dtype=float)
    centre, spread = at.mean(), float(np.sum((at - at.mean()) ** 2))
    others = known[:, first:]
    slopes = (others - others.mean(axis=1, keepdims=True)) @ (at - centre) / spread
    transients = []
    for group in range(first):
        off = known[:, group] - (others.mean(axis=1) + slopes * (group - centre))
        if len(off) > 1:
            error = float(off.std(ddof=1)) / math.sqrt(len(off))
        else:
            line = others.mean(axis=1)[:, None] + slopes[:, None] * (at - centre)
            scatter = math.sqrt(float(np.sum((others - line) ** 2)) / (at.size - 2))
            error = scatter * math.sqrt(1 + 1 / at.size + (group - centre) ** 2 / spread)
        name = f"{_ORDINALS[group]} group"
        of = "the integration" if len(off) == 1 else "each integration"
        begins, against = f"the {name} of {of} lies", "the line through the others"
        transients.append(_transient(name, float(off.mean()), error, "DN", begins, against))
    return transients


def _first_integration(
    values: NDArray[np.float64],
    exposures: Sequence[str],
    unit: str,
    begins: str,
    errors: NDArray[np.float64],
) -> Transient:
    """Return the mean over exposures of the first integration less the mean of the others."""
    what = "first integration, dark rate" if unit == "e-/ks" else "first integration, level"
    places: dict[str, list[int]] = {}
    for place, exposure in enumerate(exposures):
        places.setdefault(exposure, []).append(place)
    off, independent, scatters = [], [], []
    for mine in places.values():
        later = values[mine[1:]]
        if len(mine) < 2 or not np.isfinite(values[mine]).all():
            continue
        off.append(values[mine[0]] - later.mean())
        independent.append(errors[mine[0]] ** 2 + np.sum(errors[mine[1:]] ** 2) / len(later) ** 2)
        if len(later) > 1:
            # The variance of a first integration about the mean of the others, were it like them.
            scatters.append(later.var(ddof=1) * (1 + 1 / len(later)))
    if not off:
        why = f"{what}: not compared with the others, no exposure has more than one integration"
        return Transient(what=what, unit=unit, said=why)
    if len(off) > 1:
        error = float(np.std(off, ddof=1)) / math.sqrt(len(off))
    elif scatters:
        error = math.sqrt(scatters[0])
    else:
        error = 0.0
    error = max(error, math.sqrt(float(np.sum(independent))) / len(off))
    if error == 0:
        why = f"{what}: not compared with the other, two integrations do not show their scatter"
        return Transient(what=what, unit=unit, said=why)
    return _transient(what, float(np.mean(off)), error, unit, begins, "the others")


def _transient(what: str, value: float, error: float, unit: str, begins: str, against: str) -> Transient:
    side = "above" if value >= 0 else "below"
    if not error > 0:
        said = f"{begins} {abs(value):.3g} {unit} {side} {against}; its error is not known"
        return Transient(what=what, unit=unit, value=value, said=said)
    sigmas = abs(value) / error
    places = min(max(1 - math.floor(math.log10(error)), 0), 6)
    weight = "" if sigmas >= SIGNIFICANT else ", not significant"
    said = (
        f"{begins} {abs(value):.{places}f} ± {error:.{places}f} {unit} {side} {against} "
        f"({sigmas:.1f} sigma{weight})"
    )
    return Transient(what=what, unit=unit, value=value, error=error, sigmas=sigmas, said=said)
