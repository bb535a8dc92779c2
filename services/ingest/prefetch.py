"""Looks for every reference file that a run will need, and fetches it, before any job starts.

Several workers that find an empty CRDS cache would all fetch the same files, and a machine that is not set up
would be reported once for every exposure. So `fetch_references` asks CRDS once for each configuration, in a
process of its own: CRDS reads its environment when it is imported, and takes seconds to import.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from services.ingest import steps
from services.ingest.adapted import Adaptation
from services.ingest.checks import first_failure
from services.ingest.header_checks import header_checks
from services.ingest.probe import open_exposure
from shared.errors import DarksError, EnvironmentFault
from shared.runtime.python_child import python_command, python_environment
from shared.settings.stage import StageSettings

#: Types of a header's values.
_PLAIN = (str, bool, int, float)


class _Wanted(BaseModel):
    """The references of an exposure, which stands for all of its configuration that need the same steps."""

    configuration: str
    header: dict[str, Any]
    types: list[str]


class PrefetchRequest(BaseModel):
    """What to look for."""

    wanted: list[_Wanted]
    overrides: dict[str, Path]

    @classmethod
    def of(cls, exposures: Iterable[tuple[str, Path]], settings: StageSettings) -> Self:
        """Return what some exposures need, from their headers."""
        wanted: dict[tuple[str, tuple[str, ...]], _Wanted] = {}
        for configuration, path in exposures:
            probe, ramp = open_exposure(path)
            if ramp is not None:
                ramp.close()
            adaptation = Adaptation.of(probe, settings)
            adapted = adaptation.probe(probe)
            if first_failure(header_checks(adapted, settings.use_problem_data), probe.where) is not None:
                # Ingest rejects it and says why; CRDS would only have nothing for it.
                continue
            header = dict(adaptation.header(adapted.primary))
            run = steps.to_run(header, persistence=settings.persistence_time > 0)
            types = dict.fromkeys(kind for step in run for kind in steps.REFERENCE_TYPES[step])
            key = configuration, tuple(types)
            if types and key not in wanted:
                plain = {name: value for name, value in header.items() if isinstance(value, _PLAIN)}
                wanted[key] = _Wanted(configuration=configuration, header=plain, types=list(types))
        return cls(wanted=list(wanted.values()), overrides=settings.overrides)


class Prefetched(BaseModel):
    """What CRDS answered.

    Attributes
    ----------
    context : str or None
        The CRDS context; None if no exposure needs a reference file.
    missing : dict of str to str
        By configuration: why its exposures cannot be calibrated.
    fault : str or None
        Why no exposure can be calibrated.
    """

    context: str | None = None
    missing: dict[str, str] = {}
    fault: str | None = None


def fetch_references(
    exposures: Iterable[tuple[str, Path]], settings: StageSettings, environment: Mapping[str, str]
) -> Prefetched:
    """Return what CRDS has for the configurations of a run; the references are in its cache afterwards.

    Parameters
    ----------
    exposures : iterable of (str, Path)
        Configuration and file of each readable exposure.
    settings : StageSettings
    environment : mapping of str to str
        Of the job processes, see `nircam_darks.cli.run.crds_choice`.

    Raises
    ------
    EnvironmentFault
        If CRDS is not set up, an override does not serve, or no configuration has all its references.
    """
    request = PrefetchRequest.of(exposures, settings)
    if not request.wanted and not request.overrides:
        return Prefetched()
    done = subprocess.run(
        python_command("-m", "services.ingest.prefetch"),
        input=request.model_dump_json(),
        env=python_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvironmentFault(f"CRDS could not be asked for reference files: {last}; check CRDS_PATH")
    answer = Prefetched.model_validate_json(done.stdout.strip().splitlines()[-1])
    if answer.fault is not None:
        raise EnvironmentFault(answer.fault, setting="CRDS_PATH")
    if answer.missing and set(answer.missing) == {wanted.configuration for wanted in request.wanted}:
        raise EnvironmentFault("; ".join(dict.fromkeys(answer.missing.values())), setting="CRDS_PATH")
    return answer


def find_all_references(request: PrefetchRequest) -> Prefetched:
    """Ask CRDS in this process; call `fetch_references` instead."""
    from services.ingest import references

    answer = Prefetched()
    try:
        references.override_digests(request.overrides, request.overrides)
        for wanted in request.wanted:
            if answer.context is None:
                answer.context = references.crds_context()
            where, parameters = wanted.configuration, references.crds_parameters(wanted.header)
            try:
                references.find_references(parameters, wanted.types, request.overrides, where)
            except references.AbsentReference as fault:
                answer.missing[where] = str(fault)
    except DarksError as fault:
        answer.fault = str(fault)
    return answer


def main() -> int:
    """Answer the request on standard input, as JSON on standard output."""
    answer = find_all_references(PrefetchRequest.model_validate_json(sys.stdin.read()))
    print(json.dumps(answer.model_dump()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
