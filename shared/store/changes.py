"""Marks: keys that tell the catalog what is about to be written, so that it need not list the whole store.

The catalog (`shared.catalog.packs`) repeats what `status`, `coverage`, `stability` and the metrics ask of all
products. It is complete because of an order: the *mark* of an object, an empty object whose key holds the
object's key, is written **before** the object. Whatever is in the store is therefore in a pack of the
catalog, or has a mark. A worker that dies in between leaves a mark of nothing, which costs a reader one
request and is wrong about nothing.

    index/catalog-1/new/<key>       an object that does not change: a manifest, or a note of a count;
                                    the catalog packs it, and then removes the mark
    index/catalog-1/anew/<key>      an object that may change or end: a claim that `status` asks for, the note
                                    that a configuration is not served, the sign-off of a reference; it is
                                    read each time

The number is the version of all that the catalog holds: a program that knows another makes a catalog of its
own, from the manifests.
"""

from collections.abc import Iterator

from shared.store.base import Store

#: Everything that the catalog keeps. Raise the number whenever a pack would hold something else.
CATALOG = "index/catalog-1/"
NEW = f"{CATALOG}new/"
ANEW = f"{CATALOG}anew/"
#: Stands for the slash: a folder of so many marks would otherwise be as many folders. No key has it.
_SLASH = "~"
#: Longest part of a key that file systems take is 255 bytes; no key needs more than one byte a character.
_LONGEST_PART = 200


def mark_new(store: Store, key: str) -> None:
    """Tell the catalog that an object is about to be written that will not change.

    Raises
    ------
    StoreUnavailable, EnvironmentFault
        If the store does not answer, or refuses; the object must then not be written.
    """
    store.put(NEW + mark_of(key), b"")


def mark_changing(store: Store, key: str) -> None:
    """Tell the catalog that an object is about to be written that may change again, or be removed."""
    store.put(ANEW + mark_of(key), b"")


def unmark(store: Store, folder: str, key: str) -> None:
    """Remove a mark: the catalog has the object, or need not look at it any more."""
    store.delete(folder + mark_of(key))


def marked(store: Store, folder: str) -> Iterator[str]:
    """Yield the keys of the objects that have a mark in a folder, `NEW` or `ANEW`."""
    for mark in store.list(folder):
        yield mark.removeprefix(folder).replace("/", "").replace(_SLASH, "/")


def mark_of(key: str) -> str:
    """Return the end of the key of a mark.

    Examples
    --------
    >>> mark_of("ingest/nrca1_full/jw1/0123/manifest.json")
    'ingest~nrca1_full~jw1~0123~manifest.json'
    """
    flat = key.replace("/", _SLASH)
    return "/".join(flat[first : first + _LONGEST_PART] for first in range(0, len(flat), _LONGEST_PART))
