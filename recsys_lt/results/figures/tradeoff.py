"""What cells give to popular targets against what they give to the others."""

from collections.abc import Sequence

from recsys_lt.results.cast import Member
from recsys_lt.results.figures.scatter import scatter
from recsys_lt.results.illustration import Illustration
from recsys_lt.results.tradeoff import HEAD, OTHERS


def head_against_nonhead(members: Sequence[Member], prefix: str) -> Illustration:
    """NDCG@10 of head targets across, of mid and tail targets up.

    Parameters
    ----------
    members
        Cells of one dataset.
    prefix
        For the ids in the drawing.
    """
    return scatter(
        members,
        ("NDCG@10, head targets", lambda cell: cell.mean_std(HEAD)),
        ("NDCG@10, mid and tail targets", lambda cell: cell.mean_std(OTHERS)),
        "Head against nonhead",
        "Test NDCG@10 for popular targets (across) and for all others (up), a point a cell; a cell above and right of "
        "another is better for both, one above and left pays with the head for the tail.",
        "NDCG@10 of head and nonhead targets",
        f"{prefix}tradeoff-",
    )
