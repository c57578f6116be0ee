"""How likely a sampled loss bounds the ranking metric it stands for (arXiv 2402.06216).

All of them speak of K negatives drawn independently and uniformly from N items (target and hits
included, as pool ``all`` does) for a target of fixed rank r, the number of items that score at least
as high as the target, itself included. They bound from below the probability that the loss is at
least -log NDCG(r) = log log2(1 + r), or -log MRR(r) = log r; a bound below 0 says nothing and is
returned as 0. Theorem numbers are those of version 3; the bounds of version 2 are looser in m, and
are kept because its claims on NCE and IS rest on them.
"""


def _chance(groups: int, rank: int, draws: int, n_items: int) -> float:
    """1 - groups * P(no draw of a group hits), the K draws cut into equal groups: a union bound."""
    if not 1 <= rank <= n_items:
        raise ValueError(f"a rank among {n_items} items lies in 1..{n_items}, not {rank}")
    if draws < 1:
        raise ValueError(f"K must be at least 1, not {draws}")
    return max(0.0, 1.0 - groups * (1.0 - rank / n_items) ** (draws // groups))


def _ceil_div(numerator: int, alpha: float) -> int:
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, not {alpha}")
    return max(1, int(-(-numerator // alpha)))


def _levels(rank: int) -> int:
    """Smallest m with rank <= 2^m - 1, exactly: ceil(log2(rank + 1))."""
    return rank.bit_length()


def _double_levels(rank: int) -> int:
    """Smallest m with rank <= 2^(2^m) - 1."""
    return (rank.bit_length() - 1).bit_length()


def ssm_ndcg_bound(rank: int, k: int, n_items: int) -> float:
    """Sampled softmax bounds NDCG: arXiv 2402.06216v3, Theorem 1.

    1 - m (1 - r/N)^floor(K/m) with r <= 2^m - 1.

    Parameters
    ----------
    rank
        Rank r of the target, 1-based.
    k
        Sampled negatives K.
    n_items
        Size of the catalogue, N.

    Returns
    -------
    Lower bound of P(-log NDCG(r) <= loss), 0..1.
    """
    return sce_ndcg_bound(rank, k, n_items, alpha=1.0)


def sce_ndcg_bound(rank: int, k: int, n_items: int, alpha: float) -> float:
    """Scaled cross-entropy bounds NDCG: arXiv 2402.06216v3, Theorem 2.

    Theorem 1 with ceil(m / alpha) for m: each sampled item that outscores the target counts alpha
    times in the partition sum, so fewer hits suffice.

    Parameters
    ----------
    rank, k, n_items
        As for ``ssm_ndcg_bound``.
    alpha
        Weight of the negatives.
    """
    return _chance(_ceil_div(_levels(rank), alpha), rank, k, n_items)


def sce_mrr_bound(rank: int, k: int, n_items: int, alpha: float) -> float:
    """Scaled cross-entropy bounds MRR: arXiv 2402.06216v3, MRR version of Theorem 2.

    ceil(2^m / alpha) in place of ceil(m / alpha); ``alpha=1`` is the sampled softmax.

    Parameters
    ----------
    rank, k, n_items, alpha
        As for ``sce_ndcg_bound``.
    """
    return _chance(_ceil_div(1 << _levels(rank), alpha), rank, k, n_items)


def nce_ndcg_bound_v2(rank: int, k: int, n_items: int, outscoring: int) -> float:
    """NCE and NEG bound NDCG: arXiv 2402.06216v2.

    1 - m (1 - S/N)^floor(K/m) with r <= 2^(2^m) - 1.

    Parameters
    ----------
    rank, k, n_items
        As for ``ssm_ndcg_bound``.
    outscoring
        S, the number of items whose score is at least 0: the shifted score (by log(N/K) - c) for
        NCE, the plain one for NEG. It takes the place of the rank: these losses compare with 0.
    """
    if not 0 <= outscoring <= n_items:
        raise ValueError(f"between 0 and {n_items} items can score 0 or more, not {outscoring}")
    groups = _double_levels(rank)
    if groups == 0:  # rank 1: -log NDCG is 0, and no loss is below it
        return 1.0
    if outscoring == 0:
        return 0.0
    return _chance(groups, outscoring, k, n_items)


def is_ndcg_bound_v2(rank: int, k: int, n_items: int) -> float:
    """Importance sampling with a uniform proposal bounds NDCG: arXiv 2402.06216v2.

    1 - 2^m (1 - r/N)^floor(K / 2^m) with r <= 2^(2^m) - 1.

    Parameters
    ----------
    rank, k, n_items
        As for ``ssm_ndcg_bound``.
    """
    return _chance(1 << _double_levels(rank), rank, k, n_items)


def sce_ndcg_bound_v2(rank: int, k: int, n_items: int, alpha: float) -> float:
    """Scaled cross-entropy bounds NDCG: arXiv 2402.06216v2, as printed.

    1 - (2^m / alpha) (1 - r/N)^floor(alpha K / 2^m) with r <= 2^(2^m) - 1.

    The argument cuts K draws into 2^m / alpha groups and therefore holds for alpha <= 2^m only;
    beyond it the printed formula promises more than K draws can give. Version 3 rounds up instead.

    Parameters
    ----------
    rank, k, n_items, alpha
        As for ``sce_ndcg_bound``.
    """
    if not 1 <= rank <= n_items or k < 1 or alpha <= 0:
        raise ValueError(f"rank {rank} of {n_items}, K {k}, alpha {alpha}: out of range")
    groups = (1 << _double_levels(rank)) / alpha
    return max(0.0, 1.0 - groups * (1.0 - rank / n_items) ** int(k // groups))
