"""A job that waits for its turn."""

import threading
from uuid import uuid4

import pytest

from shared.runtime.turns import Turns
from shared.settings.stage import StageSettings


@pytest.fixture
def settings(tmp_path):
    return StageSettings(store=tmp_path / "out")


def test_without_a_hold_nobody_waits(settings, tmp_path):
    Turns(settings).wait(uuid4())
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(20)
def test_a_job_waits_until_its_hold_is_lifted(settings):
    # Given a hold, and a job that waits as another process would
    turns, message, passed = Turns(settings), uuid4(), threading.Event()
    turns.hold(message)
    job = threading.Thread(target=lambda: (Turns(settings).wait(message), passed.set()), daemon=True)
    job.start()
    assert not passed.wait(0.3)

    # When another message's hold is lifted, and then its own, Then it goes on at its own
    turns.release(uuid4())
    assert not passed.wait(0.3)
    turns.release(message)
    assert passed.wait(10)


def test_a_run_lifts_what_a_killed_run_left_and_leaves_nothing(settings, tmp_path):
    message, own = uuid4(), uuid4()
    Turns(settings).hold(message)
    with Turns(settings) as turns:
        assert not turns.held(message)
        turns.hold(own)
    assert not turns.held(own)
    assert not any((tmp_path / "out").iterdir())
