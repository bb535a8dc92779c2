"""Numbers as a person writes them, and images small enough for a page."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from nircam_darks.report import text as wording
from nircam_darks.report.plots.images import (
    LONGEST_SIDE,
    LONGEST_STRIP,
    for_page,
    image,
    robust_limits,
)
from shared.statistics.verdicts import Verdict
from shared.store.local import LocalStore
from shared.store.manifest import Draft
from support.report_store import FilledStore, a_key, fits_bytes


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (26.834, 0.41, "26.83 ± 0.41"),
        (13.3104, 0.0212, "13.310 ± 0.021"),
        (64.3, 82.1, "64 ± 82"),
        (512.0, 2894.0, "500 ± 2,900"),
        (-0.42, 0.61, "−0.42 ± 0.61"),
        (9.97, 0.098, "9.970 ± 0.098"),
        (27.0, None, "27.0"),
        (1204, 34.7, "1,204 ± 35"),
        (math.nan, 1.0, "–"),
        (None, None, "–"),
        (3.0, math.nan, "3.00"),
    ],
)
def test_a_value_is_written_to_the_place_of_its_error(value, error, said):
    assert wording.measured(value, error) == said


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e5))
def test_rounding_never_moves_a_value_by_more_than_half_its_error(value, error):
    shown, output = (
        float(p.replace(",", "").replace("−", "-")) for p in wording.measured(value, error).split(" ± ")
    )
    assert abs(shown - value) <= 0.051 * error
    assert output == pytest.approx(error, rel=0.06)


@pytest.mark.parametrize(
    ("value", "sigma", "said"),
    [
        (27.0, 5.0, "27 ± 5"),
        (15.77, 0.94, "15.77 ± 0.94"),
        (13.25, 0.08, "13.25 ± 0.08"),
        (8.30716, 0.10742, "8.31 ± 0.11"),
        (None, None, "–"),
        (27.0, None, "27"),
    ],
)
def test_an_expectation_is_written_as_the_table_has_it(value, sigma, said):
    assert wording.expected(value, sigma) == said


@pytest.mark.parametrize(
    ("state", "tone", "sign"),
    [
        ("within", "good", "✓ "),
        ("below", "below", "▼ "),
        ("above", "above", "▲ "),
        ("not enough data", "none", ""),
        ("not compared", "none", ""),
    ],
)
def test_verdicts_are_marked_by_their_state(state, tone, sign):
    assert wording.verdict_tone(Verdict(state=state)) == tone
    assert wording.mark(tone) == sign


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "within (-362 ± 262, expected 27 +- 5 e- per 1000 s)",
            "within (−362 ± 262, expected 27 ± 5 e⁻/1000 s)",
        ),
        ("0.6 e- off; 2.1 hits/cm2/s on 2022-04-29", "0.6 e⁻ off; 2.1 hits/cm²/s on 2022-04-29"),
        ("one-sided, 1e-05 of e-mail", "one-sided, 1e-05 of e-mail"),
    ],
)
def test_a_sentence_is_shown_with_the_signs_of_a_page(said, shown):
    assert wording.with_signs(said) == shown


def test_times():
    assert wording.mjd(59698.5).replace(tzinfo=None) == Time(59698.5, format="mjd").to_datetime()
    assert wording.since_first([59698.5, 59698.51])[0] == pytest.approx([0, 14.4])
    assert wording.since_first([59698.5, 59698.51])[1] == "Time since 2022-04-29 12:00 UTC (min)"
    assert wording.since_first([0.0, 1.0])[1].endswith("(h)")
    assert wording.since_first([0.0, 9.0])[1].endswith("(d)")
    first = datetime(2022, 4, 29, 23, 50, tzinfo=UTC)
    assert wording.span(first, first.replace(minute=55)) == "2022-04-29 23:50 to 23:55 UTC"
    assert wording.span(first, first.replace(day=30)) == "2022-04-29 23:50 to 2022-04-30 23:50 UTC"
    assert [wording.seconds(s) for s in (0.44, 13.2, 154, 7260)] == [
        "0.4 s",
        "13 s",
        "2 min 34 s",
        "2 h 01 min",
    ]


@pytest.mark.parametrize(
    "shape", [(64, 64), (640, 640), (1000, 700), (64, 2048), (2048, 2048), (3, 2048), (1, 1)]
)
def test_an_image_fits_the_page_and_keeps_its_mean(shape):
    pixels = np.random.default_rng(1).normal(10, 1, shape).astype("f4")
    shown, block = for_page(pixels)
    assert max(shown.shape) <= max(LONGEST_SIDE, LONGEST_STRIP if shape[1] >= 4 * shape[0] else 0)
    kept = pixels[: shown.shape[0] * block, : shown.shape[1] * block]
    assert shown.mean() == pytest.approx(kept.mean(), rel=1e-5)


def test_averaging_leaves_out_what_is_not_finite():
    pixels = np.full((1200, 1200), 2.0, "f4")
    pixels[::2, ::2] = np.nan
    pixels[:3, :3] = np.nan
    shown, block = for_page(pixels)
    assert block == 3
    assert np.isnan(shown[0, 0])
    assert (shown.ravel()[1:] == 2.0).all()


def test_limits_do_not_follow_hot_pixels():
    pixels = np.random.default_rng(1).normal(27, 9, (200, 200)).astype("f4")
    calm = robust_limits(pixels)
    pixels[np.random.default_rng(2).random(pixels.shape) < 0.03] = 4000
    assert robust_limits(pixels)[1] < calm[1] * 1.1
    assert robust_limits(np.full((2, 2), np.nan, "f4")) == (0.0, 1.0)
    low, high = robust_limits(np.full((2, 2), 3.0, "f4"))
    assert low < 3 < high


@pytest.mark.parametrize("dtype", ["u2", ">f4", "i4"])
def test_of_a_cube_only_the_last_plane_is_read(tmp_path, dtype):
    # Given a store that notes what is read from it
    store = LocalStore(tmp_path / "store")
    cube = np.arange(50 * 40 * 30).reshape(50, 40, 30).astype(dtype)
    draft = Draft(store, "reference", "darkref/x/y/z", [], {}, {})
    draft.add("cube.fits", fits_bytes("NMEAS", cube))
    manifest = draft.commit(FilledStore(store, tmp_path).reference(a_key(), ["jw1"]))
    taken = []
    reader_type = type(store.open(manifest.object("cube.fits").key))
    plain = reader_type.read

    def noting(self, offset, length):
        taken.append(length)
        return plain(self, offset, length)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader_type, "read", noting)
        plane = image(store, manifest, "cube.fits")
    # Then it is the last plane, and little else was read
    np.testing.assert_array_equal(plane, cube[-1].astype("f4"))
    assert sum(taken) < cube[-1].nbytes * 3 + 20_000
    assert image(store, manifest, "none.fits") is None
