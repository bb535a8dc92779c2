"""Says which telescope and instrument an ASDF file is from, without opening it as ASDF.

The asdf library does what a file asks for: it unfolds aliases of aliases, decompresses blocks and opens
arrays in other files. A file that somebody else wrote is not given to it. Here the YAML at its beginning is
read as a stream of events, of which none refers to another, up to a bound; blocks are never touched.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

#: Bytes that are read. The metadata of a Roman exposure are in the first 10 kB.
_LONGEST_START = 1 << 18
#: Events that are looked at, and how deep they may be nested: half a second of processor at most.
_MOST_EVENTS = 20_000
_DEEPEST = 32
#: Characters of a word that is printed.
_LONGEST_WORD = 40
#: Where the words are, behind the name of the tree's one branch: ``roman: meta: telescope: ROMAN``.
_ORIGIN = (("meta", "telescope"), ("meta", "instrument", "name"), ("meta", "instrument", "detector"))


def asdf_origin(path: Path) -> str:
    """Return telescope, instrument and detector of an ASDF file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        Such as ``"ROMAN WFI WFI01"``; empty if its first 256 KiB do not say all three.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_START)
    except OSError:
        return ""
    tree, _, _ = start.partition(b"\n...")
    words: dict[tuple[str, ...], str] = {}
    try:
        for place, word in _scalars(tree):
            if place[1:] in _ORIGIN:
                words.setdefault(place[1:], word)
            if len(words) == len(_ORIGIN):
                break
    except (yaml.YAMLError, ValueError):
        # What comes before the fault counts: a bound may cut the text anywhere.
        pass
    if any(not word.isprintable() or len(word) > _LONGEST_WORD for word in words.values()):
        return ""
    return " ".join(words[name] for name in _ORIGIN) if len(words) == len(_ORIGIN) else ""


@dataclass
class _Branch:
    """A mapping or sequence that is being read; `key` is that of the value to come."""

    is_mapping: bool
    key: str | None = None


def _scalars(text: bytes) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys that lead to each scalar of the first document, and the scalar; aliases are left out."""
    branches: list[_Branch] = []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for number, event in enumerate(yaml.parse(text, Loader=loader)):
        if number == _MOST_EVENTS or len(branches) > _DEEPEST or isinstance(event, yaml.DocumentEndEvent):
            return
        if isinstance(event, yaml.CollectionStartEvent):
            branches.append(_Branch(isinstance(event, yaml.MappingStartEvent)))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            branches.pop()
        elif not isinstance(event, yaml.NodeEvent):
            continue
        word = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if not branches or not branches[-1].is_mapping:
            continue
        if branches[-1].key is None:
            branches[-1].key = word
            continue
        if word and all(branch.is_mapping for branch in branches):
            yield tuple(branch.key or "" for branch in branches), word
        branches[-1].key = None
