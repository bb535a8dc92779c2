"""Kills a service at a named point, where DARKS_TEST_FAULTS names the folder of the planned kills.

Python imports this by itself in every process whose PYTHONPATH holds this folder: a service's own, and that
of its job. Nothing of the product knows of it.

A planned kill is a file ``<service>.<point>``, where the service is called as DARKS_TEST_SERVICE says.
Whoever comes to that point moves the file to ``done`` and kills the service, and itself if it is the job.

Points: ``before-`` and ``after-`` of ``put`` (a data object), ``commit`` (the conditional put of a manifest
or a claim), ``publish`` and ``ack``.
"""

import functools
import importlib.abc
import importlib.util
import os
import signal
import sys
from pathlib import Path

#: Module -> the methods that are watched: class, method, point.
POINTS = {
    "shared.store.s3": [
        ("S3Store", "put", "put"),
        ("S3Store", "put_file", "put"),
        ("S3Store", "put_if_absent", "commit"),
    ],
    "shared.broker.rabbitmq.broker": [("RabbitBroker", "publish", "publish")],
    "shared.broker.rabbitmq.consumer": [("RabbitConsumer", "ack", "ack")],
}


def reached(point):
    folder, service = Path(os.environ["DARKS_TEST_FAULTS"]), int(os.environ["DARKS_TEST_PID"])
    if os.getpid() == service and point.endswith(("-put", "-commit")):
        # What it writes itself is only the probe of the store.
        return
    planned = f"{os.environ['DARKS_TEST_SERVICE']}.{point}"
    try:
        (folder / planned).rename(folder / "done" / planned)
    except FileNotFoundError:
        return
    for pid in (service, os.getpid()):
        os.kill(pid, signal.SIGKILL)


def watched(method, point):
    @functools.wraps(method)
    def call(*arguments, **named):
        reached(f"before-{point}")
        answer = method(*arguments, **named)
        reached(f"after-{point}")
        return answer

    return call


class Watch(importlib.abc.MetaPathFinder):
    """Finds the modules of `POINTS` as everybody does, and watches their methods once they are loaded."""

    def find_spec(self, name, path, target=None):
        if name not in POINTS:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            for owner, method, point in POINTS[name]:
                kind = getattr(module, owner)
                setattr(kind, method, watched(getattr(kind, method), point))

        spec.loader.exec_module = exec_module
        return spec


if "DARKS_TEST_FAULTS" in os.environ:
    # The first process is the service; its job inherits the number.
    os.environ.setdefault("DARKS_TEST_PID", str(os.getpid()))
    sys.meta_path.insert(0, Watch())
