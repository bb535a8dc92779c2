"""darkref on a full-frame set from a cold disk, against reading its bytes and writing the product once."""

from pathlib import Path

from harness import Row, Side, alternate, forget_files, made, python, row

PLANE = 2048 * 2048


def product_bytes(ngroups: int) -> int:
    """Return the size of a reference, its contributions and its map: SCI, ERR, N per group; DQ and map."""
    return PLANE * (ngroups * (4 + 4 + 2) + 4 + 4)


def measure(work: Path, runs: int) -> list[Row]:
    """Run both as whole processes, each from a cold page cache."""
    store = made(["ramps", 2048, 20, 10, 10], work / "full")
    ours = Side(python("job.py", "darkref", store, store / "set.json"))
    theirs = Side(python("peers.py", "read_and_write", store, product_bytes(20)))
    alternate(ours, theirs, runs, before=forget_files(store))
    return [
        row(
            "darkref, flight mode, full frame, 10 x 20, local disk, cold page cache",
            "reading the bytes once, writing (and syncing) the product once",
            "<= 2x",
            ours,
            theirs,
            lambda ratio: ratio <= 2,
            faster=False,
            note="whole process, imports included",
        )
    ]
