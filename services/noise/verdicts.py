"""What a measured figure is beside what was expected, in words."""

import math

from services.noise.products import Measured

NOT_ENOUGH = "not enough data"
#: Deviation, in sigmas of figure and expectation together, up to which a figure is within.
WITHIN = 2.0
#: An error above so many widths of the expectation, and a tenth of the figure, says nothing about it.
TOO_UNCERTAIN = 2.0


def judge(
    value: float, error: float, expected: float, expected_sigma: float, expectation: str | None = None
) -> Measured:
    """Compare a figure with what is expected.

    The deviation is in units of the two errors added in quadrature.

    Parameters
    ----------
    value, error, expected, expected_sigma : float
        In one unit; 1 sigma. A `value` that is not finite is not enough data.
    expectation : str, optional
        The expectation in words, where ``expected +- sigma`` would not say it.
    """
    if not math.isfinite(value):
        return lacking(NOT_ENOUGH, expected, expected_sigma)
    said = expectation or f"{_figure(expected, expected_sigma)} ± {_figure(expected_sigma, expected_sigma)}"
    both = f"({_figure(value, error)} ± {_figure(error, error)}, expected {said})"
    off = (value - expected) / math.hypot(error, expected_sigma)
    if abs(off) <= WITHIN:
        uncertain = error > TOO_UNCERTAIN * expected_sigma and error > abs(value) / 10
        verdict = f"{NOT_ENOUGH if uncertain else 'within'} {both}"
    else:
        verdict = f"{abs(off):.1f} sigma {'above' if off > 0 else 'below'} expected {both}"
    return Measured(
        value=value, error=error, expected=expected, expected_sigma=expected_sigma, verdict=verdict
    )


def lacking(why: str, expected: float | None = None, expected_sigma: float | None = None) -> Measured:
    """Return a figure that could not be measured."""
    return Measured(value=None, error=None, expected=expected, expected_sigma=expected_sigma, verdict=why)


def overall(named: dict[str, Measured]) -> str:
    """Return one line over several figures, those of one verdict together.

    Such as ``CDS noise, jumps within; effective noise not enough data``.
    """
    together: dict[str, list[str]] = {}
    for name, measured in named.items():
        together.setdefault(_short(measured), []).append(name)
    return "; ".join(f"{', '.join(names)} {verdict}" for verdict, names in together.items())


def _short(measured: Measured) -> str:
    return measured.verdict.split(" (")[0] if measured.value is not None else NOT_ENOUGH


def _figure(value: float, error: float) -> str:
    """Write a number to the place of its error's second significant digit."""
    if not (math.isfinite(error) and error > 0):
        return f"{value:.4g}"
    return f"{value:.{min(max(1 - math.floor(math.log10(error)), 0), 6)}f}"
