"""Pieces are worked on side by side, in order, and few of them are in memory at once."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.side_by_side import side_by_side


@given(st.lists(st.integers()), st.integers(1, 4))
def test_results_come_in_order(pieces, threads):
    assert list(side_by_side(lambda piece: piece * 2, pieces, threads)) == [piece * 2 for piece in pieces]


@pytest.mark.parametrize("threads", [2, 3])
def test_a_piece_is_read_while_all_threads_work(threads):
    # Given work that does not end before one piece more was read than there are threads
    read, enough = [], threading.Event()

    def pieces():
        for number in range(10):
            read.append(number)
            if number == threads:
                enough.set()
            yield number

    def work(number):
        assert enough.wait(60)
        return number

    # When the first result is asked for
    results = side_by_side(work, pieces(), threads)
    assert next(results) == 0
    # Then no further piece was read
    assert read == list(range(threads + 1))
    assert list(results) == list(range(1, 10))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_failure_is_raised(threads):
    def work(number):
        if number >= 2:
            raise ValueError(number)
        return number

    results = side_by_side(work, range(10), threads)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, check=lambda error: error.args == (2,)):
        next(results)
