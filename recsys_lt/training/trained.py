"""Finished runs: their configuration, metrics, data and model, and what they give to the runs that need them."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.data.needs import Artifact, Need, TrainedRun
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.recommenders.lists import Recommendation, frame, lists
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.runs.catalogue import ITEMS, Catalogue, read_catalogue
from recsys_lt.runs.checkpoints import OURS, check_finite, load
from recsys_lt.runs.metrics_file import read_metrics
from recsys_lt.runs.run_folder import BEST, NEEDS
from recsys_lt.runs.stored import Stored, check_trained_as, stored, trained_as
from recsys_lt.runs.trust import trusting_as
from recsys_lt.training.build import Parts, build

if TYPE_CHECKING:
    import pandas as pd


class Run:
    """A finished run; its metrics, data and model are read when they are first used.

    Parameters
    ----------
    folder
        The run folder.

    Attributes
    ----------
    stored
        Its configuration and the names of its choices.
    parts
        The objects that the configuration names.

    Raises
    ------
    UserError
        If the folder is no trained run, or its configuration is of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stored: Stored = stored(folder)
        if not (folder / BEST).is_file():  # said before data are fetched and prepared
            raise UserError(f"the run has no {BEST}", where=folder, remedy="Finish it with resume <folder>, or train")
        try:
            self.parts: Parts = build(self.stored.config)
        except (OmegaConfBaseException, ImportError) as error:  # a class this version does not have
            reason = str(error).splitlines()[0]
            raise UserError(reason, where=folder / "config.yaml", remedy="Mend it, or train anew") from error

    @property
    def config(self) -> DictConfig:
        """The whole configuration, as config.yaml has it."""
        return self.stored.config

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return read_metrics(self.folder / "metrics.json")

    @cached_property
    def data(self) -> Sequences:
        """The run's dataset as its source is now: it may have other events than the run was trained on."""
        return self.parts.data()

    @cached_property
    def catalogue(self) -> Sequences:
        """The run's items for lists from histories: ``data``, or in a pulled run its items without users."""
        return self.data if self._pulled is None else self._pulled.data

    @cached_property
    def _pulled(self) -> Catalogue | None:
        path = self.folder / ITEMS
        return read_catalogue(path, self.stored.names.dataset) if path.is_file() else None

    @cached_property
    def groups(self) -> ItemGroups:
        """Head, mid and tail of the data's items."""
        return self.parts.metrics.groups.of(self.data)

    @cached_property
    def model(self) -> Recommender:
        """The best checkpoint on ``data``, in eval mode."""
        return self.model_on(self.data)

    @cached_property
    def catalogue_model(self) -> Recommender:
        """The best checkpoint on ``catalogue``, in eval mode."""
        return self.model if self._pulled is None else self.model_on(self.catalogue)

    @cached_property
    def catalogue_groups(self) -> NDArray[np.int8]:
        """Group of each item of ``catalogue``, [I]."""
        return self.groups.of if self._pulled is None else self._pulled.groups

    def recommend(
        self,
        users: Sequence[str] | None = None,
        *,
        histories: Mapping[str, Sequence[str]] | None = None,
        k: int = 10,
        exclude: Sequence[str] = (),
        reasons: bool = False,
    ) -> "pd.DataFrame":
        """The first k items for each of some users, best first.

        Parameters
        ----------
        users
            Users of the data, by the source's own ids; their whole histories are read.
        histories
            Instead of users: the item ids of anybody's events, oldest first, by a name. Items that the data do not have
            are left out, with a warning.
        k
            Length of the lists.
        exclude
            Ids of items that are recommended to nobody. Warns of those that the data do not have.
        reasons
            Whether to add, for each item, the events of the history that raised its score most.

        Returns
        -------
        pandas.DataFrame
            Columns user, rank, item, title, score, group (head, mid or tail), training_interactions; and reasons.

        Raises
        ------
        UserError
            If the checkpoint is broken or of other items, a user is unknown, a history has no known item, k does not
            fit the catalogue, the model ranks only for the users it was trained on and is given histories, or it does
            not score every item and reasons are wanted.
        """
        found = list(self.lists(users, histories=histories, k=k, exclude=exclude, reasons=reasons))
        return frame(found, reasons)

    def lists(
        self,
        users: Sequence[str] | None = None,
        *,
        histories: Mapping[str, Sequence[str]] | None = None,
        k: int = 10,
        exclude: Sequence[str] = (),
        reasons: bool = False,
    ) -> Iterator[Recommendation]:
        """The same as ``recommend`` gives, one user after the other, with the end of each history."""
        data = self.data if histories is None else self.catalogue
        if (users is None) == (histories is None):
            raise UserError("there must be either users or histories", where="recommend", remedy="Give one of them")
        if not 1 <= k <= data.n_items:
            raise UserError(f"it is {k}", where="k", remedy=f"Give a whole number from 1 to {data.n_items}, all items")
        excluded = None
        if exclude:
            found = data.item_index.get_indexer(np.array(list(map(str, exclude)), dtype=np.object_))
            excluded = found[found >= 0].astype(np.int64)
            if len(excluded) < len(found):
                n = len(found) - len(excluded)
                warnings.warn(f"{n} of {len(found)} excluded ids are no items of {data.name}", stacklevel=2)
        if histories is None:
            rows = _rows_of(data, list(dict.fromkeys(users or ())))
            return lists(self.model, data, rows, k, self.groups.of, excluded=excluded, reasons=reasons)
        if any(getattr(one, "keeps_users", False) for one in self.catalogue_model.modules()):
            raise UserError(
                "it ranks only for the users it was trained on, and cannot read these histories",
                where=self.folder,
                remedy="Use a model that reads histories alone, such as model=sasrec",
            )
        others, unknown = data.of_histories({name: list(map(str, items)) for name, items in histories.items()})
        if unknown:
            warnings.warn(f"{unknown} events are left out: {data.name} does not have their items", stacklevel=2)
        model, groups = self.catalogue_model, self.catalogue_groups
        return lists(model, others, range(others.n_users), k, groups, excluded=excluded, reasons=reasons)

    def check_events(self) -> None:
        """Raise UserError if ``data`` are no longer what the run was trained on: results of the two do not compare."""
        load(self.folder / BEST, items=self.data.item_fingerprint, events=self.data.fingerprint)

    def model_on(self, data: Sequences, events: str | None = None) -> Recommender:
        """The best checkpoint with the sizes of data of the run's item vocabulary, in eval mode.

        ``events`` is the fingerprint of the events that the run must have been trained on; None for any. UserError if
        the checkpoint is broken, of other items, of other events where these are given or the model keeps a vector for
        each user, or of another model.
        """
        path = self.folder / BEST
        checkpoint = load(path, items=data.item_fingerprint, events=events)
        notes = checkpoint[OURS]
        check_finite(path, checkpoint)
        check_trained_as(notes["trained_as"], trained_as(self.parts.config), path, ("model", "llm"))
        check_users(self.parts, notes, data, path)
        needs = given(self.parts, data, self.folder, notes["events"])
        module = self.parts.recommender(data, needs)
        try:
            module.load_state_dict(checkpoint["state_dict"])
        except (KeyError, RuntimeError) as error:  # torch lists every tensor that does not fit, a line each
            raise UserError(
                "its weights are not those of the model in config.yaml",
                where=path,
                remedy="Restore the run's config.yaml and best.ckpt, or train anew",
            ) from error
        # A quantised language model is where it was loaded; the rest joins it.
        elsewhere = next((p.device for p in module.parameters() if p.device.type != "cpu"), None)
        return module.eval() if elsewhere is None else module.eval().to(elsewhere)


def _rows_of(data: Sequences, users: Sequence[str]) -> list[int]:
    """Places of users in the data."""
    rows = data.user_index.get_indexer(np.array(users, dtype=np.object_))
    if len(rows) and rows.min() < 0:
        # Of other lengths of history, so that they are worth trying.
        order = np.linspace(0, data.n_users - 1, min(3, data.n_users)).astype(np.int64)
        some = ", ".join(str(data.user_ids[row]) for row in order)
        raise UserError(
            f"{data.name} has no user {users[int(rows.argmin())]!r} (after its k-core)",
            where="user",
            remedy=f"There are {data.n_users:,} users, such as {some}",
        )
    return [int(row) for row in rows]


def check_users(parts: Parts, notes: Mapping[str, Any], data: Sequences, path: Path) -> None:
    """Raise UserError for a model that ranks only for the users it was trained on, on data with other events."""
    if parts.kind.keeps_users and notes["events"] != data.fingerprint:
        raise UserError(
            "it ranks only for the users it was trained on, and these data are other ones",
            where=path,
            remedy="Train it again on these data, or use a model that reads histories alone, such as model=sasrec",
        )


def given(parts: Parts, data: Sequences, folder: Path, events: str) -> dict[str, Any]:
    """What a run's needs give to its model, which is made for ``data``, and to its loss, by option.

    What was made for the run lies in its folder; ``events`` is the fingerprint of what it is, or was, trained on.
    UserError if something is missing, or a trained run is of other data or of another kind of model.
    """
    with trusting_as(parts.config):  # they may be of other choices, but not of other modules
        return {
            name: load_need(need, data, place_of(need, name, folder), events, name)
            for name, need in parts.needs.items()
        }


def place_of(need: Need, name: str, folder: Path) -> Path:
    """The folder of what was made for a need of a run: the one that its option names, or one in the run folder."""
    if isinstance(need, TrainedRun) and need.folder is not None:
        return Path(need.folder)
    return folder / NEEDS / name


def load_need(need: Need, data: Sequences, folder: Path, events: str, name: str) -> Any:
    """What one need gives, from the folder in which it was made; see ``given``."""
    if isinstance(need, Artifact):
        return need.load(folder)
    assert isinstance(need, TrainedRun)
    try:
        model = Run(folder).model_on(data, events if need.same_events else None)
    except UserError as error:
        raise UserError(f"{error.where}: {error.what}", where=name, remedy=error.remedy) from error
    if not isinstance(model.model, need.kind):
        raise UserError(
            f"its model is no {need.kind.__name__}",
            where=f"{name}={folder}",
            remedy=f"Name a run of model={need.model}, or null",
        )
    return model.model.requires_grad_(False).eval()
