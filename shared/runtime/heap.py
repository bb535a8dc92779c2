"""How this process's allocator keeps memory, where it is glibc's.

glibc gives an array of more than 32 MiB back to the system as soon as it is freed, and the next one gets
pages that the system has to fill with zeros first. Code that makes and frees one such array after another, as
jwst's steps do with every run of groups, spends a fourth of its time on that. Threads other than the first
have heaps of their own, of at most 64 MiB, and get no larger array from them at all.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

#: Names of `mallopt` and their numbers, from glibc's <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_MIB = 1024**2
#: Bytes of an array that is mapped by itself, and of free memory at the heap's end that is given back.
#: What glibc comes to by itself, once arrays of 32 MiB were freed.
_USUAL_ARRAY, _USUAL_FREE = 32 * _MIB, 64 * _MIB
#: While memory is reused. With 256 MiB the time is the same and the peak higher.
_REUSED_ARRAY, _REUSED_FREE = 64 * _MIB, 128 * _MIB


def share_one_heap() -> None:
    """Have threads that are yet to be started allocate from one heap; without glibc nothing happens."""
    _set(_ARENA_MAX, 1)


@contextmanager
def reusing_memory() -> Iterator[None]:
    """Reuse the memory of arrays up to 64 MiB meanwhile, and give back at the end what is free.

    At most 128 MiB more are held than otherwise.
    """
    _set(_MMAP_THRESHOLD, _REUSED_ARRAY)
    _set(_TRIM_THRESHOLD, _REUSED_FREE)
    try:
        yield
    finally:
        _set(_MMAP_THRESHOLD, _USUAL_ARRAY)
        _set(_TRIM_THRESHOLD, _USUAL_FREE)
        trim = getattr(_libc, "malloc_trim", None)
        if trim is not None:
            trim(0)


def _set(name: int, value: int) -> None:
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(name, value)


_libc = ctypes.CDLL(None)
