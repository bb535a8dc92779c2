"""The rows about rejected files: many that failed one check are one row."""

from nircam_darks.report.exposure_entries import ExposureEntry, rows_of_rejections


def entry(number: int, check: str | None) -> ExposureEntry:
    name = f"image_{number:03d}.fits"
    return ExposureEntry(
        id=str(number),
        file=f"/darks/{name}",
        configuration=None,
        status="rejected",
        reason=f"{name}: reason {number}",
        check=check,
    )


def test_many_files_that_failed_one_check_are_one_row() -> None:
    # Given 200 files that are no darks, two that are cut short, and 25 whose work failed
    entries = [entry(number, "EXP_TYPE") for number in range(200)]
    entries += [entry(number, "truncated") for number in (200, 201)]
    entries += [entry(number, None) for number in range(300, 325)]
    # Then the former are one row, and the others a row each
    rows = rows_of_rejections(entries)
    assert rows[0] == ("image_000.fits and 199 more", "EXP_TYPE", "reason 0")
    assert rows[1:3] == [
        ("image_200.fits", "truncated", "reason 200"),
        ("image_201.fits", "truncated", "reason 201"),
    ]
    assert len(rows) == 28
