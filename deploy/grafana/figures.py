"""The detector figures that have an expected value, and the queries that compare them with it."""

from dataclasses import dataclass

#: The expected range reaches from -2 to +2 sigma; see `shared.runtime.metrics`.
BAND_SIGMAS = 2
DETECTOR = 'detector=~"$detector"'
PLACE = 'detector=~"$detector",subarray=~"$subarray"'


@dataclass(frozen=True)
class ExpectedFigure:
    """A figure of the detectors that has an expected value.

    Attributes
    ----------
    name : str
        For readers.
    metric : str
        Its newest value is ``darks:<metric>:newest``, its expected range ``darks:expected_<metric>``.
    holds : str
        What the expectation applies to.
    error : str
        The metric of its error, in the form of `metric`; empty if it has none.
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
        """The query of the error of its newest value, where it is known."""
        return f"darks:{self.error}:newest{{{PLACE}}} >= 0"

    def edge(self, edge: str) -> str:
        """Return the query of one edge of its expected range."""
        return f'darks:expected_{self.metric}{{{DETECTOR},edge="{edge}"}}'

    @property
    def sigmas(self) -> str:
        """The query of its distance from the middle of the expected range, in the sigma of `counted`."""
        band = f"darks:expected_{self.metric}{{{DETECTOR}}}"
        middle = f"avg by (detector) ({band})"
        sigma = f"((max by (detector) ({band}) - min by (detector) ({band})) / {2 * BAND_SIGMAS})"
        off = f"({self.newest} - on (detector) group_left () {middle})"
        if not self.error:
            return f"{off} / on (detector) group_left () {sigma}"
        # References made by older versions have no known error; it counts as zero.
        error = f"({self.newest_error} or 0 * {self.newest})"
        return f"{off} / sqrt({error} ^ 2 + on (detector) group_left () {sigma} ^ 2)"

    @property
    def counted(self) -> str:
        """What the sigma of `sigmas` contains, for readers."""
        if self.error:
            return "the errors of measurement and expectation combined; the expected range is -2 to +2"
        return (
            "that of the expectation, without the error of the measurement; the expected range is -2 "
            "to +2. A "
            "small subarray or a short exposure may lie far outside because of that error alone: the "
            "verdicts "
            "below include it"
        )


DARK_CURRENT = ExpectedFigure(
    "Dark current",
    "dark_current_electrons_per_kilosecond",
    "suffix:e-/1000 s",
    "Dark current of the newest dark reference",
    "NRC-09's table for this detector's channel",
    "dark_current_error_electrons_per_kilosecond",
)
EFFECTIVE_NOISE = ExpectedFigure(
    "Effective noise",
    "effective_noise_electrons",
    "suffix:e-",
    "Spatial effective noise of the newest set, at all groups",
    "1000 s of RAPID only: shorter ramps are noisier, which is no fault",
)
CDS_NOISE = ExpectedFigure(
    "CDS noise",
    "cds_noise_electrons",
    "suffix:e-",
    "Noise of the difference of two consecutive groups, of the newest set",
    "groups of a single frame only (RAPID, BRIGHT1): averaged frames are quieter",
)
FIGURES = (DARK_CURRENT, EFFECTIVE_NOISE, CDS_NOISE)
