"""What becomes of a test where this machine lacks what it needs."""

import os
from typing import NoReturn

import pytest


def do_without(reason: str) -> NoReturn:
    """Skip with a reason; fail with it where CI=true, since nobody would see that it was skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
