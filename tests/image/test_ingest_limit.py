"""The ingest image within the memory that compose and Kubernetes give it: a long full-frame exposure."""

import pytest

from support.docker_engine import CONFINED, Engine
from support.full_frame_ingest import INGEST_JOB, NY, full_frame
from support.ingest_exposures import crds_environment, edit, write_references, write_server_config

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

#: As deploy/kubernetes/base/ingest.yaml has it.
LIMIT = 3 * 1024**3
#: What the process held at most, and the limit, where version 2 of control groups has it, or version 1.
_PEAKS = """
words = Path("/proc/self/status").read_text().split()
print("VmHWM", int(words[words.index("VmHWM:") + 1]) * 1024)
groups = Path("/sys/fs/cgroup")
[limit] = [p for p in (groups / "memory.max", groups / "memory/memory.limit_in_bytes") if p.exists()]
print("limit", limit.read_text().strip())
"""


def test_a_long_full_frame_fits_the_limit_of_a_pod(engine: Engine, images, tmp_path) -> None:
    # Given a full frame of 1 x 60 groups: 0.5 GB, 5 GB for steps that hold it as a whole
    raw = full_frame(tmp_path, 1, 60)
    for path in write_references(tmp_path / "references", size=NY).values():
        edit(path, SUBARRAY="FULL")
    write_server_config(tmp_path / "crds")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # The container runs as somebody else
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    variables = crds_environment(tmp_path / "crds") | {"CRDS_PATH": "/exposure/crds"}
    # When the image calibrates it with the memory of a pod, without swap, and scratch on disk
    said = engine.docker(
        *("run", "--rm", "--memory", str(LIMIT), "--memory-swap", str(LIMIT), *CONFINED),
        *("--volume", f"{tmp_path}:/exposure:ro", "--volume", f"{scratch}:/scratch"),
        *(word for name, value in variables.items() for word in ("--env", f"{name}={value}")),
        *(images["ingest"], "python", "-c", INGEST_JOB + _PEAKS),
        *("/exposure", f"/exposure/{raw.name}", "1", "/scratch"),
        within=600,
    )
    print(said)
    # Then it ends well, and its process needed no more than 2 GiB
    peaks = dict(line.split() for line in said.splitlines()[-2:])
    assert int(peaks["limit"]) == LIMIT
    assert int(peaks["VmHWM"]) < 2 * 1024**3
