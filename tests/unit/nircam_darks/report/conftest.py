"""Fixtures of the report's tests."""

import pytest

from nircam_darks.report.plots.style import Picture

#: An empty SVG, in base64.
NOTHING = "PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the plots of a page empty: drawing takes most of the time, and tests of words need none of it."""
    monkeypatch.setattr(Picture, "svg", NOTHING)
