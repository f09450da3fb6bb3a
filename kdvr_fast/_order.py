"""The order in which an epoch walks the rows: a uniformly random permutation drawn from a NumPy Generator.

The generator gives n words of 64 bits in one call and nothing more, and they are made into an order by Fisher and Yates'
shuffle written from the inside out:

    for i in 0 .. n - 1:   j = word_i (i + 1) // 2**64;   order[i] = order[j];   order[j] = i

j is uniform on 0 .. i up to n / 2**64. `Generator.permutation` rejects words and so pays for jumps that are not foreseen; this
takes a third of its time. Every backend walks the same order, with the compiled extension and without.
Source: R. Durstenfeld, Commun. ACM 7 (1964), 420; D. Lemire, ACM TOMACS 29 (2019), 3 (the product).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shuffled_rows(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """A random permutation of 0 .. n - 1, (n,) int64; takes n 64-bit words of the generator.

    >>> import numpy as np
    >>> sorted(shuffled_rows(np.random.default_rng(0), 5).tolist())
    [0, 1, 2, 3, 4]
    """
    from .backends.native import _core

    words = rng.integers(0, 2**64, n, np.uint64)
    return order_of(words) if _core is None else _core.shuffled(words)


def order_of(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """What is made of the words, in Python: the specification, and what runs where the extension does not load."""
    order: list[int] = []
    for i, word in enumerate(words.tolist()):
        j = word * (i + 1) >> 64
        order.append(i)
        order[i], order[j] = order[j], i
    return np.array(order, np.int64)
