"""The figures of the detectors of which a value is expected, and the queries that hold them against it."""

from dataclasses import dataclass

#: A band of what is expected reaches from -2 to +2 sigma, see `shared.metrics`.
BAND_SIGMAS = 2
DETECTOR = 'detector=~"$detector"'
PLACE = 'detector=~"$detector",subarray=~"$subarray"'


@dataclass(frozen=True)
class Figure:
    """A figure of the detectors of which a value is expected.

    Attributes
    ----------
    name : str
        As a reader calls it.
    metric : str
        That of its newest value is ``darks:<metric>:newest``, that of its band ``darks:expected_<metric>``.
    holds : str
        For what the expectation holds.
    error : str
        The metric of its own error, as `metric`; empty where there is none.
    """

    name: str
    metric: str
    unit: str
    what: str
    holds: str
    error: str = ""

    @property
    def newest(self) -> str:
        """The query of its newest value."""
        return f"darks:{self.metric}:newest{{{PLACE}}}"

    @property
    def newest_error(self) -> str:
        """The query of its newest value's own error, where that is known."""
        return f"darks:{self.error}:newest{{{PLACE}}} >= 0"

    def edge(self, edge: str) -> str:
        """Return the query of one edge of its band."""
        return f'darks:expected_{self.metric}{{{DETECTOR},edge="{edge}"}}'

    @property
    def sigmas(self) -> str:
        """The query of its distance from the middle of the band, in the sigma that `counted` says."""
        band = f"darks:expected_{self.metric}{{{DETECTOR}}}"
        middle = f"avg by (detector) ({band})"
        sigma = f"((max by (detector) ({band}) - min by (detector) ({band})) / {2 * BAND_SIGMAS})"
        off = f"({self.newest} - on (detector) group_left () {middle})"
        if not self.error:
            return f"{off} / on (detector) group_left () {sigma}"
        # Of a reference that was made by an older version the error is not known: counted as none.
        error = f"({self.newest_error} or 0 * {self.newest})"
        return f"{off} / sqrt({error} ^ 2 + on (detector) group_left () {sigma} ^ 2)"

    @property
    def counted(self) -> str:
        """What is counted in the sigma of `sigmas`, for a reader."""
        if self.error:
            return "its own error and the expectation's, taken together; the band is -2 to +2"
        return (
            "the expectation's, its own error not counted; the band is -2 to +2. A small subarray or a short "
            "exposure may lie far outside by that error alone: the verdicts below count it"
        )


DARK_CURRENT = Figure(
    "Dark current",
    "dark_current_electrons_per_kilosecond",
    "suffix:e-/1000 s",
    "Dark current of the newest dark reference",
    "NRC-09's table for this detector's channel",
    "dark_current_error_electrons_per_kilosecond",
)
EFFECTIVE_NOISE = Figure(
    "Effective noise",
    "effective_noise_electrons",
    "suffix:e-",
    "Spatial effective noise of the newest set, at all groups",
    "1000 s of RAPID only: shorter ramps are noisier, and not out of order for that",
)
CDS_NOISE = Figure(
    "CDS noise",
    "cds_noise_electrons",
    "suffix:e-",
    "Noise of the difference of two following groups, of the newest set",
    "groups of a single frame only (RAPID, BRIGHT1): averaged frames are quieter",
)
FIGURES = (DARK_CURRENT, EFFECTIVE_NOISE, CDS_NOISE)
