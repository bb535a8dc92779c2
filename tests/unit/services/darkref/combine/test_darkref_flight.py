"""Flight mode's combine against plain loops over numpy and astropy."""

import itertools
import warnings

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from services.darkref.combine import small_samples
from services.darkref.combine.methods import pedestal_free_mean, sigma_clipped_mean
from services.darkref.combine.windows import BandState, Combined, group_positions
from services.darkref.kernels.simd import comparators
from support.darkref_flight_kernel import combine, first_bad_groups, window_of

# The bits as jwst has them.
DO_NOT_USE, SATURATED, JUMP_DET, PERSISTENCE = 1, 2, 4, 32


def oracle(samples, groupdq=None):
    """Mean, standard error, N, and how close any value came to a bound, relative; all 2D (groups, pixels)."""
    n, ngroups, pixels = samples.shape
    groupdq = np.zeros(samples.shape, np.uint8) if groupdq is None else groupdq
    mean, error, closest = np.zeros((3, ngroups, pixels))
    used = np.zeros((ngroups, pixels), int)
    closest[:] = np.inf
    for p in range(pixels):
        for g in range(ngroups):
            values = []
            for i in range(n):
                if (groupdq[i, : g + 1, p] & (1 | 2 | 4 | 32)).any():
                    continue
                with np.errstate(all="ignore"):
                    value = samples[i, g, p] - samples[i, 0, p]
                if np.isfinite(value):
                    values.append(np.float64(value))
            used[g, p] = len(values)
            if values:
                mean[g, p], error[g, p], closest[g, p] = _clipped(np.array(values))
    return mean, error, used, closest


def _clipped(values):
    size = len(values)
    centre = np.median(values)
    low, high = -np.inf, np.inf
    if size >= 16:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, low, high = sigma_clip(values, sigma=3, masked=False, return_bounds=True, maxiters=5)
    elif size >= 3:
        mad = np.median(np.abs(values - centre))
        sigma = max(1.482602218505602 * small_samples.MAD_CORRECTION[size] * mad, np.sqrt(1 / 6))
        low, high = centre - small_samples.WIDTH[size] * sigma, centre + small_samples.WIDTH[size] * sigma
    left = values[(values >= low) & (values <= high)]
    off = np.abs(values[:, None] - [[low, high]]) / (1 + np.abs(values[:, None]))
    factor = small_samples.variance_factors(size)[size]
    error = np.sqrt(factor * left.var(ddof=1) / len(left)) if len(left) > 1 else 0.0
    return left.mean(), error, off.min() if high > low else np.inf


def _assert_as_oracle(samples, groupdq=None, **how):
    mean, error, used, _ = oracle(samples, groupdq)
    ours = combine(samples, groupdq, **how)
    np.testing.assert_array_equal(ours.n_valid, used)
    scale = np.abs(samples[np.isfinite(samples)]).max(initial=0)
    np.testing.assert_allclose(ours.mean, mean, rtol=2e-7, atol=1e-12 * scale)
    np.testing.assert_allclose(ours.error, error, rtol=1e-6, atol=1e-7 * scale**0.5 * 1e-2 + 1e-11 * scale)
    assert ours.unmeasured == np.count_nonzero(used == 0)
    assert ours.single == np.count_nonzero(used == 1)
    return ours


@pytest.mark.parametrize("n", [*range(1, 35), 47, 64, 65, 200])
def test_equals_plain_loops_for_every_number_of_integrations(n):
    # Given pedestals, outliers, flags of every kind, and values that are not finite, group 0 too
    rng = np.random.default_rng(n)
    samples = (rng.normal(10, 5, (n, 4, 60)) + rng.normal(0, 20, (n, 1, 60))).astype(np.float32)
    samples[rng.random(samples.shape) < 0.06] += 300
    samples[rng.random(samples.shape) < 0.04] = np.nan
    samples[rng.random(samples.shape) < 0.02] = -np.inf
    flags = rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64], samples.shape)
    # When, Then
    _assert_as_oracle(samples, flags.astype(np.uint8))


_few = st.sampled_from([0.0, -0.0, 1.0, 1.5, -7.25, 100.0, 65535.0, 1e-3, np.nan, np.inf, -np.inf])
_any = st.floats(-1e5, 1e5, width=32)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(1, 200).flatmap(
        lambda n: hnp.arrays(np.float32, (n, 2, 4), elements=st.one_of(_few, _any), fill=_few)
    )
)
def test_equals_plain_loops_for_any_values(samples):
    # The order of summation decides about a value that lies on a bound to the last bits.
    assume((oracle(samples)[3] > 1e-9).all())
    _assert_as_oracle(samples)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.sampled_from([-1e4, 50.0, 3e4]))
def test_one_outlier_is_what_plain_loops_make_of_it(n, seed, outlier):
    samples = np.random.default_rng(seed).normal(0, 5, (n, 3, 3)).astype(np.float32)
    samples[seed % n, 1:, 1] += np.float32(outlier)
    _assert_as_oracle(samples)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), _any)
def test_a_constant_is_zero_without_its_pedestal(n, value):
    ours = combine(np.full((n, 3, 3), value, np.float32))
    assert not ours.mean.any()
    assert not ours.error.any()
    assert ours.kept == 9 * n


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 15), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_integrations_without_a_measurement_change_nothing(n, more, seed):
    # Given a pixel of few values, clipped side by side with others, and in a set of many that have none there
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 5, (n, 3, 40)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.1] += 200
    none = np.full((more, 3, 40), np.nan, np.float32)
    # When
    few, many = combine(samples), combine(np.concatenate([samples, none])[rng.permutation(n + more)])
    # Then
    assert few.kept == many.kept
    np.testing.assert_array_equal(few.n_valid, many.n_valid)
    np.testing.assert_allclose(few.mean, many.mean, rtol=2e-7, atol=1e-12)
    np.testing.assert_allclose(few.error, many.error, rtol=1e-6, atol=1e-12)


def test_no_measurement_gives_zero_and_zero():
    ours = combine(np.full((4, 3, 15), np.nan, np.float32))
    assert not ours.mean.any()
    assert not ours.error.any()
    assert not ours.n_valid.any()
    assert (ours.kept, ours.unmeasured, ours.single) == (0, 45, 0)


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, "flag"])
def test_an_integration_without_a_usable_group_0_is_not_used_at_that_pixel(fault):
    # Given
    samples = np.random.default_rng(3).normal(0, 5, (4, 3, 2)).astype(np.float32)
    flags = np.zeros(samples.shape, np.uint8)
    if fault == "flag":
        flags[1, 0, 0] = SATURATED
    else:
        samples[1, 0, 0] = fault
    # When
    ours = combine(samples, flags)
    # Then
    np.testing.assert_array_equal(ours.n_valid, [[3, 4]] * 3)
    others = np.delete(samples, 1, axis=0)
    np.testing.assert_array_equal(ours.mean[:, 0], combine(others).mean[:, 0])


@pytest.mark.parametrize(
    ("flag", "counts"),
    [
        (DO_NOT_USE, True),
        (SATURATED, True),
        (JUMP_DET, True),
        (PERSISTENCE, True),
        (8, False),
        (16, False),
        (64, False),
        (128, False),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_which_flags_end_the_use_of_an_integration(flag, counts, dtype):
    flags = np.zeros((1, 6, 3), np.uint8)
    flags[0, 3, 1] = flag
    flags[0, 4, 1] = JUMP_DET
    first = first_bad_groups(flags, step=2, dtype=dtype)
    largest = np.iinfo(dtype).max
    assert first.tolist() == [[largest, 3 if counts else 4, largest]]


def test_saturated_groups_are_not_averaged_in():
    # Given ten ramps of which two saturate, without a jump
    samples = np.repeat(np.arange(8, dtype=np.float32)[None, :, None] * 100, 10, axis=0)
    flags = np.zeros(samples.shape, np.uint8)
    samples[:2, 5:] = 500
    flags[:2, 5:] = SATURATED
    # When
    ours = combine(samples, flags)
    # Then
    np.testing.assert_array_equal(ours.mean[:, 0], np.arange(8) * 100)
    assert ours.n_valid[:, 0].tolist() == [10] * 5 + [8] * 3


def _notebook_mode(samples, flags):
    """What notebook mode makes of (integrations, groups, pixels): the mean ramp."""
    n, ngroups, pixels = samples.shape
    jumps = (flags & JUMP_DET != 0) | np.zeros(samples.shape, bool)
    first = np.where(jumps.any(axis=1), jumps.argmax(axis=1), 255).astype(np.uint8)
    into = Combined(*np.zeros((2, ngroups, pixels), np.uint32), np.zeros((ngroups, pixels), np.uint16))
    state = BandState(first, group_positions(ngroups), np.zeros((n, pixels)), np.zeros((5, pixels)))
    sigma_clipped_mean(window_of(samples), state, 3.0, slice(0, pixels), into)
    return into.mean.view(">f4").astype(np.float64)


def test_one_outlier_among_five_integrations_is_gone_as_it_is_not_in_notebook_mode():
    # Given 5 integrations, and an unflagged hit of 500 DN or more in 1 per cent of the pixels
    rng = np.random.default_rng(5)
    samples = (rng.normal(0, 7, (5, 10, 20_000)) + rng.normal(0, 20, (5, 1, 20_000))).astype(np.float32)
    struck = rng.choice(20_000, 200, replace=False)
    for p in struck:
        samples[rng.integers(5), rng.integers(1, 10) :, p] += np.float32(rng.uniform(500, 5000))
    # When
    flight = combine(samples)
    reference = _notebook_mode(samples, np.zeros(samples.shape, np.uint8))
    # Then no pixel is further off than the noise of the others is (10 DN a difference, over sqrt 5)
    assert np.abs(flight.mean[:, struck]).max() < 6 * 10 / np.sqrt(5)
    # and notebook mode has a fifth of each in it
    assert (np.ptp(reference[:, struck], axis=0) > 80).all()


def test_the_mean_ramp_does_not_step_when_integrations_drop_out():
    # Given ramps with resets of 37 e- (20 DN), a read noise of 3 DN, and half of them hit in group 10
    rng = np.random.default_rng(9)
    noise, kick = 3.0, 37 / 1.84
    samples = (rng.normal(0, noise, (8, 20, 4000)) + rng.normal(0, kick, (8, 1, 4000))).astype(np.float32)
    flags = np.zeros(samples.shape, np.uint8)
    flags[:4, 10] = JUMP_DET

    def steps(mean):
        return np.std(mean[10:].mean(axis=0) - mean[1:10].mean(axis=0))

    # When, Then notebook mode steps by the resets' share
    gone = kick * np.sqrt(1 / 4 - 1 / 8)
    assert steps(_notebook_mode(samples, flags)) == pytest.approx(np.hypot(gone, noise / 5), rel=0.1)
    # and flight mode by the read noise of group 0 and of the groups averaged
    expected = noise * np.sqrt((1 / 4 - 1 / 8) + 1 / 72 + 1 / 40)
    assert steps(combine(samples, flags).mean) == pytest.approx(expected, rel=0.1)


def test_the_error_holds_no_pedestals():
    rng = np.random.default_rng(12)
    samples = rng.normal(0, 5, (10, 3, 20_000)) + rng.normal(0, 20, (10, 1, 20_000))
    ours = combine(samples.astype(np.float32))
    assert not ours.error[0].any()
    assert np.sqrt(np.mean(ours.error[2].astype(float) ** 2)) == pytest.approx(np.std(ours.mean[2]), rel=0.02)
    assert np.std(ours.mean[2]) == pytest.approx(5 * np.sqrt(2 / 10), rel=0.05)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 7),
    st.integers(1, 700),
    st.lists(st.integers(1, 700), max_size=5),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 2**32 - 1),
)
def test_windows_and_parts_of_any_size_give_the_same_to_the_last_bit(n, step, pixels, cuts, dtype, seed):
    # Given
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 5, (n, 7, pixels)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.05] = np.nan
    samples[rng.random(samples.shape) < 0.05] += 500
    flags = (rng.random(samples.shape) < 0.05).astype(np.uint8) * JUMP_DET
    edges = sorted({0, pixels, *(cut for cut in cuts if cut < pixels)})
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    # When
    whole = combine(samples, flags)
    pieces = combine(samples, flags, step=step, parts=parts[::-1], dtype=dtype)
    # Then
    for name, value in vars(whole).items():
        np.testing.assert_array_equal(value, getattr(pieces, name), err_msg=name)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_the_order_of_exposures_does_not_matter(n, seed):
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 5, (n, 3, 12)).astype(np.float32)
    samples[rng.random(samples.shape) < 0.1] = np.nan
    ours, shuffled = combine(samples), combine(samples[rng.permutation(n)])
    for name in ("mean", "error", "n_valid", "line", "kept"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(shuffled, name), err_msg=name)


def test_the_sums_give_the_slopes_of_the_integrations_and_of_the_mean_ramp():
    rng = np.random.default_rng(4)
    samples = rng.normal(0, 1, (4, 9, 12)).astype(np.float32) + np.float32(1000)
    flags = np.zeros(samples.shape, np.uint8)
    flags[:, 6:, 0] = SATURATED
    ours = combine(samples, flags, step=4)
    for one, moment in zip(samples.astype(np.float64), ours.moment, strict=True):
        expected = np.polyfit(np.arange(9), one, 1)[0]
        np.testing.assert_allclose(moment[1:] / 60, expected[1:], rtol=1e-4, atol=1e-6)
    n, g, gg, y, gy = ours.line
    expected = np.polyfit(np.arange(9), ours.mean.astype(np.float64), 1)[0]
    expected[0] = np.polyfit(np.arange(6), ours.mean[:6, 0].astype(np.float64), 1)[0]
    np.testing.assert_allclose((n * gy - g * y) / (n * gg - g * g), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("n", [3, 5, 10, 15, 16, 40])
def test_what_the_clip_removed_is_kept_with_the_mean_and_variance_of_all(n):
    # Given outliers, one or several of a pixel
    rng = np.random.default_rng(n)
    samples = rng.normal(0, 5, (n, 3, 400)).astype(np.float32)
    samples[0, 1:, ::7] += 300
    samples[:2, 1:, ::11] += 500
    values = (samples - samples[:, :1]).astype(np.float64)
    # When
    ours = combine(samples, step=2, parts=[slice(0, 130), slice(130, 400)])
    # Then
    assert len(ours.clipped) > 50
    assert sum(removed for removed, *_ in ours.clipped.values()) == samples.size - ours.kept
    for (group, pixel), (_, mean, variance, without_farthest) in ours.clipped.items():
        column = values[:, group, pixel]
        rest = np.delete(column, np.argmax(np.abs(column - column.mean())))
        assert mean == pytest.approx(column.mean(), rel=1e-5, abs=1e-5)
        assert variance == pytest.approx(column.var(ddof=1), rel=1e-5)
        assert without_farthest == pytest.approx(rest.var(ddof=1), rel=1e-4)


@pytest.mark.parametrize("step", [None, 1, 3])
def test_falls_are_the_two_largest_of_all_integrations_up_to_their_ends(step):
    # Given ramps with hits (which end nothing), ends, and values that are not finite
    rng = np.random.default_rng(8)
    samples = (rng.normal(0, 5, (4, 9, 300)) + rng.normal(0, 20, (4, 1, 300))).astype(np.float32)
    samples[rng.random(samples.shape) < 0.01] = np.nan
    flags = (rng.random(samples.shape) < 0.1).astype(np.uint8) * JUMP_DET
    flags[rng.random(samples.shape) < 0.02] = SATURATED
    # When
    lowest, second, total = combine(samples, flags, step=step, parts=[slice(0, 100), slice(100, 300)]).falls
    # Then
    steps = np.diff(samples.astype(np.float64), axis=1)
    ended = np.cumsum(flags & SATURATED != 0, axis=1)[:, 1:] > 0
    # Without group 0 there is no integration.
    usable = np.isfinite(steps) & ~ended & np.isfinite(samples[:, :1])
    falls = np.where(usable, np.minimum(steps, 0), 0).reshape(-1, 300)
    falls.sort(axis=0)
    np.testing.assert_allclose(lowest, falls[0], atol=1e-4)
    np.testing.assert_allclose(second, falls[1], atol=1e-4)
    np.testing.assert_allclose(total, falls.sum(axis=0), atol=1e-3)


def test_a_state_without_pedestals_is_refused():
    first = np.full((1, 1), 255, np.uint8)
    state = BandState(first, group_positions(1), np.zeros((1, 1)), np.zeros((5, 1)))
    into = Combined(*np.zeros((2, 1, 1), np.uint32), np.zeros((1, 1), np.uint16))
    with pytest.raises(ValueError):
        pedestal_free_mean(window_of(np.zeros((1, 1, 1))), state, 3.0, slice(0, 1), into)


@pytest.mark.parametrize("n", range(1, 14))
def test_the_network_sorts_all_zeros_and_ones(n):
    # Knuth's 0-1 principle: what sorts these sorts everything.
    values = np.array(list(itertools.product((0, 1), repeat=n))).T
    for low, high in comparators(n):
        values[[low, high]] = np.sort(values[[low, high]], axis=0)
    assert (np.diff(values, axis=0) >= 0).all()
