"""Parameters of jwst's steps: jwst's own defaults, unless a person gives others.

CRDS has parameter references (pars-*) that would change them by date and by mode. They are not asked for,
neither here nor in the services: a dark says what it was made with, and that changes with the version of
jwst or by somebody's word only. See docs/decisions/0017-parameters-of-steps.md.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from shared.errors import EnvironmentFault

#: What a manifest says if no parameter was given.
DEFAULTS = "jwst's defaults"
#: Parameters of steps that are set in other ways or do not apply, because the ramp is calibrated in pieces.
_NOT_HERE = {
    "persistence": {"persistence_time": "--persistence-time"},
    "jump": {"maximum_cores": "--jobs"},
}


def check_step_parameters(given: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the parameters of each step, in jwst's types.

    Parameters
    ----------
    given : mapping of str to str
        Text of the value by ``step.parameter``, such as ``{"jump.expand_large_events": "true"}``.

    Raises
    ------
    EnvironmentFault
        If jwst has no such step or parameter, or its specification does not allow the value.
    """
    if not given:
        return {}
    # Importing jwst takes seconds.
    from stpipe import config_parser

    from services.ingest.pipeline import DarkRampPipeline

    checked: dict[str, dict[str, Any]] = {}
    for name, text in given.items():
        step, _, parameter = name.partition(".")
        if step not in DarkRampPipeline.step_defs:
            raise _fault(name, text, f"there is no step {step!r}", step, list(DarkRampPipeline.step_defs))
        spec = DarkRampPipeline.step_defs[step].load_spec_file()
        allowed = own_parameters(step)
        if instead := _NOT_HERE.get(step, {}).get(parameter):
            raise _fault(name, text, f"use {instead}")
        if parameter not in allowed:
            raise _fault(name, text, f"the step {step} has no parameter {parameter!r}", parameter, allowed)
        config = config_parser.ConfigObj({parameter: text})
        try:
            config_parser.validate(
                config, config_parser.ConfigObj({parameter: spec[parameter]}, _inspec=True)
            )
        except config_parser.ValidationError as error:
            line = " ".join(str(error).split())
            raise _fault(name, text, f"jwst's specification is {spec[parameter]}: {line}") from error
        checked.setdefault(step, {})[parameter] = config[parameter]
    return checked


def own_parameters(step: str) -> list[str]:
    """Return the names of the parameters with which a step computes, in jwst's order."""
    from jwst.stpipe.core import JwstStep

    from services.ingest.pipeline import DarkRampPipeline

    common = set(JwstStep.load_spec_file())
    return [
        name
        for name in DarkRampPipeline.step_defs[step].load_spec_file()
        if name not in common and not name.startswith("override_") and name not in _NOT_HERE.get(step, {})
    ]


def effective_parameters(pipeline: Any, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the parameters with which the steps of a pipeline ran, by step; only those that have any."""
    values = {
        step: {name: getattr(getattr(pipeline, step), name, None) for name in own_parameters(step)}
        for step in wanted
    }
    return {step: parameters for step, parameters in values.items() if parameters}


def describe_parameters(parameters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the parameters of each step as a line of HISTORY."""
    return [
        f"Parameters of {step}: {', '.join(f'{name} = {value}' for name, value in values.items())}"
        for step, values in parameters.items()
    ]


def _fault(name: str, text: str, why: str, wrong: str = "", known: Sequence[str] = ()) -> EnvironmentFault:
    near = difflib.get_close_matches(wrong, known, n=1)
    cure = f"; did you mean {near[0]}?" if near else f"; choose from {', '.join(known)}" if known else ""
    return EnvironmentFault(f"--step {name}={text}: {why}{cure}", where=name, setting="--step")
