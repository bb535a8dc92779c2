"""The dashboard of the detectors: dark current, noise and jumps compared with what is expected."""

from figures import BAND_SIGMAS, DARK_CURRENT, DETECTOR, FIGURES, PLACE, ExpectedFigure
from frame import begin, labels_variable
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.models.common import BigValueTextMode
from panels import ANY_IS_BAD, BAD, GOOD, LOOK, PLAIN, Query, stat, states, timeseries, with_band, with_dashes
from tables import Column, table

#: The limit at which deploy/prometheus/rules/alerts.yml reports a stalled set.
QUIET_SECONDS = 6 * 3600
NEVER = -1

MEASURED = "darks:measured_timestamp_seconds"
JUMPS = f"darks:jump_pixel_fraction:newest{{{PLACE}}}"
#: Label `figure` of the metrics -> its name for readers.
MEASUREMENTS = {"dark_current": "dark current", "noise": "noise of a set", "jumps": "jumps"}


def dashboard() -> Dashboard:
    """Return the builder of the dashboard."""
    board = begin(
        "Dark exposures: science",
        "darks-science",
        "What the newest exposures say about each NIRCam detector, compared with what is expected. Figures "
        "of simulated exposures are shown only if DARKS_SIMULATED_METRICS is set. For errors, single "
        "amplifiers and older products see the report, nircam-darks stability and nircam-darks coverage.",
        "Darks(DarkCurrent|Noise|Reference|Set).*",
    )
    board.time("now-7d", "now").refresh("5m")
    board.with_variable(
        labels_variable(
            "detector",
            "Detector",
            "NRCA1 to NRCA4 and NRCB1 to NRCB4 are short-wave, NRCALONG and NRCBLONG long-wave.",
            "darks:expected_dark_current_electrons_per_kilosecond",
        )
    ).with_variable(
        labels_variable(
            "subarray", "Subarray", "The part of the detector that is read out; FULL is all of it.", MEASURED
        )
        # A subarray measured for the first time shows without a reload of the page.
        .all_value(".+")
    )
    for row in (_glance, _distances, _coverage, _sets, _each_detector):
        row(board)
    return board


def _glance(board: Dashboard) -> None:
    board.with_row(Row("At a glance"))
    panels = (
        stat(
            "Detectors measured",
            "Detectors, out of ten, with any figure measured within the last 7 days.",
            Query(f"count(group by (detector) ({MEASURED}{{{PLACE}}}))", "detectors"),
        ),
        stat(
            "Out of their band",
            "Figures whose newest verdict, which includes their error, is above or below the "
            "expected range; a "
            "dash if nothing was measured.",
            Query(f"sum(darks:out_of_expected_band:newest{{{PLACE}}})", "figures"),
            steps=ANY_IS_BAD,
        ),
        stat(
            "References in the time shown",
            "Dark references built, by the result of their verification. Rejected ones are kept but "
            "replace none.",
            Query(
                "sum by (verification) (increase(darks_references_built_total[$__range]))", "{{verification}}"
            ),
            width=8,
            decimals=0,
            over_range=True,
        ).text_mode(BigValueTextMode.VALUE_AND_NAME),
        stat(
            "Sets waiting",
            "Configurations with exposures that are not in a dark reference yet.",
            Query("darks:sets_waiting", "sets"),
        ),
        stat(
            "Integrations waiting",
            "Calibrated integrations of all configurations that are not in a dark reference yet.",
            Query("sum(darks:set_waiting_integrations)", "integrations"),
        ),
    )
    for panel in panels:
        board.with_panel(panel)


def _distances(board: Dashboard) -> None:
    board.with_row(Row("All detectors against what is expected"))
    band = ((None, LOOK), (-BAND_SIGMAS, "transparent"), (BAND_SIGMAS, LOOK))
    for figure in FIGURES:
        board.with_panel(
            timeseries(
                f"{figure.name}, from what is expected",
                f"{figure.what}: its distance from the middle of the expected range, in sigma: "
                f"{figure.counted}. It applies to {figure.holds}.",
                Query(figure.sigmas, "{{detector}} {{subarray}}"),
                unit="suffix:sigma",
                floor=None,
                steps=band,
            )
        )
    board.with_panel(
        timeseries(
            "Pixels with a jump",
            "Fraction of the pixels with a jump in the newest exposure or set. It grows with the exposure "
            "time, so no single range applies; the report has rates per cm2 and second with their limits.",
            Query(JUMPS, "{{detector}} {{subarray}}"),
            unit="percentunit",
            width=12,
        )
    )
    board.with_panel(
        states(
            "Verdicts",
            "The verdict of the product itself, which includes the error of the measurement as well as the "
            "width of the range. noise: CDS noise, effective noise, jumps or reset noise.",
            Query(
                f"darks:out_of_expected_band:newest{{{PLACE}}}",
                "{{detector}} {{subarray}}, {{figure}}",
            ),
            names=((0, "as expected", GOOD), (1, "out of the band", BAD)),
            width=12,
        )
    )


def _coverage(board: Dashboard) -> None:
    board.with_row(Row("Coverage"))
    known = f"group by (detector) (darks:expected_{DARK_CURRENT.metric}{{{DETECTOR}}})"
    age = (
        f'min by (detector) (time() - max_over_time({MEASURED}{{{DETECTOR},figure="%s"}}[$__range])) '
        f"or {NEVER} * {known}"
    )
    board.with_panel(
        table(
            "Last measured",
            "Time since each detector was last measured, in any subarray; never: not within the time shown. "
            "nircam-darks coverage lists the exposures of NRC-09 that are still missing.",
            {"detector": "detector"},
            *(
                Column(age % figure, words, unit="s", decimals=1, names=((NEVER, "never", BAD),))
                for figure, words in MEASUREMENTS.items()
            ),
            width=10,
            height=12,
        )
    )
    verdicts = ((0, "as expected", GOOD), (1, "out of the band", BAD))
    board.with_panel(
        table(
            "Newest figures",
            "Detectors and subarrays measured within the last 7 days, and the newest value of each figure.",
            {"detector": "detector", "subarray": "subarray"},
            *(column for figure in FIGURES for column in _columns(figure)),
            Column(JUMPS, "pixels with a jump", unit="percentunit", decimals=2),
            Column(
                f"darks:out_of_expected_band:newest{{{PLACE}}}",
                "verdict",
                names=verdicts,
            ),
            width=14,
            height=12,
        )
    )


def _columns(figure: ExpectedFigure) -> list[Column]:
    columns = [Column(figure.newest, figure.name, unit=figure.unit, decimals=2)]
    if figure.error:
        columns.append(Column(figure.newest_error, "±", unit=figure.unit, decimals=2))
    return columns


def _sets(board: Dashboard) -> None:
    board.with_row(Row("Sets that wait"))
    board.with_panel(
        table(
            "What waits, and for how long",
            "Configurations with integrations that are not in a dark reference yet. After 6 hours without a "
            "new exposure DarksSetStalled fires; nircam-darks status says what the set is waiting for.",
            {"configuration": "configuration"},
            Column("darks:set_waiting_integrations > 0", "integrations"),
            Column(
                "darks:set_quiet_seconds",
                "since its newest exposure",
                unit="s",
                decimals=1,
                steps=((None, PLAIN), (QUIET_SECONDS, BAD)),
            ),
            Column(
                "time() - darks_set_oldest_timestamp_seconds",
                "since its oldest exposure",
                unit="s",
                decimals=1,
            ),
            Column(
                "darks:set_outdated_exposures",
                "of an earlier context",
                steps=((None, PLAIN), (1, BAD)),
            ),
            Column(
                "time() - darks_set_outdated_timestamp_seconds",
                "since the oldest of these",
                unit="s",
                decimals=1,
            ),
            width=16,
        )
    )
    board.with_panel(
        timeseries(
            "Sets waiting",
            "Configurations with exposures that are not in a dark reference yet; falls as references "
            "are built.",
            Query("darks:sets_waiting", "sets"),
        )
    )


def _each_detector(board: Dashboard) -> None:
    board.with_row(Row("$detector").repeat("detector"))
    low, high = "expected, low", "expected, high"
    for figure in FIGURES:
        errors, dashed = [], ""
        if figure.error:
            errors = [
                Query(f"{figure.newest} {sign} ({figure.newest_error})", f"{{{{subarray}}}} {sign} 1 sigma")
                for sign in "-+"
            ]
            dashed = "; dashed: error, 1 sigma either way"
        panel = timeseries(
            figure.name,
            f"{figure.what}, by subarray{dashed}; grey: expected range, 2 sigma either way. "
            f"It applies to {figure.holds}.",
            Query(figure.newest, "{{subarray}}"),
            Query(figure.edge("low"), low),
            Query(figure.edge("high"), high),
            *errors,
            unit=figure.unit,
            width=6,
        )
        if errors:
            with_dashes(panel, "/ [+-] 1 sigma$/")
        board.with_panel(with_band(panel, low, high))
    board.with_panel(
        timeseries(
            "Pixels with a jump",
            "Fraction of the pixels with a jump in the newest exposure or set, by subarray.",
            Query(JUMPS, "{{subarray}}"),
            unit="percentunit",
            width=6,
        )
    )
