"""Files that no telescope writes: what once hung ingest, filled its disk or ended it with a foreign error.

Each function takes a good exposure and spoils it in place. `HOSTILE_FILES` has them all by name.
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import asdf
import numpy as np
from astropy.io import fits

BLOCK = 2880


def header(*cards: str) -> bytes:
    """Return a FITS header of these cards, as they are, and END."""
    text = "".join(card.ljust(80)[:80] for card in (*cards, "END"))
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


def axes_without_end(path: Path) -> None:
    """Make a file of a block whose header claims 2^63 - 1 axes."""
    path.write_bytes(header("SIMPLE  =                    T", "BITPIX  = 8", f"NAXIS   = {2**63 - 1}"))


def axes_without_end_behind(path: Path) -> None:
    """Add a record behind the last extension, which FITS allows, that claims 2^63 - 1 axes."""
    hidden = header("XTENSIO =                    T", "BITPIX  = 8", f"NAXIS   = {2**63 - 1}")
    path.write_bytes(path.read_bytes() + hidden)


def odd_axes(path: Path) -> None:
    """Make NAXIS of the primary header a word."""
    path.write_bytes(header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 'many'"))


def zipped_zeros(path: Path) -> None:
    """Make it a zip that holds a thousand times its size of zeros; astropy unpacks it to read a byte."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("a.fits", "w", force_zip64=True) as member,
    ):
        member.write(header("SIMPLE  =                    T", "BITPIX  = 8", "NAXIS   = 0"))
        for _ in range(4):
            member.write(bytes(64 * 1024**2))


def broken_zip(path: Path) -> None:
    """Make it begin as a zip does, and go on as nothing does."""
    path.write_bytes(b"PK\x03\x04" + bytes(4000))


def old_compress(path: Path) -> None:
    """Make it begin as a file of compress (.Z) does."""
    path.write_bytes(b"\x1f\x9d\x90" + bytes(4000))


def broken_bzip2(path: Path) -> None:
    """Make it begin as a file of bzip2 does."""
    path.write_bytes(b"BZh9" + bytes(4000))


def huge_axes(path: Path) -> None:
    """Let SCI claim axes of 10^60."""
    content = path.read_bytes()
    at = content.index(b"XTENSION")
    at = content.index(b"NAXIS1  =", at)
    path.write_bytes(content[:at] + f"NAXIS1  = {10**60}".ljust(80).encode() + content[at + 80 :])


def huge_axes_of_nothing(path: Path) -> None:
    """Add an image without a pixel, since one of its axes is 0, whose other axis is 10^60."""
    hdu = header(
        "XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 0", f"NAXIS2  = {10**60}",
        "PCOUNT  = 0", "GCOUNT  = 1", "EXTNAME = 'EXTRA   '",
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + hdu)


def columns_without_end(path: Path) -> None:
    """Add a table without rows that claims 10^12 columns."""
    hdu = header(
        "XTENSION= 'BINTABLE'", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 0", "NAXIS2  = 0",
        "PCOUNT  = 0", "GCOUNT  = 1", f"TFIELDS = {10**12}", "EXTNAME = 'GROUP   '",
    )  # fmt: skip
    path.write_bytes(path.read_bytes() + hdu)


def _append(path: Path, *more: object) -> None:
    with fits.open(path, memmap=False) as hdus:
        if "ASDF" in hdus:
            del hdus["ASDF"]
        hdus.extend(more)
        hdus.writeto(path, overwrite=True)


def float_flags(path: Path) -> None:
    """Make PIXELDQ and GROUPDQ floating-point numbers."""
    with fits.open(path, memmap=False) as hdus:
        for name in ("PIXELDQ", "GROUPDQ"):
            hdus[name] = fits.ImageHDU(hdus[name].data.astype("f4"), name=name)
        hdus.writeto(path, overwrite=True)


def scaled_to_infinity(path: Path) -> None:
    """Let BZERO of SCI be infinite."""
    content = path.read_bytes()
    at = content.index(b"BZERO   =")
    path.write_bytes(content[:at] + b"BZERO   =                1E999".ljust(80) + content[at + 80 :])


def header_of_many_mib(path: Path) -> None:
    """Put 24 MiB of comments into extensions without data."""
    cards = ["XTENSION= 'IMAGE   '", "BITPIX  = 8", "NAXIS   = 0", "PCOUNT  = 0", "GCOUNT  = 1"]
    cards += [f"COMMENT {number}" for number in range(35_000)]
    path.write_bytes(path.read_bytes() + header(*cards) * 9)


def yaml_aliases(path: Path) -> None:
    """Put aliases of aliases, five deep and fifty wide, into the ASDF extension."""
    _append(path, asdf_hdu(tree_of_aliases()))


def tree_of_aliases() -> bytes:
    """Return an ASDF file of 2 kB whose aliases of aliases unfold to 300 million words."""
    levels = ["a: &a [" + ", ".join(["x"] * 50) + "]"]
    for before, name in zip("abcd", "bcde", strict=True):
        levels.append(f"{name}: &{name} [" + ", ".join([f"*{before}"] * 50) + "]")
    tree = "\n".join(levels)
    return f"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n---\n{tree}\n...\n".encode()


def compressed_block(path: Path) -> None:
    """Put an array of 256 MiB of zeros, compressed a thousandfold, into the ASDF extension."""
    buffer = io.BytesIO()
    tree = {"meta": {"extra": np.zeros(256 * 1024**2, "u1")}}
    asdf.AsdfFile(tree).write_to(buffer, all_array_compression="zlib")
    _append(path, asdf_hdu(buffer.getvalue()))


def external_array(path: Path) -> None:
    """Let an array of the ASDF extension lie in another file of this machine."""
    other = path.with_name("secret.asdf")
    asdf.AsdfFile({"data": np.arange(1000)}).write_to(other)
    _append(path, asdf_hdu(tree_with_array_of(other, "extra")))


def tree_with_array_of(other: Path, name: str) -> bytes:
    """Return an ASDF file in which `name` is an array of 1000 integers that lies in another file."""
    return (
        "#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n---\n"
        f"{name}: !core/ndarray-1.0.0 {{source: {other.as_uri()!r}, shape: [1000], datatype: int64, "
        "byteorder: little}\n...\n"
    ).encode()


def asdf_hdu(content: bytes) -> fits.BinTableHDU:
    """Return an ASDF extension with these bytes as its file."""
    column = fits.Column("ASDF_METADATA", f"{len(content)}B", array=[np.frombuffer(content, "u1")])
    return fits.BinTableHDU.from_columns([column], name="ASDF")


HOSTILE_FILES: dict[str, Callable[[Path], None]] = {
    "2^63 - 1 axes": axes_without_end,
    "2^63 - 1 axes behind the end": axes_without_end_behind,
    "NAXIS is a word": odd_axes,
    "zip of zeros": zipped_zeros,
    "broken zip": broken_zip,
    "compress": old_compress,
    "broken bzip2": broken_bzip2,
    "axes of 10^60": huge_axes,
    "axes of 0 and 10^60": huge_axes_of_nothing,
    "10^12 columns": columns_without_end,
    "flags that are no integers": float_flags,
    "BZERO is infinite": scaled_to_infinity,
    "headers of 24 MiB": header_of_many_mib,
    "YAML aliases": yaml_aliases,
    "compressed ASDF block": compressed_block,
    "external ASDF array": external_array,
}
