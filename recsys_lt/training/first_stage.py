"""What a model of two stages asks of the first."""

from typing import NamedTuple

#: Where in its run folder a first stage lies that was trained on the spot.
FOLDER = "first_stage"


class FirstStage(NamedTuple):
    """A trained run of a backbone.

    Parameters
    ----------
    key
        ``model.<key>`` names its run folder; null has it trained first, with its published setting where there is one.
    model, loss
        Which one is trained then.
    """

    key: str
    model: str
    loss: str
