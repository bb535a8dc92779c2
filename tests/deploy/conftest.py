"""deploy/kubernetes as kustomize renders it, once for all tests of it."""

import os
import shutil
import subprocess

import pytest
import yaml

from support.doing_without import do_without
from support.kubernetes_objects import FOLDERS, ROOT, Object, folder


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Object]]:
    """What `kubectl kustomize` makes of every folder that somebody applies."""
    own = ROOT / ".servers/kubectl/usr/bin/kubectl"
    kubectl = os.environ.get("DARKS_TEST_KUBECTL") or shutil.which("kubectl") or (own.is_file() and str(own))
    if not kubectl:
        do_without("no kubectl: sh deploy/install-servers.sh kubectl (as root, with apt)")
    results = {}
    for name in FOLDERS:
        done = subprocess.run(
            [kubectl, "kustomize", folder(name)], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr
        results[name] = list(yaml.safe_load_all(done.stdout))
    return results
