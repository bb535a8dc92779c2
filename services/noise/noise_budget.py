"""The noise budget of a set, in electrons: kTC, 1/f and white noise, reference pixels, theory curve."""

import math

import numpy as np
from numpy.typing import NDArray

from services.noise.effective.effective_noise import combine_amplifiers
from services.noise.effective.theory import fit_theory, theory_refusal
from services.noise.exposure_set import FirstPass
from services.noise.read_noise.ktc import ktc_refusal
from services.noise.read_noise.one_over_f import OneOverF, rms_of
from services.noise.read_noise.spectrum import LINE_OVERHEAD, PIXEL_SECONDS, SpectrumMaker
from shared.contracts.messages import SetReady
from shared.nircam.configuration import ConfigurationKey
from shared.nircam.detectors import detectors
from shared.products.noise import NoiseSpectrum, TheoryFit
from shared.statistics.robust import median_variance_error
from shared.statistics.verdicts import (
    Measured,
    Value,
    finite,
    measured_against,
    not_compared,
    not_measured,
)

#: Why a figure has no verdict.
_NO_EXPECTATION = "no table says what is expected"
_ONE_OUTPUT = "it takes two outputs or more; the 1/f noise of the only one is all given as uncorrelated"
_NO_SPECTRUM = "it takes a difference of two groups with a quarter of the pixels of every amplifier unflagged"

#: Significance from which column noise is seen, sigma.
_SIGNIFICANT = 3.0


def ktc_noise(ready: SetReady, first_pass: FirstPass) -> tuple[Measured, list[float]]:
    """Return the reset noise of a set, e-, and that of each amplifier.

    Expected is that of the detector in ground tests (DN), times the gain used, with the relative error of the
    gain.

    Parameters
    ----------
    ready : SetReady
        Gives configuration and gain, e-/DN.
    first_pass : FirstPass

    Returns
    -------
    noise : Measured
        Of the detector.
    amplifiers : list of float
        NaN for an amplifier without a value.
    """
    device = detectors()[ready.key.detector]
    gain = device.expected.gain
    expected = Value(device.ktc_dn, device.ktc_dn * gain.error / gain.value).times(ready.gain)
    unknown = [math.nan] * len(first_pass.pixels.amplifiers)
    refusal = ktc_refusal(first_pass.first_groups.integrations)
    if refusal:
        return not_measured(refusal, expected), unknown
    cds = first_pass.pairs.by_amplifier(first_pass.pixels, removed=True)
    sizes = np.array(
        [np.count_nonzero(first_pass.pixels.active[:, columns]) for columns in first_pass.pixels.amplifiers]
    )
    # With fewer than two pairs there is no CDS noise, nor its error.
    pairs = max(len(first_pass.pairs.spread.medians), 2)
    cds_error = cds * median_variance_error(pairs) / (2 * np.sqrt(np.maximum(sizes, 1)))
    key = ready.key
    # From the reset, which ends one frame before the first read, to the middle of the frames of group 0.
    before = key.tframe * (key.nframes + 1) / (2 * key.group_time)
    noise = first_pass.first_groups.reset_noise(
        first_pass.pixels, cds, cds_error, first_pass.pairs.flagged, before
    )
    value, error = noise.detector
    amplifiers = (noise.amplifiers * ready.gain).tolist()
    if not np.isfinite(cds).any():
        reason = "the read noise is not known: no pixel has two pairs of groups without a flag"
        return not_measured(reason, expected), amplifiers
    if not math.isfinite(value):
        reason = "group 0 varies by no more than read noise, or is unflagged in too few integrations"
        return not_measured(reason, expected), amplifiers
    return measured_against(Value(value, error).times(ready.gain), expected), amplifiers


def correlated_noise(one_over_f: OneOverF | None, gain: float) -> Measured:
    """Return the rms of the 1/f noise that all amplifiers have in common, e-; band: see `OneOverF.rms`."""
    if one_over_f is None:
        return not_measured(_NO_SPECTRUM)
    if one_over_f.correlated is None:
        return not_measured(_ONE_OUTPUT)
    return not_compared(one_over_f.rms(one_over_f.correlated).times(gain), _NO_EXPECTATION)


def uncorrelated_noise(one_over_f: OneOverF | None, gain: float) -> tuple[Measured, list[float]]:
    """Return the rms of the 1/f noise that amplifiers have of their own, e-, and that of each amplifier."""
    if one_over_f is None:
        return not_measured(_NO_SPECTRUM), []
    each = [one_over_f.rms(power).value * gain for power in one_over_f.uncorrelated]
    return not_compared(one_over_f.rms(one_over_f.uncorrelated_mean).times(gain), _NO_EXPECTATION), each


def exponent_figure(one_over_f: OneOverF | None, common: bool) -> Measured:
    """Return the exponent of the 1/f noise that amplifiers have in common, or of their own."""
    if one_over_f is None:
        return not_measured(_NO_SPECTRUM)
    exponent = one_over_f.correlated_exponent if common else one_over_f.uncorrelated_exponent
    if exponent is None:
        return not_measured(_ONE_OUTPUT)
    return not_compared(exponent, "1 is usual; no table says what is expected")


def chi2_figure(one_over_f: OneOverF | None, common: bool) -> Measured:
    """Return the reduced chi-square of the fit to the spectra that amplifiers share, or to their own."""
    if one_over_f is None:
        return not_measured(_NO_SPECTRUM)
    chi2 = one_over_f.correlated_chi2 if common else one_over_f.chi2
    if not math.isfinite(chi2):
        return not_measured(_ONE_OUTPUT)
    reason = "above 1, it widens the errors of 1/f and white noise by its square root"
    return not_compared(Value(chi2, math.nan), reason)


def column_noise(one_over_f: OneOverF | None, gain: float) -> Measured:
    """Return the rms of the noise that columns have beside white and 1/f noise, e-; one group."""
    if one_over_f is None:
        return not_measured(_NO_SPECTRUM)
    variance = one_over_f.column_noise
    if variance is None or not math.isfinite(variance.error):
        return not_measured("it takes two differences of groups or more")
    rms = rms_of(variance).times(gain)
    if variance.value > _SIGNIFICANT * variance.error:
        return not_compared(rms, _NO_EXPECTATION)
    limit = math.sqrt(max(variance.value, 0.0) + _SIGNIFICANT * variance.error) * gain
    return not_compared(rms, f"none is seen; more than {limit:.2g} e- would be")


def white_noise(
    ready: SetReady, first_pass: FirstPass, one_over_f: OneOverF | None, cds: Measured, dark_e_per_s: float
) -> Measured:
    """Return the white noise of one group of the typical pixel, e-.

    It is what remains of the variance of a difference of two groups, about the median of each difference,
    after subtracting the drift of amplifiers against each other, 1/f noise, column noise, the Poisson noise
    of the dark current, and the rounding to whole DN.

    Parameters
    ----------
    ready : SetReady
    first_pass : FirstPass
    one_over_f : OneOverF or None
    cds : Measured
        CDS noise with the median of each pair subtracted, e-.
    dark_e_per_s : float
        Dark current, e-/s.
    """
    if one_over_f is None:
        return not_measured(_NO_SPECTRUM)
    if cds.value is None or cds.error is None:
        return not_measured(cds.comparison.reason)
    squared = ready.gain**2
    medians = first_pass.pairs.spread.medians * ready.gain
    medians = medians[np.isfinite(medians).all(axis=1)]
    offsets = medians - medians.mean(axis=1, keepdims=True)
    amplifier_drift = float(offsets.var(axis=0, ddof=1).mean()) if len(offsets) > 1 else 0.0
    slow, slow_error = _within_frame(one_over_f, first_pass.spectra.maker)
    columns = one_over_f.column_noise
    if columns is None or not math.isfinite(columns.error):
        columns = Value(0.0, 0.0)
    poisson = max(dark_e_per_s, 0.0) * ready.key.group_time / 2
    remaining = (cds.value**2 - amplifier_drift) / 2 - poisson
    variance = remaining - (slow + columns.value + 1 / 12) * squared
    error = math.hypot(cds.value * cds.error, slow_error * squared, columns.error * squared)
    if variance <= error:
        return not_measured("1/f noise, dark current and rounding account for all of the CDS noise")
    return not_compared(Value(math.sqrt(variance), error / (2 * math.sqrt(variance))), _NO_EXPECTATION)


def _within_frame(one_over_f: OneOverF, maker: SpectrumMaker) -> tuple[float, float]:
    """Return the variance of 1/f noise within a frame, about its mean, and its 1-sigma error, DN^2."""
    powers = [(one_over_f.uncorrelated_mean, one_over_f.uncorrelated_exponent)]
    if one_over_f.correlated is not None and one_over_f.correlated_exponent is not None:
        powers.append((one_over_f.correlated, one_over_f.correlated_exponent))
    total, unknown, errors = 0.0, 0.0, [0.0]
    for power, exponent in powers:
        middle, width = maker.within_frame(exponent.value)
        total += max(power.value, 0.0) * middle
        unknown += max(power.value, 0.0) * width
        errors.append(power.error * middle)
    return total, math.hypot(*errors, unknown)


def reference_cds_noise(ready: SetReady, first_pass: FirstPass) -> Measured:
    """Return the CDS noise of the reference pixels, e-."""
    value, error = first_pass.reference.noise()
    if not math.isfinite(value):
        return not_measured("this subarray has no reference pixel with two pairs of groups")
    return not_compared(Value(value, error).times(ready.gain), _NO_EXPECTATION)


def noise_spectrum(one_over_f: OneOverF, key: ConfigurationKey, gain: float) -> NoiseSpectrum:
    """Return the power spectra of a set, e-^2/Hz."""
    squared = gain**2
    correlated, common, columns = (
        one_over_f.correlated,
        one_over_f.correlated_exponent,
        one_over_f.column_noise,
    )
    return NoiseSpectrum(
        pixel_seconds=PIXEL_SECONDS,
        line_overhead=LINE_OVERHEAD,
        line_seconds=round((key.subsize1 // key.noutputs + LINE_OVERHEAD) * PIXEL_SECONDS, 9),
        frames=one_over_f.frames,
        frequencies_hz=one_over_f.frequencies.tolist(),
        modes=one_over_f.modes.tolist(),
        amplifiers=(one_over_f.auto * squared).tolist(),
        common=None if one_over_f.cross is None else (one_over_f.cross * squared).tolist(),
        fitted_amplifiers=(one_over_f.fitted_auto * squared).tolist(),
        fitted_common=None
        if one_over_f.fitted_cross is None
        else (one_over_f.fitted_cross * squared).tolist(),
        common_power_e2=None if correlated is None else correlated.value * squared,
        common_power_e2_error=None if correlated is None else correlated.error * squared,
        own_power_e2=[power.value * squared for power in one_over_f.uncorrelated],
        own_power_e2_error=[power.error * squared for power in one_over_f.uncorrelated],
        white_e2=[variance.value * squared for variance in one_over_f.white],
        white_e2_error=[variance.error * squared for variance in one_over_f.white],
        common_exponent=None if common is None else common.value,
        common_exponent_error=None if common is None else common.error,
        own_exponent=one_over_f.uncorrelated_exponent.value,
        own_exponent_error=one_over_f.uncorrelated_exponent.error,
        common_chi2=finite(one_over_f.correlated_chi2),
        own_chi2=one_over_f.chi2,
        column_noise_e=None if columns is None else finite(rms_of(columns).value * gain),
        column_noise_error_e=None if columns is None else finite(rms_of(columns).error * gain),
    )


def theory_terms(key: ConfigurationKey, sigmas: NDArray[np.float64], gain: float) -> TheoryFit:
    """Fit the theory curve to the spatial effective noise; see `fit_theory`.

    Parameters
    ----------
    key : ConfigurationKey
    sigmas : ndarray, 3D (ramps, numbers of groups from 2 on, amplifiers)
        Robust standard deviation of slopes, DN/group.
    gain : float
        e-/DN.
    """
    expectation = detectors()[key.detector].expected
    usual = {
        "usual_p0": expectation.theory_p0,
        "usual_p1": expectation.theory_p1,
        "held_read_noise_e": expectation.theory_read_noise,
        "held_dark_e_per_s": expectation.theory_dark,
    }
    if key.ngroups < 2:
        return TheoryFit(said=theory_refusal(0), **usual)
    groups = np.arange(2, key.ngroups + 1)
    noise = combine_amplifiers(sigmas) * (groups - 1) * gain
    # A ramp without an unflagged pixel has no curve.
    noise = noise[np.isfinite(noise[:, 0])]
    points = int(np.isfinite(noise).all(axis=0).sum()) if len(noise) else 0
    refusal = theory_refusal(points)
    if refusal:
        return TheoryFit(said=refusal, **usual)
    terms = fit_theory(groups, key.nframes, key.group_time, key.tframe, noise, expectation)
    p0 = (
        f"p0^2 = {terms.p0_squared:.3g} ± {terms.p0_squared_error:.2g} e-^2 (not positive, so there is no p0)"
        if terms.p0 is None
        else f"p0 = {terms.p0:.3g} ± {terms.p0_error:.2g} e-"
    )
    return TheoryFit(
        p0_squared=terms.p0_squared,
        p0_squared_error=terms.p0_squared_error,
        p0=terms.p0,
        p0_error=terms.p0_error,
        p1=terms.p1,
        p1_error=terms.p1_error,
        curve=np.sqrt(terms.variances).tolist(),
        scatter=terms.scatter,
        said=(
            f"{p0} and p1 = {terms.p1:.3g} ± {terms.p1_error:.2g} e-^2 fit the spatial noise to "
            f"{100 * terms.scatter:.1f} %. Usual values are {expectation.theory_p0:g} and "
            f"{expectation.theory_p1:g}; read noise {expectation.theory_read_noise:g} e- and dark current "
            f"{expectation.theory_dark:g} e-/s are held fixed"
        ),
        **usual,
    )
