"""The parts of a run, built from its composed configuration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigTypeError
from pydantic import Field

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.backbones.content import ItemFeatures
from recsys_lt.data.dataset import Dataset
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.needs import HasNeeds, Need, TrainedRun
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.generative.item_ids import ItemIds
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.title_prior import TitlePrior
from recsys_lt.losses.loss import Loss, Own
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.optim.schedules import Schedule
from recsys_lt.recommenders.recommender import PRECISIONS, Recommender, Terms
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.runs.trust import literal
from recsys_lt.system import package
from recsys_lt.system.machine import refusals
from recsys_lt.training.instantiate import LARGEST, arguments, call, check_numbers, checked
from recsys_lt.training.loggers import Logger
from recsys_lt.training.settings import MetricsSettings, TrainerSettings
from recsys_lt.training.strategies import Strategy

if TYPE_CHECKING:
    from pytorch_lightning import Callback

_LARGEST_SIZE = 1 << 20  # of a model: a width, a length, a number of layers
#: Of every model, and no argument of its class: the run folder whose weights training starts from.
START_FROM = "start_from"
_WEIGHTS = "llm.weights.name"
_FEATURES = "features.encoder"
_ITEM_IDS = "model.item_ids"
#: What a language model knows of the items, among the needs of a run.
PRIOR = "prior.title"
#: Options that name files, folders or models of this machine. A run that is shared names the last part of those that
#: are true, which whoever has it can put in its place, and nothing in the place of the others.
PLACES = {
    "dataset.path": True,
    "dataset.items": True,
    "dataset.raw_dir": False,
    f"model.{START_FROM}": False,
    "model.parts": True,
    "model.weights": True,
    "item_ids.path": True,
    "item_ids.vectors.run": False,
    "item_ids.vectors.folder": True,
    "features.encoder.folder": True,
    **{f"{part}{_WEIGHTS}": True for part in ("", "prior.", "features.encoder.", "item_ids.vectors.")},
}


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Keys of a configuration and their types; the model is built later, because it needs the data."""

    dataset: Dataset
    model: Callable[[DataFacts], Backbone | Recommender]
    loss: Loss
    optimizer: UpdateRule
    schedule: Schedule
    strategy: Strategy
    trainer: TrainerSettings
    metrics: MetricsSettings
    logger: Logger
    precision: Literal["float32", "bf16", "bf16-mixed", "fp16-mixed"]
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    llm: LLM | None = None
    features: ItemFeatures | None = None
    item_ids: ItemIds | None = None
    prior: TitlePrior | None = None
    debug: bool = False


@dataclass(frozen=True, kw_only=True)
class Parts(Choices):
    """Objects that a configuration names, made once for a run.

    ``start_from`` is the run folder whose weights training starts from; None starts from random ones. ``needs`` is what
    must be made before the run, by the option that names it, such as ``model.item_vectors``. ``callbacks`` are the
    user's own.
    """

    config: DictConfig
    start_from: str | None = None
    needs: Mapping[str, Need] = field(default_factory=dict)
    callbacks: "Sequence[Callback]" = ()

    @property
    def kind(self) -> Any:
        """The model's class, of ``Backbone`` or of ``Recommender``."""
        return self.model.func  # type: ignore[attr-defined]

    def check(self) -> None:
        """Raise UserError for parts that do not go together."""
        if self.features is not None and not (issubclass(self.kind, Backbone) and self.kind.trainable):
            what, remedy = "this model has no item table that is trained", "Leave features out, or use model=sasrec"
            raise UserError(what, where="features", remedy=remedy)
        if self.item_ids is not None and not self.kind.takes_item_ids:
            what, remedy = "this model has no item ids", "Leave item_ids out, or use model=tiger"
            raise UserError(what, where="item_ids", remedy=remedy)
        if self.item_ids is None and self.kind.takes_item_ids:
            what, remedy = "this model writes items as ids, and there are none", "Choose one of conf/item_ids/"
            raise UserError(what, where="item_ids", remedy=remedy)
        needed, scaled = self.kind.takes_loss, PRECISIONS[self.precision].scaled
        if not (needed or isinstance(self.loss, Own) or (self.loss.of_answers and self.kind.takes_preferences)):
            raise UserError(
                "this model has an objective of its own", where="loss", remedy="Leave loss out, or loss=own"
            )
        if needed and isinstance(self.loss, Own):
            raise UserError(
                "this model has no objective of its own", where="loss=own", remedy="Choose one, such as loss=ce"
            )
        if self.optimizer.sparse_gradients and self.strategy.several:
            raise UserError(
                "the gradients of rows that optimizer=lazy_adam steps on are not exchanged between processes",
                where="strategy",
                remedy="Use a strategy of one process (auto, cpu, gpu), or optimizer=adam",
            )
        if scaled and self.optimizer.sparse_gradients:
            raise UserError(
                "optimizer=lazy_adam does not skip a step whose fp16 gradients overflowed",
                where="precision",
                remedy="Use precision=bf16-mixed, or optimizer=adam",
            )
        if scaled and self.strategy.shards:
            raise UserError(
                "gradients are not scaled for fp16 where parameters are spread over devices",
                where="precision",
                remedy="Use precision=bf16-mixed, or strategy=ddp",
            )
        if self.optimizer.moves_parameters and self.strategy.shards:
            raise UserError(
                "a sharpness-aware optimizer needs all parameters on every device",
                where="strategy",
                remedy="Use strategy=ddp, or optimizer=adam",
            )

    def data(self, announce: Callable[[str], None] = lambda _line: None) -> Sequences:
        """Load the dataset; see ``Dataset.load``."""
        return self.dataset.load(announce)

    def check_data(self, data: Sequences) -> ItemGroups:
        """Head, mid and tail of the data's items; UserError if a metric or the loss does not fit the data."""
        self.metrics.check(data.n_items)
        groups = self.metrics.groups.of(data)
        self.loss.check(data.n_items)
        if self.features is not None:
            self.features.encoder.check(data)
        if self.item_ids is not None:
            self.item_ids.check(data)
        if self.prior is not None:
            self.prior.check(data)
        return groups

    def recommender(
        self, data: Sequences, needs: Mapping[str, Any] | None = None, outline: bool = False
    ) -> Recommender:
        """Make the model for these data, and the recommender that trains it; weights come of torch's current seed.

        ``needs`` is what was made for ``Parts.needs``. An ``outline`` is made only to find out whether it can be made:
        weights from elsewhere are not read. UserError if the model or the loss does not fit the data, or a language
        model's weights cannot be had.
        """
        facts = DataFacts(
            data.n_users,
            data.n_items,
            torch.from_numpy(data.popularity),
            data.name,
            data.item_data,
            _of("model", needs or {}),
            outline,
        )
        terms = Terms(
            mask_seen=self.metrics.mask_seen,
            ks=tuple(self.metrics.ks),
            schedule=self.schedule,
            precision=PRECISIONS[self.precision],
            accumulate=self.trainer.accumulate,
            clip=self.trainer.clip,
        )
        self.loss.prepare(facts.popularity, _of("loss", needs or {}))
        made = call("model", partial(self.model, facts), {})  # its weights come of torch's current seed
        if isinstance(made, Backbone):
            content = None
            if self.features is not None and not outline:
                content = self.features.attach(made, (needs or {})[_FEATURES], facts.popularity)
            module: Recommender = SequentialRecommender(made, self.loss, self.optimizer, terms, content)
        else:
            module = made
            module.prepare_training(self.optimizer, terms)
            module.take_loss(self.loss)
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if module.trainable:
            self.optimizer.prepare(trained, module.item_tables(), facts.popularity)
        return module


def _of(part: str, needs: Mapping[str, Any]) -> dict[str, Any]:
    """The needs of a part, by the names it gave them."""
    return {name.removeprefix(f"{part}."): one for name, one in needs.items() if name.startswith(f"{part}.")}


def build(config: DictConfig) -> Parts:
    """Make every object that a composed configuration names.

    Places in the configuration (files, run folders) are made absolute, so that a stored run finds them again. UserError
    for the first thing in it that no run can be made of: keys, classes, types, numbers, parts that do not go together,
    a value that a class refuses. OmegaConfBaseException for a reference to nothing, or a key without a value.
    """
    _make_absolute(config, PLACES)
    plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    for part, value in plain.items():
        check_numbers(part, value, _LARGEST_SIZE if part == "model" else LARGEST)
    options, llm = plain.get("model"), checked("llm", plain.get("llm"), LLM | None)
    if not isinstance(options, dict):
        raise UserError(f"it is {options!r}", where="model", remedy="Choose one of conf/model/")
    start_from = checked(f"model.{START_FROM}", options.pop(START_FROM, None), str | None)
    if llm is not None and "llm" not in options:
        what, remedy = "this model has no language model", "Leave llm out, or choose one such as model=e4srec"
        raise UserError(what, where="llm", remedy=remedy)
    if llm is not None:
        options["llm"] = llm  # which the node repeats
    callbacks = plain.pop("callbacks", {})
    if not isinstance(callbacks, dict):
        raise UserError(f"it is {callbacks!r}", where="callbacks", remedy="Give a mapping of names to classes")
    made = arguments("", Choices, plain | {"llm": llm})
    kinds: dict[str, type[HasNeeds]] = {"model": made["model"].func, "loss": type(made["loss"])}

    def needs() -> dict[str, Need]:
        given: Any = OmegaConf.to_container(config, resolve=True)
        found = {part: kind.needs(given[part], start_from) for part, kind in kinds.items()}
        every: dict[str, Need] = {f"{part}.{name}": need for part, each in found.items() for name, need in each.items()}
        features, item_ids, prior = (made.get(name) for name in ("features", "item_ids", "prior"))
        every |= {} if features is None else {_FEATURES: features.encoder}
        every |= {} if item_ids is None else {_ITEM_IDS: item_ids}
        return every if prior is None else every | {PRIOR: prior}

    _make_absolute(config, [name for name, need in needs().items() if isinstance(need, TrainedRun)])
    parts = Parts(**made, config=config, start_from=start_from, needs=needs(), callbacks=_callbacks(callbacks))
    parts.check()
    return parts


def _callbacks(nodes: Mapping[str, Any]) -> "list[Callback]":
    if not nodes or package.only_ranks:
        return []
    from pytorch_lightning import Callback  # which takes seconds, where nothing is trained

    return [checked(f"callbacks.{name}", node, Callback) for name, node in nodes.items()]


@refusals()
def _make_absolute(config: DictConfig, places: Iterable[str]) -> None:
    """Write files and run folders in a configuration so that another working directory finds them too."""
    for key in places:
        try:
            place = OmegaConf.select(config, key)
        except ConfigTypeError:  # a list or a word above it, which is refused where it is read
            continue
        several = list(place) if isinstance(place, ListConfig) else [place]
        if not all(isinstance(path, str) for path in several):
            continue  # it is refused where it is read
        found = [Path(path).expanduser().absolute() for path in several]
        if key.endswith(_WEIGHTS) and not found[0].is_dir():
            continue  # a name at a hub
        said = [literal(str(path)) for path in found]
        OmegaConf.update(config, key, said if isinstance(place, ListConfig) else said[0])
