"""What a reset leaves behind: first groups and first integrations against the rest of a set."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.noise.set_products import Transient

#: First groups that are each held against the line of the others, and points that this line needs.
_FIRST_GROUPS = 2
_LINE_POINTS = 3
#: Sigmas from which on a transient is said to be there: 0.3 % of Gaussian ones are further off.
SIGNIFICANT = 3.0
_ORDINALS = ("first", "second")


def transients(
    medians_dn: ArrayLike, dark_rates: ArrayLike, exposures: Sequence[str], rate_errors: ArrayLike
) -> list[Transient]:
    """Return the reset's transients in a set: those of the first groups, and of the first integrations.

    Parameters
    ----------
    medians_dn : array_like, 2D (integrations, groups)
        Median over science pixels, DN.
    dark_rates, rate_errors : array_like, 1D (integrations)
        Median slope of each, and its error from independent pixels, e- per 1000 s.
    exposures : sequence of str
        Exposure of each integration.
    """
    medians, rates = np.asarray(medians_dn, float), np.asarray(dark_rates, float)
    return [
        *first_groups(medians),
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


def first_groups(medians: NDArray[np.float64]) -> list[Transient]:
    """Return how far each of the first groups lies off the line of the others, DN, mean over integrations.

    The line is fitted to each integration by itself, so that pedestals and dark signal are not in it.
    The error is the scatter over integrations; of a single one, what its line is known to at that group.

    Parameters
    ----------
    medians : ndarray, 2D (integrations, groups)
        DN.
    """
    known = medians[np.isfinite(medians).all(axis=1)]
    groups = medians.shape[1]
    first = min(_FIRST_GROUPS, groups - _LINE_POINTS)
    if first < 1 or not len(known):
        why = (
            f"transients of the first groups are not looked for: a line needs {_LINE_POINTS} groups beside "
            f"the first and these ramps have {groups}"
            if first < 1
            else "transients of the first groups are not looked for: no integration has all its levels"
        )
        return [Transient(what="first group", unit="DN", said=why)]
    at = np.arange(first, groups, dtype=float)
    centre, spread = at.mean(), float(np.sum((at - at.mean()) ** 2))
    others = known[:, first:]
    slopes = (others - others.mean(axis=1, keepdims=True)) @ (at - centre) / spread
    found = []
    for group in range(first):
        off = known[:, group] - (others.mean(axis=1) + slopes * (group - centre))
        if len(off) > 1:
            error = float(off.std(ddof=1)) / math.sqrt(len(off))
        else:
            line = others.mean(axis=1)[:, None] + slopes[:, None] * (at - centre)
            freedom = at.size - 2
            scatter = math.sqrt(float(np.sum((others - line) ** 2)) / freedom)
            error = scatter * math.sqrt(1 + 1 / at.size + (group - centre) ** 2 / spread)
        name = f"{_ORDINALS[group]} group"
        of = "the integration" if len(off) == 1 else "each integration"
        found.append(
            _transient(
                name, float(off.mean()), error, "DN", f"the {name} of {of} lies", "the line of the others"
            )
        )
    return found


def _first_integration(
    values: NDArray[np.float64],
    exposures: Sequence[str],
    unit: str,
    begins: str,
    errors: NDArray[np.float64],
) -> Transient:
    """Return the mean over exposures of the first integration less the mean of the others of its exposure."""
    what = "first integration, dark rate" if unit == "e-/ks" else "first integration, level"
    places: dict[str, list[int]] = {}
    for place, exposure in enumerate(exposures):
        places.setdefault(exposure, []).append(place)
    off, independent, rest = [], [], []
    for mine in places.values():
        later = values[mine[1:]]
        if len(mine) < 2 or not np.isfinite(values[mine]).all():
            continue
        off.append(values[mine[0]] - later.mean())
        independent.append(errors[mine[0]] ** 2 + np.sum(errors[mine[1:]] ** 2) / len(later) ** 2)
        if len(later) > 1:
            # What one first integration scatters by, were it like the others.
            rest.append(later.var(ddof=1) * (1 + 1 / len(later)))
    if not off:
        why = f"{what} is not held against the rest: no exposure has more than one integration"
        return Transient(what=what, unit=unit, said=why)
    if len(off) > 1:
        error = float(np.std(off, ddof=1)) / math.sqrt(len(off))
    elif rest:
        error = math.sqrt(rest[0])
    else:
        error = 0.0
    error = max(error, math.sqrt(float(np.sum(independent))) / len(off))
    if error == 0:
        why = f"{what} is not held against the rest: two integrations do not tell how much they scatter"
        return Transient(what=what, unit=unit, said=why)
    return _transient(what, float(np.mean(off)), error, unit, begins, "the others")


def _transient(what: str, value: float, error: float, unit: str, begins: str, against: str) -> Transient:
    side = "above" if value >= 0 else "below"
    if not error > 0:
        said = f"{begins} {abs(value):.3g} {unit} {side} {against}; how sure that is cannot be told"
        return Transient(what=what, unit=unit, value=value, said=said)
    sigmas = abs(value) / error
    places = min(max(1 - math.floor(math.log10(error)), 0), 6)
    weight = "" if sigmas >= SIGNIFICANT else ", not significant"
    said = (
        f"{begins} {abs(value):.{places}f} ± {error:.{places}f} {unit} {side} {against} "
        f"({sigmas:.1f} sigma{weight})"
    )
    return Transient(what=what, unit=unit, value=value, error=error, sigmas=sigmas, said=said)
