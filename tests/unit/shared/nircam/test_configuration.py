"""Which exposures may be combined."""

import re
from typing import Any

import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import BadInput, ConfigurationMismatch
from shared.nircam.configuration import KEYWORDS, ConfigurationKey, require_same
from support.paths import SHARED_DATA

# A real full-frame NIRCam header's values (jw01075001001_03105_00009_nrca3), as a dark.
CARDS: dict[str, Any] = {
    "DETECTOR": "NRCA3",
    "SUBARRAY": "FULL",
    "SUBSTRT1": 1,
    "SUBSTRT2": 1,
    "SUBSIZE1": 2048,
    "SUBSIZE2": 2048,
    "NOUTPUTS": 4,
    "READPATT": "RAPID",
    "NFRAMES": 1,
    "GROUPGAP": 0,
    "TFRAME": 10.73677,
    "NGROUPS": 10,
    "CORONMSK": "MASKA210R",
    "EXP_TYPE": "NRC_DARK",
}
OTHER: dict[str, Any] = {
    "DETECTOR": "NRCA1",
    "SUBARRAY": "SUB640",
    "SUBSTRT1": 2,
    "SUBSTRT2": 2,
    "SUBSIZE1": 640,
    "SUBSIZE2": 640,
    "NOUTPUTS": 1,
    "READPATT": "BRIGHT1",
    "NFRAMES": 2,
    "GROUPGAP": 1,
    "TFRAME": 10.73678,
    "NGROUPS": 11,
    "CORONMSK": "MASKA335R",
    "EXP_TYPE": "NRC_IMAGE",
}


def key(**changes: Any) -> ConfigurationKey:
    return ConfigurationKey.from_header(fits.Header({**CARDS, **changes}), "x.fits")


def test_the_key_is_read_from_a_header() -> None:
    read = key()
    assert {KEYWORDS[name]: value for name, value in read.model_dump().items()} == CARDS
    assert read.group_time == 10.73677
    assert key(NFRAMES=8, GROUPGAP=12).group_time == pytest.approx(20 * 10.73677)


def test_a_real_header_gives_a_key() -> None:
    path = SHARED_DATA / "nircam_headers/jw01075001001_03105_00009_nrca3_uncal.fits"
    if not path.is_file():
        pytest.skip(f"no real NIRCam header at {path}")
    read = ConfigurationKey.from_header(fits.getheader(path), path.name)
    assert read == key(EXP_TYPE="NRC_CORON")


@pytest.mark.parametrize("keyword", [k for k in CARDS if k != "CORONMSK"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_keyword_is_named(keyword: str, value: object) -> None:
    header = fits.Header(CARDS)
    if value is None:
        del header[keyword]
    else:
        header[keyword] = value
    with pytest.raises(BadInput) as caught:
        ConfigurationKey.from_header(header, "x.fits")
    assert caught.value.check == keyword


def test_without_a_coronagraphic_mask_it_is_none() -> None:
    header = fits.Header(CARDS)
    del header["CORONMSK"]
    assert ConfigurationKey.from_header(header, "x").coronmsk == "NONE"


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("NGROUPS", "ten"),
        ("NGROUPS", 10.5),
        ("NGROUPS", True),
        ("SUBSIZE1", "2048.5"),
        ("TFRAME", "fast"),
        ("TFRAME", "nan"),
        ("TFRAME", "inf"),
        ("DETECTOR", 481),
        ("READPATT", "   "),
        ("NFRAMES", "1e400"),
    ],
)
def test_a_value_of_another_type_is_refused_not_bent(keyword: str, value: object) -> None:
    with pytest.raises(BadInput) as caught:
        ConfigurationKey.from_header({**CARDS, keyword: value}, "x.fits")
    assert caught.value.check == keyword


def test_numbers_written_as_text_or_whole_floats_are_the_same_numbers() -> None:
    assert ConfigurationKey.from_header({**CARDS, "NGROUPS": "10", "NFRAMES": 1.0}, "x") == key()


@pytest.mark.parametrize("keyword", CARDS)
def test_each_keyword_alone_keeps_exposures_apart(keyword: str) -> None:
    other = key(**{keyword: OTHER[keyword]})
    with pytest.raises(ConfigurationMismatch) as caught:
        require_same([("a.fits", key()), ("b.fits", key()), ("c.fits", other)])
    for word in (keyword, repr(CARDS[keyword]), repr(OTHER[keyword]), "a.fits", "c.fits"):
        assert word in str(caught.value)
    assert other.slug != key().slug


def test_equal_keys_may_be_combined_and_none_may_not() -> None:
    assert require_same([("a", key()), ("b", key())]) == key()
    with pytest.raises(ConfigurationMismatch):
        require_same([])


@given(st.integers(2624, 4194304), st.floats(-4.9e-6, 4.9e-6))
def test_one_frame_time_written_with_other_digits_is_one_key(pixel_times: int, off: float) -> None:
    # Given a frame time that the clock of 10 us can make, and the same one written inexactly
    frame = float(f"{pixel_times // 100000}.{pixel_times % 100000:05d}")
    exact, inexact = key(TFRAME=frame), ConfigurationKey.from_header({**CARDS, "TFRAME": frame + off}, "x")
    # Then both are one configuration, with the exact time
    assert require_same([("a", exact), ("b", inexact)]) == exact
    assert (inexact.tframe, inexact.slug) == (frame, exact.slug)


@given(st.integers(2624, 4194304))
def test_frame_times_a_clock_tick_apart_are_two_keys(pixel_times: int) -> None:
    one, other = (
        ConfigurationKey.from_header({**CARDS, "TFRAME": ticks * 1e-5}, "x")
        for ticks in (pixel_times, pixel_times + 1)
    )
    assert one.slug != other.slug


@given(st.text(min_size=1, max_size=12), st.integers(1, 999))
def test_a_slug_is_fit_for_keys_of_any_store(subarray: str, ngroups: int) -> None:
    made = key().model_copy(update={"subarray": subarray, "ngroups": ngroups})
    assert re.fullmatch(r"[a-z0-9_-]+", made.slug)
    again = ConfigurationKey.model_validate_json(made.model_dump_json())
    assert again.slug == made.slug
