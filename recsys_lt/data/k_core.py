"""The k-core: the largest part of the interactions in which everyone has k of them."""

import numpy as np
from numpy.typing import NDArray

from recsys_lt.data.interactions import Codes
from recsys_lt.data.pieces import counts_of, place_type


def k_core(users: Codes, items: Codes, k: int) -> NDArray[np.bool_]:
    """Which events remain when users and items with fewer than k events go, again and again.

    Parameters
    ----------
    users, items
        Codes from 0, [E].
    k
        Fewest events of a user, and of an item, that stay; 1 or less keeps all.

    Returns
    -------
    keep
        [E] bool. The same whatever the order of removal.
    """
    keep = np.ones(len(users), dtype=np.bool_)
    if k <= 1 or not len(users):
        return keep
    left = np.arange(len(users), dtype=place_type(len(users)))
    user_counts, item_counts = (counts_of(codes, int(codes.max()) + 1) for codes in (users, items))
    while True:
        stays = (user_counts >= k)[users]
        stays &= (item_counts >= k)[items]
        gone = ~stays
        if not gone.any():
            return keep
        keep[left[gone]] = False
        # Only what went is counted again: late rounds remove little.
        user_counts -= counts_of(users[gone], len(user_counts))
        item_counts -= counts_of(items[gone], len(item_counts))
        left, users, items = left[stays], users[stays], items[stays]
