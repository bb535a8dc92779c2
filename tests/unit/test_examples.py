"""The examples in docstrings do what they say; they may use `store`, an empty one, and `full_frame_key`."""

import doctest
import importlib
import re

import pytest

from shared.store.local import LocalStore
from support.configurations import configuration
from support.paths import ROOT

MODULES = sorted(
    str(path.relative_to(ROOT).with_suffix("")).replace("/", ".")
    for package in ("nircam_darks", "services", "shared")
    for path in (ROOT / package).rglob("*.py")
    if re.search(r"^ *>>> ", path.read_text(), re.MULTILINE)
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_docstrings(module, tmp_path):
    names = {"store": LocalStore(tmp_path), "full_frame_key": configuration(2048, 2048)}
    results = doctest.testmod(
        importlib.import_module(module),
        extraglobs=names,
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert results.attempted > 0
    assert results.failed == 0
