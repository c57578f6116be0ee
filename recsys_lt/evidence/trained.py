"""The model a finished run left behind, with the data it was trained on."""

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.build import Parts, build
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.evidence.checkpoints import BEST, load
from recsys_lt.evidence.stored import stored
from recsys_lt.recommenders.sequential import SequentialRecommender


class Unloaded(NamedTuple):
    """A run's objects and data, its weights not read yet."""

    folder: Path
    config: DictConfig
    parts: Parts
    data: Sequences

    def model(self) -> SequentialRecommender:
        """The best checkpoint, in eval mode.

        Raises
        ------
        UserError
            If the checkpoint is broken, of other data, or of another model.
        """
        checkpoint = load(self.folder / BEST, self.data.fingerprint)
        module = self.parts.recommender(self.data)
        try:
            module.load_state_dict(checkpoint["state_dict"])
        except (KeyError, RuntimeError) as error:  # torch lists every tensor that does not fit, a line each
            raise UserError(
                "its weights are not those of the model in config.yaml",
                where=self.folder / BEST,
                remedy="Restore the run's config.yaml and best.ckpt, or train anew",
            ) from error
        return module.eval()


def trained(folder: Path) -> Unloaded:
    """A run folder's configuration and data.

    Raises
    ------
    UserError
        If the folder is no trained run, or its configuration is of another version.
    """
    config = stored(folder).config
    if not (folder / BEST).is_file():  # asked before data are fetched and prepared
        raise UserError(f"the run has no {BEST}", where=folder, remedy="Finish it with resume=<run folder>, or train")
    try:
        parts = build(config)
    except (OmegaConfBaseException, ImportError) as error:  # a class this version does not have
        reason = str(error).splitlines()[0]
        raise UserError(reason, where=folder / "config.yaml", remedy="Mend it, or train anew") from error
    return Unloaded(folder, config, parts, parts.data(lambda _line: None))
