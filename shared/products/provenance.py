"""With what ramps were calibrated, and which of them may be combined.

Raw exposures of a set are calibrated here, all by one plan. Exposures that arrive with steps done bring their
own CRDS context, version of jwst and reference files (CRDS_CTX, CAL_VER and R_*), which their headers name.
A mean over ramps of two superbias files is a dark of neither. So a set holds ramps of one *provenance*.
"""

from collections.abc import Mapping
from dataclasses import dataclass

#: What two ramps must both say, and equally, to count as calibrated in the same way.
_DECISIVE = ("CRDS_CTX", "CAL_VER")


@dataclass(frozen=True)
class Provenance:
    """With what a ramp was calibrated.

    Attributes
    ----------
    values : tuple of (str, str)
        CRDS_CTX, CAL_VER and the file name of each reference by its type, as far as they are known; sorted.
    before : bool
        Whether any step had been done when the exposure arrived.
    """

    values: tuple[tuple[str, str], ...]
    before: bool

    @classmethod
    def of(
        cls, before: Mapping[str, str], here: Mapping[str, str], references: Mapping[str, str], done: bool
    ) -> "Provenance":
        """Return the provenance of a ramp.

        Parameters
        ----------
        before, here : mapping of str to str
            CRDS_CTX and CAL_VER of the steps that were done when it arrived, and of those that ran here.
        references : mapping of str to str
            Reference files of either, by type, with or without ``crds://`` or a folder.
        done : bool
            Whether any step had been done when it arrived.
        """
        values = {reftype: name.rpartition("/")[2] for reftype, name in references.items()}
        for keyword in _DECISIVE:
            said = [each[keyword] for each in (before, here) if keyword in each]
            if said:
                values[keyword] = ", then ".join(dict.fromkeys(said))
        return cls(tuple(sorted(values.items())), done)

    def __str__(self) -> str:
        """Return it in words, such as ``"CRDS_CTX jwst_0870.pmap, CAL_VER 1.4.6, gain ..._0046.fits"``."""
        return ", ".join(f"{name} {value}" for name, value in self.values) or "no CRDS_CTX, CAL_VER or R_*"

    def agrees_with(self, other: "Provenance") -> bool:
        """Return whether two ramps say that they were calibrated in the same way."""
        mine, others = dict(self.values), dict(other.values)
        return all(name in mine and name in others for name in _DECISIVE) and all(
            mine[name] == others[name] for name in mine.keys() & others.keys()
        )


def provenance_groups(ramps: Mapping[str, Provenance]) -> dict[str, str]:
    """Return by which ramps may be combined: those of one group.

    Ramps that were calibrated here from raw exposures are one group, whatever CRDS selected for the date of
    each. Ramps that arrived with steps done belong to it if they agree with one of them; otherwise those with
    equal values are a group. This is a function of all ramps, so that everybody who has them finds the same.

    Parameters
    ----------
    ramps : mapping of str to Provenance
        The ramps of one configuration, by name.

    Returns
    -------
    dict of str to str
        By name: the group, which is empty for ramps made here, and else the provenance in words.
    """
    raw = {each for each in ramps.values() if not each.before}
    groups = {
        each: str(each) if each.before and not any(map(each.agrees_with, raw)) else ""
        for each in set(ramps.values())
    }
    return {name: groups[each] for name, each in ramps.items()}
