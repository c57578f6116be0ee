"""Configuration to objects: the one place where a composed configuration becomes the parts of a run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.needs import HasNeeds, Need, TrainedRun
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.losses.loss import Loss, Own
from recsys_lt.metrics.groups import ItemGroups
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.optim.schedules import Schedule
from recsys_lt.recommenders.precision import PRECISIONS, Precision
from recsys_lt.recommenders.recommender import Recommender, Terms
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.runs.trust import literal
from recsys_lt.system import package
from recsys_lt.system.machine import refusals
from recsys_lt.training.instantiate import call, check_numbers, class_and_options, instantiate
from recsys_lt.training.settings import MetricsSettings, TrainerSettings
from recsys_lt.training.strategies import Strategy

if TYPE_CHECKING:
    from pytorch_lightning import Callback

    from recsys_lt.data.dataset import Dataset
    from recsys_lt.training.loggers import NoLogger

_PARTS = ("dataset", "model", "loss", "optimizer", "schedule", "strategy", "trainer", "metrics", "logger")
_KEYS = {*_PARTS, "llm", "callbacks", "seed", "precision", "debug"}
_LARGEST_SIZE = 1 << 20  # of a model: a width, a length, a number of layers
#: Of every model, and no argument of its class: the run folder whose weights training starts from.
START_FROM = "start_from"


@dataclass(frozen=True)
class Model:
    """A model before the data are known: its class, and the constructor's arguments beside the data's facts."""

    kind: Any  # a subclass of Backbone or of Recommender
    options: Mapping[str, Any]

    def __call__(self, facts: DataFacts) -> Backbone | Recommender:
        """Make the model; its weights come of torch's current seed."""
        return call("model", partial(self.kind, facts), self.options)


@dataclass(frozen=True)
class Parts:
    """The objects that a configuration names, made once a run; the model waits for the data.

    ``start_from`` is the run folder whose weights training starts from; None starts from random ones. ``needs`` is what
    must be made before the run, by the option it stands for, such as ``model.item_vectors``. ``callbacks`` are those of
    the user, which Lightning calls in training.
    """

    config: DictConfig
    dataset: "Dataset"
    model: Model
    loss: Loss
    rule: UpdateRule
    schedule: Schedule
    strategy: Strategy
    trainer: TrainerSettings
    metrics: MetricsSettings
    logger: "NoLogger"
    precision: Precision
    seed: int
    start_from: str | None = None
    needs: Mapping[str, Need] = field(default_factory=dict)
    callbacks: "Sequence[Callback]" = ()

    def check(self) -> None:
        """Raise UserError for parts that do not go together."""
        needed = self.model.kind.takes_loss
        if not needed and not isinstance(self.loss, Own):
            raise UserError(
                "this model has an objective of its own", where="loss", remedy="Leave loss out, or loss=own"
            )
        if needed and isinstance(self.loss, Own):
            raise UserError(
                "this model has no objective of its own", where="loss=own", remedy="Choose one, such as loss=ce"
            )
        if self.rule.sparse_gradients and self.strategy.several:
            raise UserError(
                "the gradients of rows that optimizer=lazy_adam steps on are not exchanged between processes",
                where="strategy",
                remedy="Use a strategy of one process (auto, cpu, gpu), or optimizer=adam",
            )
        if self.precision.scaled and self.rule.sparse_gradients:
            raise UserError(
                "optimizer=lazy_adam does not skip a step whose fp16 gradients overflowed",
                where="precision",
                remedy="Use precision=bf16-mixed, or optimizer=adam",
            )
        if self.precision.scaled and self.strategy.shards:
            raise UserError(
                "gradients are not scaled for fp16 where parameters are spread over devices",
                where="precision",
                remedy="Use precision=bf16-mixed, or strategy=ddp",
            )
        if self.rule.moves_parameters and self.strategy.shards:
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
            precision=self.precision,
            accumulate=self.trainer.accumulate,
            clip=self.trainer.clip,
        )
        made = self.model(facts)
        if isinstance(made, Backbone):
            module: Recommender = SequentialRecommender(made, self.loss, self.rule, terms)
        else:
            module = made
            module.prepare_training(self.rule, terms)
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if module.trainable:
            self.rule.prepare(trained, module.item_tables(), facts.popularity)
        self.loss.prepare(facts.popularity, _of("loss", needs or {}))
        return module


def _of(part: str, needs: Mapping[str, Any]) -> dict[str, Any]:
    """The needs of a part, by the names it gave them."""
    return {name.removeprefix(f"{part}."): one for name, one in needs.items() if name.startswith(f"{part}.")}


def build(config: DictConfig) -> Parts:
    """Make every object that a composed configuration names.

    Places in the configuration (files, run folders) are made absolute, so that a stored run finds them again. UserError
    for the first thing in it that no run can be made of: keys, classes, types, numbers, parts that do not go together,
    a value that a class refuses.
    """
    from recsys_lt.data.dataset import Dataset
    from recsys_lt.training.loggers import NoLogger

    plain = _plain(config)
    options = {key: value for key, value in plain["model"].items() if key != START_FROM}
    if plain.get("llm") is not None:
        from recsys_lt.llm.choice import LLM

        llm = instantiate("llm", plain["llm"], LLM)
        if "llm" not in options:
            raise UserError(
                "this model has no language model",
                where="llm",
                remedy="Leave llm out, or choose one such as model=e4srec",
            )
        options["llm"] = llm  # which the node repeats
    model = Model(*class_and_options("model", options, (Backbone, Recommender), later=True))
    loss = instantiate("loss", plain["loss"], Loss)
    with refusals():
        _make_places_absolute(config, _needs(plain, model=model.kind, loss=type(loss)))
    plain = _plain(config)
    parts = Parts(
        config=config,
        dataset=instantiate("dataset", plain["dataset"], Dataset),
        model=model,
        loss=loss,
        rule=instantiate("optimizer", plain["optimizer"], UpdateRule),
        schedule=instantiate("schedule", plain["schedule"], Schedule),
        strategy=instantiate("strategy", plain["strategy"], Strategy),
        trainer=instantiate("trainer", plain["trainer"], TrainerSettings),
        metrics=instantiate("metrics", plain["metrics"], MetricsSettings),
        logger=instantiate("logger", plain["logger"], NoLogger),
        precision=PRECISIONS[plain["precision"]],
        seed=plain["seed"],
        start_from=plain["model"].get(START_FROM),
        needs=_needs(plain, model=model.kind, loss=type(loss)),
        callbacks=_callbacks(plain["callbacks"]),
    )
    parts.check()
    return parts


def _callbacks(nodes: Mapping[str, Any]) -> "list[Callback]":
    if not nodes or package.only_ranks:
        return []
    from pytorch_lightning import Callback  # which takes seconds, where nothing is trained

    return [instantiate(f"callbacks.{name}", node, Callback) for name, node in nodes.items()]


def _plain(config: DictConfig) -> dict[str, Any]:
    """The configuration as mappings, lists and plain values, its keys and numbers checked."""
    keys = set(map(str, config))
    for what, wrong in (("there is no key", keys - _KEYS), ("it lacks the key", {*_PARTS, "seed", "precision"} - keys)):
        if wrong:
            raise UserError(
                f"{what} {min(wrong)!r}", where="configuration", remedy=f"The keys are {', '.join(sorted(_KEYS))}"
            )
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        if "issing mandatory value" in reason:
            raise UserError("it has no value", where=key, remedy=f"Give one: {key}=...") from error
        raise UserError(reason, where=key, remedy="Correct it, or write \\${ for a literal ${") from error
    check_numbers("model", plain["model"], _LARGEST_SIZE)
    for part in plain:
        check_numbers(part, plain[part])
    seed, precision = plain["seed"], plain["precision"]
    if not isinstance(precision, str) or precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UserError(f"no precision is named {precision!r}", where="precision", remedy=f"Choose from {known}")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UserError(f"it is {seed!r}", where="seed", remedy="Give a whole number from 0 to 4294967295")
    if type(plain.get("debug", False)) is not bool:
        raise UserError(f"it is {plain['debug']!r}", where="debug", remedy="Give true or false")
    if not isinstance(plain["model"], dict):
        raise UserError(f"it is {plain['model']!r}", where="model", remedy="Choose one of conf/model/")
    start_from = plain["model"].get(START_FROM)
    if not isinstance(start_from, str | None):
        raise UserError(f"it is {start_from!r}", where=f"model.{START_FROM}", remedy="Give a run folder, or null")
    callbacks = plain.setdefault("callbacks", {})
    if not isinstance(callbacks, dict):
        raise UserError(f"it is {callbacks!r}", where="callbacks", remedy="Give a mapping of names to classes")
    return dict(plain)


def _needs(plain: Mapping[str, Any], **kinds: type[HasNeeds]) -> dict[str, Need]:
    """What the classes of some parts need, by the option it stands for."""
    start_from = plain["model"].get(START_FROM)
    return {
        f"{part}.{name}": need
        for part, kind in kinds.items()
        for name, need in kind.needs(plain[part], start_from).items()
    }


def _make_places_absolute(config: DictConfig, needs: Mapping[str, Need]) -> None:
    """Write the files and run folders in a configuration so that another working directory finds them too."""
    places = ["dataset.path", "dataset.items", "dataset.raw_dir", f"model.{START_FROM}"]
    places += [name for name, need in needs.items() if isinstance(need, TrainedRun) and need.folder is not None]
    weights = OmegaConf.select(config, "llm.weights.name")
    if isinstance(weights, str) and Path(weights).expanduser().is_dir():
        places.append("llm.weights.name")
    for key in places:
        place = OmegaConf.select(config, key)
        several = list(place) if isinstance(place, ListConfig) else [place]
        if all(isinstance(path, str) for path in several):  # anything else is refused where it is read
            found = [literal(str(Path(path).expanduser().absolute())) for path in several]
            OmegaConf.update(config, key, found if isinstance(place, ListConfig) else found[0])
