"""Checks of what a backbone, loss or model from outside returns: shapes and types, in one line."""

from torch import Tensor

from recsys_lt.errors import UserError


def check_states(states: Tensor, n: int, source: str, one_of: str) -> None:
    """Raise UserError unless the states that a method returned are n rows of floats: [n, d], or [n, ...].

    The method is ``source``; each row is ``one_of``: target or user.
    """
    shape = list(getattr(states, "shape", ()))
    if len(shape) < 2 or shape[0] != n or not states.is_floating_point():
        remedy = f"Return one state of width d for each {one_of} of the batch, in its order"
        raise UserError(f"{source} gave {_said(states)}, not floats of shape [{n}, d]", where="model", remedy=remedy)


def check_losses(totals: Tensor, losses: Tensor, n: int, weights: Tensor | None, source: str) -> None:
    """Raise UserError unless the totals and losses of a class are [W] and [n], for weights [W, n] (None: one row)."""
    n_rows = 1 if weights is None else len(weights)
    for name, found, shape in (("totals", totals, [n_rows]), ("losses", losses, [n])):
        if list(getattr(found, "shape", ("no tensor",))) != shape:
            remedy = "Return weighted means [W], one a row of weights, and the losses [N] of the targets; "
            remedy += "losses.blocks.plain_means makes both from losses [N]"
            raise UserError(
                f"{source} gave {name} of {_said(found)}, not of shape {shape}", where="loss", remedy=remedy
            )


def _said(found: object) -> str:
    if not isinstance(found, Tensor):
        return type(found).__name__
    return f"{str(found.dtype).removeprefix('torch.')} of shape {list(found.shape)}"
