"""What an exposure's product depends on besides its bytes: steps, references, settings, versions."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from services.ingest import references
from shared.settings import StageSettings

ALGORITHM_VERSION = "1"
#: Stands for the CRDS context where no step asked for a reference file.
NO_CONTEXT = "none"


@dataclass(frozen=True)
class Plan:
    """How an exposure is to be calibrated.

    Attributes
    ----------
    steps : tuple of str
        Those that are run.
    overrides : dict of str to Path
        Reference files by type in place of CRDS's choice, as far as they are used.
    digests : dict of str to str
        sha256 of each of them; the references that CRDS chooses are named by its context.
    parameters, versions : dict
        Of the product.
    """

    steps: tuple[str, ...]
    overrides: dict[str, Path]
    digests: dict[str, str]
    parameters: dict[str, Any]
    versions: dict[str, str]

    @property
    def context(self) -> str:
        """The CRDS context, or `NO_CONTEXT`."""
        return self.versions["crds_context"]

    def made(
        self, parameters: Mapping[str, Any], versions: Mapping[str, str], digests: Mapping[str, str]
    ) -> bool:
        """Say whether a ramp with these was made by this plan, whatever state was carried into it.

        An earlier exposure's state may have come since; a ramp that stands is not made again for it.
        """
        return (
            dict(parameters) == self.parameters
            and dict(versions) == self.versions
            and dict(digests) == self.digests
        )


def plan_for(steps: Sequence[str], settings: StageSettings, persistence_done: bool) -> Plan:
    """Return the plan for an exposure that still needs `steps`.

    Parameters
    ----------
    steps : sequence of str
    settings : StageSettings
    persistence_done : bool
        True if the input has persistence behind it, so that no setting of it counts.

    Raises
    ------
    EnvironmentFault
        If an override cannot be read, or CRDS is needed and not set up.
    """
    types = references.types_for(steps)
    # The gain is also a fact of the product, whichever steps are run.
    digests = references.override_digests(settings.overrides, [*types, "gain"])
    return Plan(
        steps=tuple(steps),
        overrides={reftype: settings.overrides[reftype] for reftype in digests},
        digests=digests,
        parameters={
            "steps": list(steps),
            "persistence_time": None if persistence_done else settings.persistence_time,
            "step_parameters": _step_parameters(),
        },
        versions={
            "algorithm": ALGORITHM_VERSION,
            "jwst": version("jwst"),
            # jwst asks for the context as soon as a step uses a reference, overridden or not.
            "crds_context": references.crds_context() if types else NO_CONTEXT,
        },
    )


def plan_like(parameters: Mapping[str, Any], settings: StageSettings) -> Plan:
    """Return how an exposure that was made with `parameters` would be calibrated now."""
    return plan_for(parameters["steps"], settings, persistence_done=parameters["persistence_time"] is None)


def _step_parameters() -> str:
    disabled = os.environ.get("STPIPE_DISABLE_CRDS_STEPPARS", "").strip().lower() in ("true", "t", "1", "yes")
    return "jwst's defaults" if disabled else "CRDS"
