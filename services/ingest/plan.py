"""The calibration plan: what a ramp depends on besides the bytes of its exposure.

That is the steps that are run, the reference files, the settings and the versions of the software; together
with the bytes they give the product key of the ramp.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.ingest import references
from services.ingest.adapted import parameters_today
from services.ingest.step_parameters import DEFAULTS, check_step_parameters
from shared.products.ramp import NO_CONTEXT
from shared.settings.stage import StageSettings

ALGORITHM_VERSION = "2"


@dataclass(frozen=True)
class Plan:
    """How an exposure is to be calibrated.

    Attributes
    ----------
    steps : tuple of str
        The steps that are run, in order.
    overrides : dict of str to Path
        Reference files that are used in place of those that CRDS selects, by type.
    digests : dict of str to str
        sha256 of each override. The references that CRDS selects are identified by its context.
    parameters, versions : dict
        Of the ramp's manifest.
    """

    steps: tuple[str, ...]
    overrides: dict[str, Path]
    digests: dict[str, str]
    parameters: dict[str, Any]
    versions: dict[str, str]

    @property
    def step_parameters(self) -> dict[str, dict[str, Any]]:
        """Parameters that differ from jwst's defaults because somebody gave them, by step."""
        given = self.parameters["step_parameters"]
        return {} if given == DEFAULTS else given

    @property
    def context(self) -> str:
        """The CRDS context, or `NO_CONTEXT`."""
        return self.versions["crds_context"]

    def is_older_than(self, versions: Mapping[str, str]) -> bool:
        """Return whether a ramp with these versions was made by newer software than this plan's.

        The first that differs decides: the algorithm, then jwst, then the CRDS context.
        """
        for name in ("algorithm", "jwst", "crds_context"):
            mine, other = self.versions[name], versions.get(name, NO_CONTEXT)
            if mine != other and NO_CONTEXT not in (mine, other):
                return _numbers(mine) < _numbers(other)
        return False

    def made(
        self, parameters: Mapping[str, Any], versions: Mapping[str, str], digests: Mapping[str, str]
    ) -> bool:
        """Return whether a ramp with this manifest was made by this plan, whatever state it started with.

        The persistence state of an earlier exposure may have arrived since; an existing ramp is not made
        again for it.

        Parameters
        ----------
        parameters, versions : mapping
            Of the ramp's manifest.
        digests : mapping of str to str
            sha256 of its reference overrides, by type.
        """
        return (
            dict(parameters) == self.parameters
            and dict(versions) == self.versions
            and dict(digests) == self.digests
        )


def plan_for(
    steps: Sequence[str],
    settings: StageSettings,
    persistence_done: bool,
    adapted: Mapping[str, Any] | None = None,
) -> Plan:
    """Return the plan for an exposure that still needs `steps`.

    Parameters
    ----------
    steps : sequence of str
    settings : StageSettings
    persistence_done : bool
        Whether the persistence step was run on the input already, so that its settings do not matter.
    adapted : mapping, optional
        What is changed in the exposure before, see `services.ingest.adapted`.

    Raises
    ------
    EnvironmentFault
        If an override cannot be read, a parameter of a step is none, or CRDS is needed and is not set up.
    """
    types = references.types_for(steps)
    # The gain is recorded with the ramp, whichever steps are run.
    digests = references.override_digests(settings.overrides, [*types, "gain"])
    given = check_step_parameters(settings.steps)
    return Plan(
        steps=tuple(steps),
        overrides={reftype: settings.overrides[reftype] for reftype in digests},
        digests=digests,
        parameters={
            "steps": list(steps),
            "persistence_time": None if persistence_done else settings.persistence_time,
            "step_parameters": {step: given[step] for step in steps if step in given} or DEFAULTS,
            **(adapted or {}),
        },
        versions={
            "algorithm": ALGORITHM_VERSION,
            "jwst": version("jwst"),
            # jwst asks for the context as soon as a step uses a reference, overridden or not.
            "crds_context": references.crds_context() if types else NO_CONTEXT,
        },
    )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def plan_like(parameters: Mapping[str, Any], settings: StageSettings) -> Plan:
    """Return the plan by which a ramp made with `parameters` would be made today."""
    return plan_for(
        parameters["steps"],
        settings,
        persistence_done=parameters["persistence_time"] is None,
        adapted=parameters_today(parameters, settings),
    )
