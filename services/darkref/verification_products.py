"""The verification of a reference as its manifest carries it."""

from pydantic import BaseModel


class AmplifierResidual(BaseModel):
    """One amplifier of an exposure after the subtraction; None where there was too little data.

    Attributes
    ----------
    amplifier : int
        From 1, by column.
    pixels : int
        Science pixels that count.
    mean_residual_dn, rise_dn : float or None
        DN.
    read_noise_dn, cds_before_dn, cds_after_dn : float or None
        DN.
    scatter_dn, rise_scatter_dn : float or None
        Robust standard deviation over pixels of the first integration's last residual, and of its
        rise, DN: with and without kTC.
    """

    amplifier: int
    pixels: int
    mean_residual_dn: float | None
    rise_dn: float | None
    read_noise_dn: float | None
    cds_before_dn: float | None
    cds_after_dn: float | None
    scatter_dn: float | None
    rise_scatter_dn: float | None


class LeftOut(BaseModel):
    """What the dark_current step left of one exposure.

    Attributes
    ----------
    exposure : str
    readpatt : str
    nframes : int
    integrations : int
    measurements : float
        N, the integrations that a place of the reference is the mean of.
    amplifiers : list of AmplifierResidual
    """

    exposure: str
    readpatt: str
    nframes: int
    integrations: int
    measurements: float
    amplifiers: list[AmplifierResidual]


class Check(BaseModel):
    """One thing that was looked at.

    Attributes
    ----------
    name : str
    where : str
        ``"file"``, ``"detector"`` or ``"amplifier 3"``.
    passed : bool or None
        None: not enough data.
    required : bool
        Whether a failure decides.
    value, limit : float, str or None
        In `unit`; a number passes where its magnitude is not above the limit.
    detail : str
        What is wrong, and what to do; or how it was found.
    """

    name: str
    where: str
    passed: bool | None
    required: bool = True
    value: float | str | None = None
    limit: float | str | None = None
    unit: str = ""
    detail: str = ""


class Verification(BaseModel):
    """Every check of a reference, rolled up.

    Attributes
    ----------
    accepted : bool
    verdict : str
        One sentence.
    amplifiers : list of bool or None
        By column; None where nothing could be checked.
    detector : bool
    checks : list of Check
    left_out : LeftOut or None
        The residuals by amplifier.
    measurements : float
        N, the integrations that a place of the reference is the mean of.
    """

    accepted: bool
    verdict: str
    amplifiers: list[bool | None]
    detector: bool
    checks: list[Check]
    left_out: LeftOut | None = None
    measurements: float
