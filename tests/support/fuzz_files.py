"""Exposures as no archive delivers them: small good ones with bits, cards, HDUs and packing changed."""

import bz2
import gzip
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from astropy.io import fits

from shared.ramps.hdus import BLOCK, walk_hdus
from support.hostile_files import HOSTILE_FILES, asdf_hdu
from support.ingest_exposures import write_exposure, write_segments

_CARD = 80
_ODD_VALUES = (
    *(
        "0",
        "-1",
        "1",
        "2",
        "T",
        "F",
        "''",
        "'x'",
        "1E999",
        "-1E999",
        "NaN",
        "1.5",
        "1D3",
        str(2**31),
        str(2**63),
    ),
    *(
        str(10**60),
        "'" + "A" * 60 + "'",
        "'''",
        "'unclosed",
        "",
        "/",
        "(1, 2)",
        "'COMPLETE'",
        "'SKIPPED'",
        "0x10",
    ),
    *(
        "'../../x'",
        "'NRCB1'",
        "'NRC_DARK'",
        "64",
        "99999",
        "61042.25",
        "'2026-01-02'",
        "&",
        "1 2 3",
        "\xff",
        "\0",
    ),
)
_NAMES = """
SIMPLE XTENSION BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 NAXIS4 PCOUNT GCOUNT TFIELDS EXTNAME EXTVER BSCALE BZERO
BLANK TFORM1 TDIM1 THEAP ZIMAGE GROUPS CHECKSUM DATASUM CONTINUE HIERARCH COMMENT HISTORY END INHERIT
NINTS NGROUPS NFRAMES GROUPGAP TFRAME TGROUP EXPSTART EXPEND DATE-OBS DATE EXSEGNUM EXSEGTOT INTSTART
INTEND SUBSIZE1 SUBSTRT1 NOUTPUTS EXP_TYPE DETECTOR PROGRAM OBSERVTN EXPOSURE FILENAME S_DQINIT S_JUMP
PEDIGREE ZEROFRAM DATAMODL
"""
_KEYWORDS = _NAMES.split()
#: Those that write hundreds of MB take too long to be drawn again and again.
_SLOW = {"zip of zeros", "compressed ASDF block"}


@dataclass(frozen=True)
class BaseFile:
    """A good exposure: its bytes, and whether every HDU states CHECKSUM and DATASUM."""

    name: str
    content: bytes
    sums: bool

    def pixels(self) -> dict[str, bytes]:
        """Return the stored bytes of its arrays by extension."""
        return stored_pixels(self.content)


class InMemory:
    """A file of these bytes, as `shared.store.base.ObjectReader`."""

    def __init__(self, content: bytes) -> None:
        self._content, self.size = content, len(content)

    def read(self, offset: int, length: int) -> bytes:
        return self._content[offset : offset + length]

    def read_into(self, offset: int, buffer: memoryview) -> None:
        buffer[:] = self.read(offset, len(buffer))

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


def stored_pixels(content: bytes) -> dict[str, bytes]:
    """Return the stored bytes of the arrays of a FITS file by extension, as ingest reads it."""
    pixels: dict[str, bytes] = {}
    for extent in walk_hdus(InMemory(content), "x"):
        if extent.name in ("SCI", "PIXELDQ", "GROUPDQ"):
            pixels.setdefault(extent.name, content[extent.data_at : extent.data_at + extent.size])
    return pixels


def base_files(folder: Path) -> list[BaseFile]:
    """Make the exposures to start from: raw, with flags and a table, and a segment, with and without sums.

    Behind them are the hostile files.

    All steps are done by their headers, so that an exposure that passes takes no calibration.
    """
    raw = write_exposure(folder / "raw.fits", ngroups=3, finished=True)
    flagged = folder / "flagged.fits"
    with fits.open(raw, memmap=False) as hdus:
        hdus["SCI"] = fits.ImageHDU(hdus["SCI"].data.astype("f4"), name="SCI")
        hdus.append(
            fits.BinTableHDU.from_columns(
                [fits.Column("integration_number", "I", array=[1, 2])], name="GROUP"
            )
        )
        hdus.append(
            asdf_hdu(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.5.0\n%YAML 1.1\n---\nmeta: {telescope: JWST}\n...\n")
        )
        hdus.writeto(flagged)
    [segment, _] = write_segments(raw, folder / "segments", [1, 1])
    bases = []
    for path in (raw, flagged, segment):
        with_sums = path.with_suffix(".sums")
        with fits.open(path, memmap=False) as hdus:
            hdus.writeto(with_sums, checksum=True)
        bases += [
            BaseFile(path.stem, path.read_bytes(), False),
            BaseFile(path.stem, with_sums.read_bytes(), True),
        ]
    for kind in sorted(HOSTILE_FILES.keys() - _SLOW):
        path = folder / "hostile.fits"
        path.write_bytes(raw.read_bytes())
        HOSTILE_FILES[kind](path)
        bases.append(BaseFile(kind, path.read_bytes(), False))
    return bases


def mutated_files(seed: int, count: int, bases: list[BaseFile]) -> Iterator[tuple[BaseFile, bytes]]:
    """Yield `count` mutated files and what each was; the same for the same seed and bases."""
    random = Random(seed)
    # What has sums is mostly refused before much is done, which is the cheaper path and the greater promise.
    weights = [30 if base.sums else 1 if base.name in HOSTILE_FILES else 10 for base in bases]
    kinds = list(_MUTATIONS)
    for _ in range(count):
        [base] = random.choices(bases, weights)
        content = base.content
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            [mutate] = random.choices(kinds, list(_MUTATIONS.values()))
            content = mutate(content, random)
        yield base, content


def _flip_bits(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 16))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cards(content: bytes) -> list[int]:
    """Return where the cards of all headers are, found without parsing."""
    cards: list[int] = []
    for block in range(0, len(content) - BLOCK + 1, BLOCK):
        if content[block : block + 8] in (b"SIMPLE  ", b"XTENSION"):
            at = block
            while at + _CARD <= len(content):
                cards.append(at)
                if content[at : at + 8] == b"END     ":
                    break
                at += _CARD
    return cards


def _change_card(content: bytes, random: Random) -> bytes:
    cards = _cards(content)
    if not cards:
        return _flip_bits(content, random)
    at = random.choice(cards)
    card = content[at : at + _CARD]
    action = random.randrange(6)
    if action == 0:
        card = card[:10] + random.choice(_ODD_VALUES).encode("latin1")
    elif action == 1:
        card = f"{random.choice(_KEYWORDS):8}= {random.choice(_ODD_VALUES)}".encode("latin1")
    elif action == 2:
        card = b""
    elif action == 3:
        card = random.randbytes(_CARD)
    elif action == 4:
        other = random.choice(cards)
        card = content[other : other + _CARD]
    else:
        card = _flip_bits(card, random)
    return content[:at] + card.ljust(_CARD)[:_CARD] + content[at + _CARD :]


def _set_card(content: bytes, random: Random) -> bytes:
    """Give a keyword that matters another value where it stands."""
    places = [at for at in _cards(content) if content[at : at + 8].decode("latin1").strip() in _KEYWORDS]
    if not places:
        return _change_card(content, random)
    at = random.choice(places)
    value = random.choice(_ODD_VALUES).encode("latin1")
    return content[: at + 10] + value.ljust(_CARD - 10)[: _CARD - 10] + content[at + _CARD :]


def _resize(content: bytes, random: Random) -> bytes:
    at = random.choice(
        (random.randrange(len(content) + 1), random.randrange(len(content) // BLOCK + 1) * BLOCK)
    )
    other = random.randrange(len(content) // BLOCK + 1) * BLOCK
    return random.choice(
        (
            content[:at],
            content[at:],
            content + random.randbytes(random.choice((1, 100, BLOCK))),
            content + bytes(BLOCK),
            content[:at] + bytes(BLOCK) + content[at:],
            content[:at] + content[at + BLOCK :],
            content + content[other:],
            content[:other] + content[at:],
        )
    )


def _add_hdu(content: bytes, random: Random) -> bytes:
    cards = [
        random.choice(("XTENSION= 'IMAGE   '", "XTENSION= 'BINTABLE'", "XTENSION= 'ODD     '", "SIMPLE  = T"))
    ]
    cards += [f"{name:8}= {random.choice((8, 16, -32, 0, 1, 3, 10**12))}" for name in ("BITPIX", "NAXIS")]
    cards += [
        f"{random.choice(_KEYWORDS):8}= {random.choice(_ODD_VALUES)}" for _ in range(random.randrange(12))
    ]
    cards += [
        f"EXTNAME = '{random.choice(('SCI', 'GROUPDQ', 'PIXELDQ', 'ASDF', 'ZEROFRAME', 'GROUP', 'ERR'))}'"
    ]
    hdu = "".join(card.ljust(_CARD)[:_CARD] for card in (*cards, "END"))
    raw = hdu.ljust(-(-len(hdu) // BLOCK) * BLOCK).encode("latin1")
    return content + raw + bytes(BLOCK * random.randrange(2))


def _add_asdf(content: bytes, random: Random) -> bytes:
    body = random.choice(
        (
            random.randbytes(500),
            b"#ASDF 1.0.0\n%YAML 1.1\n---\n" + b"a: " + b"[" * 2000,
            b"#ASDF 1.0.0\n%YAML 1.1\n---\nmeta: {instrument: {detector: NRCB4}}\n...\n",
            b"#ASDF 1.0.0\n%YAML 1.1\n--- !!python/object/apply:os.system ['false']\n...\n",
            b"\xd3BLK" + bytes(60),
        )
    )
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), asdf_hdu(body)]).writeto(buffer)
    return content + buffer.getvalue()[BLOCK:]


def _pack(content: bytes, random: Random) -> bytes:
    if random.random() < 0.2:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a.fits", content)
        return buffer.getvalue()
    packed = gzip.compress(content, 1, mtime=0)
    return random.choice(
        (
            packed,
            _flip_bits(packed, random),
            packed[: random.randrange(len(packed))],
            packed + packed,
            packed + random.randbytes(20),
            gzip.compress(packed, 1, mtime=0),
            gzip.compress(b"", mtime=0),
            bz2.compress(content),
            b"\x1f\x8b" + content,
        )
    )


def _misstate_sums(content: bytes, random: Random) -> bytes:
    places = [at for at in _cards(content) if content[at : at + 8] in (b"CHECKSUM", b"DATASUM ")]
    if not places:
        return _add_sums(content)
    at = random.choice(places)
    value = random.choice(("'0'", "''", "0", "'AAAAAAAAAAAAAAAA'", "'unclosed", "T", "'4294967296'", "'1e3'"))
    return content[: at + 10] + value.encode().ljust(_CARD - 10) + content[at + _CARD :]


def _add_sums(content: bytes) -> bytes:
    """Put a card DATASUM that is wrong in front of END of the first header."""
    cards = _cards(content)
    at = next((at for at in cards if content[at : at + 8] == b"END     "), None)
    if at is None or content[at + _CARD : at + 2 * _CARD].strip():
        return content
    wrong = b"DATASUM = '12345   '".ljust(_CARD) + b"END".ljust(_CARD)
    return content[:at] + wrong + content[at + 2 * _CARD :]


_MUTATIONS: dict[Callable[[bytes, Random], bytes], int] = {
    _flip_bits: 4,
    _change_card: 6,
    _set_card: 6,
    _resize: 3,
    _add_hdu: 2,
    _add_asdf: 1,
    _pack: 2,
    _misstate_sums: 2,
}
