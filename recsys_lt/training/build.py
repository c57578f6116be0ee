"""From the composed configuration to the objects it names."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.losses.loss import Loss
from recsys_lt.losses.own import Own
from recsys_lt.optim.rule import UpdateRule
from recsys_lt.optim.schedules import Schedule
from recsys_lt.recommenders.precision import PRECISIONS, Precision
from recsys_lt.recommenders.recommender import Recommender, Terms
from recsys_lt.training.config_types import MARKS, check_node, check_numbers
from recsys_lt.training.first_stage import FirstStage
from recsys_lt.training.settings import MetricsSettings, TrainerSettings
from recsys_lt.training.strategies import Strategy

if TYPE_CHECKING:
    from recsys_lt.data.dataset import Dataset
    from recsys_lt.training.loggers import NoLogger

_PARTS = ("dataset", "model", "loss", "optimizer", "schedule", "strategy", "trainer", "metrics", "logger")
_KEYS = {*_PARTS, "llm", "seed", "precision", "resume", "debug"}
_LARGEST_SIZE = 1 << 20  # of a model: a width, a length, a number of layers


@dataclass(frozen=True)
class Parts:
    """The objects a configuration names; the model waits for the data's sizes."""

    dataset: "Dataset"
    model: Callable[[DataFacts], Backbone | Recommender]
    model_class: type[Backbone] | type[Recommender]
    loss: Loss
    rule: UpdateRule
    schedule: Schedule
    strategy: Strategy
    trainer: TrainerSettings
    metrics: MetricsSettings
    logger: "NoLogger"
    precision: Precision

    def check(self) -> None:
        """Raise UserError for parts that do not go together."""
        needed = self.model_class.takes_loss
        if not needed and not isinstance(self.loss, Own):
            raise UserError(
                "this model has an objective of its own", where="loss", remedy="Leave loss out, or loss=own"
            )
        if not needed and self.metrics.bound_targets is not None:
            raise UserError(
                "this model's objective is its own, and bounds no rank",
                where="metrics.bound_targets",
                remedy="Leave it out",
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

    def outlined(self) -> "Parts":
        """The same parts with a language model that has no weights; these ones where there is no language model.

        Raises
        ------
        UserError
            Where it is plain, before its weights are read, that the language model cannot be had.
        """
        model: Any = self.model
        llm = getattr(model, "keywords", {}).get("llm")
        if llm is None:
            return self
        llm.check()
        return replace(self, model=partial(model, llm=llm.outlined()))

    def data(self, announce: Callable[[str], None]) -> Sequences:
        """Load the dataset, with the times of events if a metric reads them; see ``Dataset.load``."""
        return self.dataset.load(announce, with_times=self.metrics.groups.window is not None)

    def recommender(self, data: Sequences, first_stage: Backbone | None = None) -> Recommender:
        """Build the model for these data; its weights come of torch's current seed.

        Parameters
        ----------
        data
            What it is trained on.
        first_stage
            The trained backbone a model of two stages builds on.

        Raises
        ------
        UserError
            If the model or the loss does not fit the data, or the language model's weights cannot be had.
        """
        popularity = torch.from_numpy(data.popularity)
        facts = DataFacts(
            data.n_users,
            data.n_items,
            popularity,
            data.name,
            data.item_data,
            first_stage,
        )
        terms = Terms(
            mask_seen=self.metrics.mask_seen,
            ks=tuple(self.metrics.ks),
            schedule=self.schedule,
            precision=self.precision,
            accumulate=self.trainer.accumulate,
            clip=self.trainer.clip,
        )
        module = _made("model", lambda: self.model(facts)).recommender(self.loss, self.rule, terms)
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if module.trainable:
            self.rule.prepare(trained, module.item_tables(), facts.popularity)
        self.loss.prepare(facts.popularity)
        return module


def first_stage_of(config: DictConfig) -> FirstStage | None:
    """The trained run that the configured model builds on; None for a model of one stage."""
    made = resolve_name(config.model._target_)
    return getattr(made, "first_stage", None)


def check(config: DictConfig) -> dict[str, Any]:
    """Look at a composed configuration before anything is made: keys, classes, types, numbers.

    Returns
    -------
    dict
        The configuration, resolved: mappings, lists and plain values.

    Raises
    ------
    UserError
        For the first thing in it that no run can be made of.
    """
    from recsys_lt.data.dataset import Dataset
    from recsys_lt.training.loggers import NoLogger

    keys = set(map(str, config))
    for what, wrong in (("there is no key", keys - _KEYS), ("it lacks the key", {*_PARTS, "seed", "precision"} - keys)):
        if wrong:
            raise UserError(
                f"{what} {min(wrong)!r}", where="configuration", remedy=f"The keys are {', '.join(sorted(_KEYS))}"
            )
    plain = _resolved(config)
    check_numbers("model", plain["model"], _LARGEST_SIZE)
    for part in plain:
        check_numbers(part, plain[part])
    if not isinstance(plain["precision"], str) or plain["precision"] not in PRECISIONS:
        raise UserError(
            f"no precision is named {plain['precision']!r}",
            where="precision",
            remedy=f"Choose from {', '.join(PRECISIONS)}",
        )
    seed = plain["seed"]
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise UserError(f"it is {seed!r}", where="seed", remedy="Give a whole number from 0 to 4294967295")
    if type(plain.get("debug", False)) is not bool:
        raise UserError(f"it is {plain['debug']!r}", where="debug", remedy="Give true or false")
    llm = plain.get("llm")
    if llm is not None:
        from recsys_lt.llm.choice import LLM

        check_node("llm", llm, [LLM])
    check_node("model", plain["model"], [Backbone, Recommender], later=True)
    if llm is not None and "llm" not in plain["model"]:
        raise UserError(
            "this model has no language model", where="llm", remedy="Leave llm out, or choose one such as model=e4srec"
        )
    for part, kind in (
        ("dataset", Dataset),
        ("loss", Loss),
        ("optimizer", UpdateRule),
        ("schedule", Schedule),
        ("strategy", Strategy),
        ("trainer", TrainerSettings),
        ("metrics", MetricsSettings),
        ("logger", NoLogger),
    ):
        check_node(part, plain[part], [kind])
    return plain


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        if "issing mandatory value" in reason:
            raise UserError("it has no value", where=key, remedy=f"Give one: {key}=...") from error
        raise UserError(reason, where=key, remedy="Correct it, or write \\${ for a literal ${") from error
    return dict(plain)


def build(config: DictConfig) -> Parts:
    """Make every object the configuration names.

    Raises
    ------
    UserError
        As ``check``, and for a word that is no choice, or a value a class refuses.
    """
    plain = check(config)

    def made(part: str) -> Any:
        return _made(part, lambda: _object(plain[part]))

    return Parts(
        dataset=made("dataset"),
        model=made("model"),
        model_class=resolve_name(plain["model"]["_target_"]),
        loss=made("loss"),
        rule=made("optimizer"),
        schedule=made("schedule"),
        strategy=made("strategy"),
        trainer=made("trainer"),
        metrics=made("metrics"),
        logger=made("logger"),
        precision=PRECISIONS[config.precision],
    )


def _object(node: Any) -> Any:
    """What a node of a checked configuration stands for.

    Hydra's ``instantiate`` resolves values a second time, and would take the name of a file for a reference.
    """
    if isinstance(node, list):
        return [_object(value) for value in node]
    if not isinstance(node, dict):
        return node
    values = {key: _object(value) for key, value in node.items() if key not in MARKS}
    if "_target_" not in node:
        return values
    made = resolve_name(node["_target_"])
    return partial(made, **values) if node.get("_partial_") else made(**values)


def _made(part: str, make: Callable[[], Any]) -> Any:
    """Call ``make``; what it refuses becomes one line that names the part."""
    try:
        return make()
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(str(error), where=part, remedy=f"Look at conf/{part}/ for its keys") from error
