"""The steps of jwst called by hand on a whole exposure: what a streamed ramp has to equal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jwst.dq_init import DQInitStep
from jwst.jump import JumpStep
from jwst.linearity import LinearityStep
from jwst.persistence import PersistenceStep
from jwst.refpix import RefPixStep
from jwst.saturation import SaturationStep
from jwst.superbias import SuperBiasStep
from stdatamodels.jwst.datamodels import RampModel

CHAIN = {
    "dq_init": (DQInitStep, ["mask"]),
    "saturation": (SaturationStep, ["saturation", "superbias"]),
    "superbias": (SuperBiasStep, ["superbias"]),
    "refpix": (RefPixStep, []),
    "linearity": (LinearityStep, ["linearity"]),
    "jump": (JumpStep, ["gain", "readnoise"]),
    "persistence": (PersistenceStep, []),
}


def steps_by_hand(
    path: Path, references: Mapping[str, Path], parameters: Mapping[str, Mapping[str, Any]] | None = None
) -> Any:
    """Return the model that the seven steps give, with further parameters of some steps."""
    # A file without jwst's ASDF extension can be opened, but not passed to a step by its name.
    model: Any = RampModel(path)
    for name, (step, reftypes) in CHAIN.items():
        chosen = {f"override_{reftype}": str(references[reftype]) for reftype in reftypes}
        other = dict((parameters or {}).get(name, {}))
        if name == "persistence":
            other |= {"skip": False, "persistence_time": 1000}
        model = step.call(model, configure_log=False, **chosen, **other)
    return model
