"""What a set's noise is made of, in electrons: kTC, 1/f and white noise, reference pixels, theory's terms."""

import math

import numpy as np
from numpy.typing import NDArray

from services.noise.effective_noise import combine_amplifiers
from services.noise.ktc import ktc_refusal
from services.noise.measure_set import Planes
from services.noise.median_bias import median_variance_error
from services.noise.one_over_f import Fitted, OneOverF
from services.noise.products import Measured
from services.noise.set_products import NoiseSpectrum, TheoryFit
from services.noise.spectrum import LINE_OVERHEAD, PIXEL_SECONDS, WITHIN_FRAME_UNKNOWN
from services.noise.theory_fit import fit_theory, theory_refusal
from services.noise.verdicts import judge, lacking
from shared.configuration import ConfigurationKey
from shared.detectors import detectors
from shared.messages import SetReady

#: Verdict of a figure that no table has an expectation for.
NOT_COMPARED = "not compared: no table says what is expected"
_NO_SPECTRUM = (
    "not enough data: no difference of two groups has a quarter of the pixels of every amplifier unflagged"
)


def ktc_noise(ready: SetReady, found: Planes) -> tuple[Measured, list[float]]:
    """Return the set's reset noise, e-, and that of each amplifier.

    Expected is the detector's in ground tests (DN), times the gain used, as uncertain as the gain is.
    """
    device = detectors()[ready.key.detector]
    gain = device.expected.gain
    expected = device.ktc_dn * ready.gain
    sigma = expected * gain.sigma / gain.value
    unknown = [math.nan] * len(found.pixels.amplifiers)
    refusal = ktc_refusal(found.first_groups.integrations)
    if refusal:
        return lacking(f"not enough data: {refusal}", expected, sigma), unknown
    cds = found.pairs.by_amplifier(found.pixels, removed=True)
    sizes = np.array([np.count_nonzero(found.pixels.active[:, one]) for one in found.pixels.amplifiers])
    # Pairs at least two, or there is no CDS noise.
    pairs = max(len(found.pairs.spread.medians), 2)
    cds_error = cds * median_variance_error(pairs) / (2 * np.sqrt(np.maximum(sizes, 1)))
    key = ready.key
    # From the reset on, which ends a frame before the first read, to the middle of the first group's frames.
    before = key.tframe * (key.nframes + 1) / (2 * key.group_time)
    noise = found.first_groups.reset_noise(found.pixels, cds, cds_error, found.pairs.flagged, before)
    value, error = noise.detector
    amplifiers = (noise.amplifiers * ready.gain).tolist()
    if not math.isfinite(value):
        few = "not enough data: group 0 varies by no more than read noise, or too few integrations have it"
        return lacking(few, expected, sigma), amplifiers
    return judge(value * ready.gain, error * ready.gain, expected, sigma), amplifiers


def correlated_noise(found: OneOverF | None, gain: float) -> Measured:
    """Return the rms of the 1/f noise that all amplifiers share, e-; see `OneOverF.rms` for its band."""
    if found is None:
        return lacking(_NO_SPECTRUM)
    if found.correlated is None:
        return lacking(
            "correlated 1/f noise is refused: with one output there is no other to compare it with; "
            "the 1/f noise of this one is all given as uncorrelated"
        )
    return _compared_with_nothing(found.rms(found.correlated), gain)


def uncorrelated_noise(found: OneOverF | None, gain: float) -> tuple[Measured, list[float]]:
    """Return the rms of the 1/f noise that each amplifier has of its own, e-, and that of each."""
    if found is None:
        return lacking(_NO_SPECTRUM), []
    each = [found.rms(power).value * gain for power in found.uncorrelated]
    return _compared_with_nothing(found.rms(found.uncorrelated_mean), gain), each


def white_noise(
    ready: SetReady, found: Planes, one_over_f: OneOverF | None, cds: Measured, dark_e_per_s: float
) -> Measured:
    """Return the white noise of one group of the typical pixel, e-.

    From the variance of a difference of two groups without each plane's median, less what amplifiers
    drift by apart, 1/f noise, the Poisson noise of the dark current and the rounding of whole DN.

    Parameters
    ----------
    ready : SetReady
    found : Planes
    one_over_f : OneOverF or None
    cds : Measured
        CDS noise after each pair's median was taken away, e-.
    dark_e_per_s : float
        Dark current.
    """
    if one_over_f is None:
        return lacking(_NO_SPECTRUM)
    if cds.value is None or cds.error is None:
        return lacking(cds.verdict)
    squared = ready.gain**2
    medians = found.pairs.spread.medians * ready.gain
    medians = medians[np.isfinite(medians).all(axis=1)]
    offsets = medians - medians.mean(axis=1, keepdims=True)
    apart = float(offsets.var(axis=0, ddof=1).mean()) if len(offsets) > 1 else 0.0
    powers = [one_over_f.uncorrelated_mean]
    if one_over_f.correlated is not None:
        powers.append(one_over_f.correlated)
    total = sum(max(power.value, 0.0) for power in powers) * squared
    pink = total * one_over_f.within_frame
    pink_error = math.hypot(
        *(power.error * one_over_f.within_frame * squared for power in powers), total * WITHIN_FRAME_UNKNOWN
    )
    poisson = max(dark_e_per_s, 0.0) * ready.key.group_time / 2
    left = (cds.value**2 - apart) / 2 - pink - poisson - squared / 12
    error = math.hypot(cds.value * cds.error, pink_error)
    if left <= error:
        return lacking("not enough data: 1/f noise, dark current and rounding leave none of the CDS noise")
    return _compared_with_nothing(Fitted(math.sqrt(left), error / (2 * math.sqrt(left))), 1.0)


def reference_cds_noise(ready: SetReady, found: Planes) -> Measured:
    """Return the CDS noise of the reference pixels, e-."""
    value, error = found.reference.noise()
    if not math.isfinite(value):
        return lacking("not enough data: this subarray has no reference pixel with two pairs of groups")
    return _compared_with_nothing(Fitted(value, error), ready.gain)


def noise_spectrum(found: OneOverF, key: ConfigurationKey, gain: float) -> NoiseSpectrum:
    """Return the power spectra of a set, e-^2/Hz."""
    squared = gain**2
    correlated = found.correlated
    return NoiseSpectrum(
        pixel_seconds=PIXEL_SECONDS,
        line_overhead=LINE_OVERHEAD,
        line_seconds=round((key.subsize1 // key.noutputs + LINE_OVERHEAD) * PIXEL_SECONDS, 9),
        frames=found.frames,
        frequencies_hz=found.frequencies.tolist(),
        modes=found.modes.tolist(),
        amplifiers=(found.auto * squared).tolist(),
        common=None if found.cross is None else (found.cross * squared).tolist(),
        fitted_amplifiers=(found.fitted_auto * squared).tolist(),
        fitted_common=None if found.fitted_cross is None else (found.fitted_cross * squared).tolist(),
        common_power_e2=None if correlated is None else correlated.value * squared,
        common_power_e2_error=None if correlated is None else correlated.error * squared,
        own_power_e2=[one.value * squared for one in found.uncorrelated],
        own_power_e2_error=[one.error * squared for one in found.uncorrelated],
        white_e2=[one.value * squared for one in found.white],
        white_e2_error=[one.error * squared for one in found.white],
    )


def theory_terms(key: ConfigurationKey, sigmas: NDArray[np.float64], gain: float) -> TheoryFit:
    """Fit the theory curve to the spatial effective noise.

    Parameters
    ----------
    key : ConfigurationKey
    sigmas : ndarray, 3D (ramps, numbers of groups from 2 on, amplifiers)
        Robust standard deviation of the slopes, DN/group.
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
    groups = np.arange(2, key.ngroups + 1)
    noise = combine_amplifiers(sigmas) * (groups - 1) * gain
    # A ramp of which nothing is left has no curve.
    noise = noise[np.isfinite(noise[:, 0])]
    points = int(np.isfinite(noise).all(axis=0).sum()) if len(noise) else 0
    refusal = theory_refusal(points)
    if refusal:
        return TheoryFit(said=refusal, **usual)
    terms = fit_theory(groups, key.nframes, key.group_time, key.tframe, noise, expectation)
    p0 = (
        f"p0^2 = {terms.p0_squared:.3g} ± {terms.p0_squared_error:.2g} e-^2, which no p0 has,"
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
            f"{100 * terms.scatter:.1f} %; usual are {expectation.theory_p0:g} and "
            f"{expectation.theory_p1:g}, with {expectation.theory_read_noise:g} e- and "
            f"{expectation.theory_dark:g} e-/s, which are held"
        ),
        **usual,
    )


def _compared_with_nothing(figure: Fitted, scale: float) -> Measured:
    return Measured(value=figure.value * scale, error=figure.error * scale, verdict=NOT_COMPARED)
