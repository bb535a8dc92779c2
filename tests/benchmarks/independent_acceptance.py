"""What flight mode makes of the independent generator's ramps, in many sets, against what was planted.

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/independent_acceptance.py errors unsteady dark-current
    PYTHONPATH=tests .venv/bin/python tests/benchmarks/independent_acceptance.py good bad --part 0 --parts 2
    PYTHONPATH=tests .venv/bin/python tests/benchmarks/independent_acceptance.py slopes

One row of a Markdown table an answer. A set takes 3 to 30 s of an idle core; all of them about an hour.
docs/science-validation.md has the rows of the last time.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from support.independent_detector import DETECTORS
from support.independent_faults import FAULTS, good_scenes
from support.independent_measure import build_scene
from support.independent_questions import (
    UnsteadyAnswer,
    ask_dark_current,
    ask_errors,
    ask_exposure,
    ask_fault,
    ask_slopes,
    ask_unsteady,
)

SEED = 5000


def errors(folder: Path) -> Iterator[tuple[object, ...]]:
    """Yield the share of pulls beyond 5 sigma, their robust width, and the rms error over ERR."""
    yield "N", "values", "beyond 5 sigma, %", "robust width", "rms(SCI - truth) / ERR"
    for count in (3, 5, 10):
        answer = ask_errors(count, 4, folder, SEED + 10 * count)
        beyond = f"{answer.beyond * 100:.4f}"
        yield count, answer.values, beyond, f"{answer.spread:.3f}", f"{answer.covered:.3f}"


def unsteady(folder: Path) -> Iterator[tuple[object, ...]]:
    """Yield how many bistable and telegraph pixels are flagged, and how many others."""
    yield "planted", "pixels", "flagged, %", "others", "TELEGRAPH, %", "UNRELIABLE_DARK, %"
    for hot_in, count in ((3, 10), (4, 10), (3, 5)):
        how = {"bistable_in": hot_in, "exposures": count}
        answer = ask_unsteady("bistable", 3, folder, SEED + 100 * hot_in + count, **how)
        yield f"hot in {hot_in} of {count}", *_shares(answer)
    answer = ask_unsteady("telegraph", 3, folder, SEED + 700, exposures=10)
    yield "telegraph, dwell 300 s, N = 10", *_shares(answer)


def _shares(answer: UnsteadyAnswer) -> tuple[object, ...]:
    others = f"{answer.telegraph * 100:.4f}", f"{answer.unreliable * 100:.4f}"
    return answer.planted, f"{answer.flagged * 100:.1f}", answer.ordinary, *others


def dark_current(folder: Path) -> Iterator[tuple[object, ...]]:
    """Yield mean and standard deviation of the pulls of the dark current over 48 sets."""
    yield "settling, e-", "sets", "mean pull", "std of the pulls"
    for settling in (0.0, 20.0):
        pulls = ask_dark_current(settling, 48, folder, SEED + 800)
        mean = f"{pulls.mean():+.2f} +- {pulls.std() / np.sqrt(pulls.size):.2f}"
        yield settling, pulls.size, mean, f"{pulls.std(ddof=1):.2f}"


def good(folder: Path, part: int = 0, parts: int = 1) -> Iterator[tuple[object, ...]]:
    """Yield what becomes of the forty good sets."""
    yield "set", "outcome", "dark current, e-/ks", "truth", "verdict"
    for name, scene in list(good_scenes().items())[part::parts]:
        built = build_scene(scene, folder)
        results = built.results
        rate = f"{results.dark_current_e_per_ks:.1f} +- {results.dark_current_error_e_per_ks:.1f}"
        yield name, built.outcome, rate, f"{built.true_dark_current():.1f}", built.verdict


def bad(folder: Path, part: int = 0, parts: int = 1) -> Iterator[tuple[object, ...]]:
    """Yield what becomes of three bad sets of each kind."""
    yield "fault", "detector", "outcome"
    drawn = [(kind, number, turn) for turn in range(3) for number, kind in enumerate(FAULTS)]
    for kind, number, turn in drawn[part::parts]:
        detector = DETECTORS[(3 * number + 4 * turn) % len(DETECTORS)]
        yield kind, detector, ask_fault(kind, detector, SEED + 1000 + 100 * number + turn, folder)


def slopes(folder: Path) -> Iterator[tuple[object, ...]]:
    """Yield the rms of the dark's slope error (5 x 60 groups), and the slope noise of exposures minus it."""
    yield (
        "detector",
        "hits/cm2/s",
        "reliable, %",
        "rms",
        "rms of all pixels",
        "exposure",
        "ours / perfect / none",
    )
    for detector in ("NRCALONG", "NRCA1"):
        for hits in (5.0, 50.0):
            built = ask_slopes(detector, hits, folder, SEED + 900)
            residuals, every = built.slope_residuals(), built.slope_residuals(reliable=False)
            share = f"{100 * residuals.size / every.size:.1f}"
            rms = [f"{np.sqrt((values**2).mean()):.2f}" for values in (residuals, every)]
            for groups, pattern in ((80, "RAPID"), (20, "RAPID"), (5, "DEEP8")):
                noise = ask_exposure(built, groups, pattern)
                left = f"{noise.ours:.1f} / {noise.perfect:.1f} / {noise.none:.1f}"
                yield detector, hits, share, *rms, f"{pattern} {groups}", left


QUESTIONS = {"errors": errors, "unsteady": unsteady, "dark-current": dark_current, "slopes": slopes}
VERDICTS = {"good": good, "bad": bad}


def main() -> None:
    """Ask the questions that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", nargs="+", choices=[*QUESTIONS, *VERDICTS])
    parser.add_argument("--part", type=int, default=0, help="of the good and bad sets, from 0")
    parser.add_argument("--parts", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="independent-") as name:
        folder = Path(name)
        for question in asked.questions:
            if question in QUESTIONS:
                rows = QUESTIONS[question](folder)
            else:
                rows = VERDICTS[question](folder, asked.part, asked.parts)
            for number, row in enumerate(rows):
                print("|", " | ".join(str(cell) for cell in row), "|", flush=True)
                if not number:
                    print("|", "---|" * len(row), flush=True)


if __name__ == "__main__":
    main()
