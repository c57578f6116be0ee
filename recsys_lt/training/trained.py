"""The model a finished run left behind, with the data it was trained on."""

from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.runs.checkpoints import OURS, check_finite, load
from recsys_lt.runs.run_folder import BEST
from recsys_lt.runs.stored import stored
from recsys_lt.runs.trained_as import check_trained_as
from recsys_lt.runs.trust import trusting_as
from recsys_lt.training.build import Parts, build, first_stage_of
from recsys_lt.training.first_stage import FOLDER


class Unloaded(NamedTuple):
    """A run's objects and data, its weights not read yet."""

    folder: Path
    config: DictConfig
    parts: Parts
    data: Sequences

    def model(self) -> Recommender:
        """The best checkpoint, in eval mode.

        Raises
        ------
        UserError
            If the checkpoint is broken, of other data, or of another model.
        """
        checkpoint = load(self.folder / BEST, self.data.fingerprint)
        check_finite(self.folder / BEST, checkpoint)
        check_trained_as(checkpoint[OURS], self.config, self.folder / BEST, ("model", "llm"))
        module = self.parts.recommender(self.data, first_stage(self.config, self.folder, self.data))
        try:
            module.load_state_dict(checkpoint["state_dict"])
        except (KeyError, RuntimeError) as error:  # torch lists every tensor that does not fit, a line each
            raise UserError(
                "its weights are not those of the model in config.yaml",
                where=self.folder / BEST,
                remedy="Restore the run's config.yaml and best.ckpt, or train anew",
            ) from error
        # A quantised language model is where it was loaded; the rest joins it.
        elsewhere = next((p.device for p in module.parameters() if p.device.type != "cpu"), None)
        return module.eval() if elsewhere is None else module.eval().to(elsewhere)


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


def first_stage(config: DictConfig, folder: Path, data: Sequences) -> Backbone | None:
    """The trained backbone that a run's model builds on; None for a model of one stage.

    Parameters
    ----------
    config
        The run's configuration.
    folder
        The run folder: a first stage that was trained on the spot lies in it.
    data
        What both are trained on.

    Raises
    ------
    UserError
        If there is no such run, or it is of other data or of no backbone.
    """
    asked = first_stage_of(config)
    if asked is None:
        return None
    given = config.model[asked.key]
    with trusting_as(config):  # it may be of other choices, but not of other modules
        earlier = trained(folder / FOLDER if given is None else Path(given).expanduser())
    where = f"model.{asked.key}={earlier.folder}"
    if earlier.data.fingerprint != data.fingerprint:
        raise UserError(
            "it was trained on another dataset or split", where=where, remedy=f"Name a run on {data.name}, or null"
        )
    module = earlier.model()
    if not isinstance(module, SequentialRecommender):
        raise UserError("its model has no backbone", where=where, remedy=f"Name a run of model={asked.model}, or null")
    return module.backbone.requires_grad_(False)
