"""A network of comparators that sorts any number of values, the same ones whatever the values are."""

import functools

import numpy as np
from numpy.typing import NDArray


@functools.cache
def comparators(n: int) -> NDArray[np.int64]:
    """Return the pairs (low, high) of a sorting network: Batcher's merge exchange, for any n."""
    # Knuth, The Art of Computer Programming 3, 5.2.2, algorithm M, in his own letters.
    pairs: list[tuple[int, int]] = []
    t = max(n - 1, 1).bit_length()
    p = 1 << (t - 1)
    while p > 0 and n > 1:
        q, r, d = 1 << (t - 1), 0, p
        while True:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    return np.array(pairs, np.int64).reshape(-1, 2)
