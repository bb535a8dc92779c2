"""The plan of windows: within the bound, whole, and with the ratio of pixels the right way round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.darkref.combine import windows
from services.darkref.combine.windows import plan_combine

GIB = 1024**3


@given(
    integrations=st.integers(1, 200),
    ngroups=st.integers(1, 200),
    side=st.sampled_from([64, 320, 640, 2048]),
    memory=st.integers(64 * 1024**2, 8 * GIB),
    equivalent=st.one_of(st.none(), st.integers(1, 300)),
)
def test_every_row_and_group_is_in_one_window_whatever_the_bound(
    integrations, ngroups, side, memory, equivalent
):
    one = plan_combine(integrations, (ngroups, side, side), memory, equivalent)
    assert [r for rows in one.row_slices() for r in range(rows.start, rows.stop)] == list(range(side))
    assert [g for part in one.group_slices() for g in range(part.start, part.stop)] == list(range(ngroups))
    assert all(part.stop - part.start <= one.groups for part in one.group_slices())
    assert all(rows.stop - rows.start <= one.rows for rows in one.row_slices())


@given(
    integrations=st.integers(1, 100),
    side=st.sampled_from([64, 160, 640, 2048]),
    equivalent=st.integers(1, 100),
)
def test_equivalent_groups_in_memory_stay_within_the_bound(integrations, side, equivalent):
    one = plan_combine(integrations, (108, side, side), 64 * GIB, equivalent)
    held = windows.SLOTS * one.groups * integrations * one.rows * side / 2048**2
    assert held <= equivalent or one.rows == 1


def test_a_small_subarray_gets_more_groups_than_a_full_frame():
    # Given a bound under which the notebook's own call, ten SUB640 files, raises in jwst_reffiles
    small = plan_combine(10, (108, 640, 640), 64 * GIB, 6)
    large = plan_combine(10, (108, 2048, 2048), 64 * GIB, 6)
    # Then all rows of two groups are in memory at once of the one, of the other a part of the rows of one
    assert (small.groups, small.rows) == (2, 640)
    assert large.groups * large.rows / 2048 < 0.5


def test_rows_are_split_where_one_group_of_all_integrations_is_over_the_bound():
    one = plan_combine(200, (20, 2048, 2048), 64 * GIB, 4)
    assert one.groups == 1
    assert one.rows < plan_combine(200, (20, 2048, 2048), 64 * GIB).rows
    assert windows.SLOTS * one.rows * 200 / 2048 <= 4


def test_what_is_read_at_once_is_worth_a_request_wherever_there_is_room_for_it():
    assert plan_combine(10, (20, 2048, 2048), 2 * GIB).rows * 2048 * 4 >= 2 * 1024**2
    assert plan_combine(100, (20, 2048, 2048), 2 * GIB).rows * 2048 * 4 >= 1024**2


@pytest.mark.parametrize(("integrations", "ngroups"), [(10, 20), (60, 108), (4, 10), (200, 108)])
def test_what_a_window_holds_fits_into_the_memory(integrations, ngroups):
    # Given
    bound = 2 * GIB
    # When
    one = plan_combine(integrations, (ngroups, 2048, 2048), bound)
    # Then samples, flags and running sums, counted here by hand, leave room for the process itself
    pixels = one.rows * 2048
    held = pixels * (3 * one.groups * (integrations * 4 + 10) + integrations * (3 + 8 + 4) + 40)
    assert held < bound - windows.BASE_BYTES


def test_a_bound_below_the_process_itself_still_works():
    one = plan_combine(10, (20, 640, 640), 64 * 1024**2)
    assert one.groups >= 1
    assert one.rows >= 1


def test_flight_mode_s_pedestals_are_counted():
    # Given sets so large that memory bounds the rows
    plain, flight = (
        plan_combine(2000, (20, 2048, 2048), 2 * GIB, pedestals=given) for given in (False, True)
    )
    # Then a band's pedestals take 4 bytes a pixel and integration more
    assert flight.rows <= plain.rows
    pixels = flight.rows * 2048
    held = pixels * (3 * flight.groups * (2000 * 4 + 10) + 2000 * (3 + 8 + 4 + 4) + 40)
    assert held < 2 * GIB - windows.BASE_BYTES
