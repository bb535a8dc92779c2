"""Makes ingest one of another version: its algorithm's is what DARKS_TEST_ALGORITHM says.

Python imports this by itself in every process whose PYTHONPATH holds this folder: a service's own, and that
of its job. Nothing of the product knows of it.
"""

import importlib.abc
import importlib.util
import os
import sys

MODULE = "services.ingest.plan"


class Upgrade(importlib.abc.MetaPathFinder):
    """Finds the module as everybody does, and changes its version once it is loaded."""

    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.ALGORITHM_VERSION = os.environ["DARKS_TEST_ALGORITHM"]

        spec.loader.exec_module = exec_module
        return spec


if "DARKS_TEST_ALGORITHM" in os.environ:
    sys.meta_path.insert(0, Upgrade())
