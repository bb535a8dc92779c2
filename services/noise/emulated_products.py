"""What noise's product holds of readout patterns that were made of a set's RAPID frames."""

from pydantic import BaseModel

from services.noise.set_products import Point

#: Object of ``set-noise``: a list of `EmulatedPattern`; only where patterns were asked for.
EMULATED_NOISE = "emulated_noise.json"


class EmulatedPattern(BaseModel):
    """Effective noise of a set's ramps in another readout pattern, emulated from RAPID.

    Frames are averaged after calibration, in floating point: the instrument averages raw frames and keeps
    whole numbers, and the jump step has fewer groups to find hits in.

    Attributes
    ----------
    pattern : str
    nframes, groupgap : int
        Frames averaged into a group, and left out between two.
    refusal : str or None
        Why it could not be made; then there is no curve.
    groups, seconds, spatial, theory : list
        Numbers of groups of the pattern, time from the first to the last of them, spatial effective noise
        and Rauscher's theory for so many frames a group, e-.
    error : float or None
        Of the last point of `spatial`, 1 sigma, e-.
    """

    pattern: str
    nframes: int
    groupgap: int
    refusal: str | None = None
    groups: list[int] = []
    seconds: list[float] = []
    spatial: list[Point] = []
    theory: list[float] = []
    error: float | None = None
