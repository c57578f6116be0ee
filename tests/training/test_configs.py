"""Every shipped config composes and builds, or refuses in one line; every cell gets its own published setting."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import yaml  # type: ignore[import-untyped]
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from recsys_lt import CONF
from recsys_lt.backbones.backbone import Backbone
from recsys_lt.data.facts import DataFacts
from recsys_lt.errors import UserError
from recsys_lt.generative.item_ids import IdMap
from recsys_lt.graphs.scores import Graph, GraphSettings
from recsys_lt.recommenders.blend import Mixture
from recsys_lt.training.build import Parts, build


def names(group: str) -> list[str]:
    folder = CONF / group
    paths = (path for path in folder.rglob("*.yaml") if not path.stem.startswith("_"))
    found = sorted(str(path.relative_to(folder).with_suffix("")) for path in paths)
    return [name for name in found if not name.startswith("base/")]  # a group of its own


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={name}"
        for group in ("dataset", "model", "loss", "llm", "optimizer", "strategy", "trainer", "logger")
        for name in names(group)
    ]
    + [f"+{group}={name}" for group in ("experiment", "rival", "method") for name in names(group)],
)
def test_every_choice_composes_and_builds(choice: str) -> None:
    if choice == "loss=own":
        choice += " model=bigrec"
    if choice.startswith("loss="):
        choice += " model.start_from=some_run"  # which the preference losses need
    if choice == "model=blend":
        choice += " model.parts=[some_run]"
    if choice == "llm=pretrained":
        choice += " llm.weights.name=somewhere"
    config = composed(*choice.split(), *(["model=e4srec"] if choice.startswith("llm=") else []))
    parts = build(config)
    facts = DataFacts(3, 40, torch.arange(40))
    if "llm" in config:
        first = build(composed()).model(facts)
        tiny = instantiate(composed("llm=tiny_random").llm)
        titles = np.array([f"item {number}" for number in range(40)])
        facts = replace(facts, item_data={"title": titles}, needs={"item_vectors": first, "retriever": first})
        model = partial(parts.model, llm=tiny)(facts)
        # Tuned and trained by a rule: something of it is; of one that is taken as it is, nothing.
        assert any(p.requires_grad for p in model.parameters()) is (choice != "model=title_likelihood")
    else:
        if choice == "model=itemgraph":
            following = sp.csr_array((40, 40), dtype=np.float32)
            facts = replace(facts, needs={"graph": Graph(GraphSettings(), following)})
        if parts.item_ids is not None:
            codes = np.stack(np.divmod(np.arange(40, dtype=np.int32), 10), axis=1)
            facts = replace(facts, needs={"item_ids": IdMap(codes, (10, 10), "digits", shared=True)})
        if choice.startswith("model=blend"):
            part = build(composed()).model(facts)
            facts = replace(facts, needs={"part_0": part, "mixture": Mixture((1.0,), (1.0,))})
        model = parts.model(facts)
    if isinstance(model, Backbone):
        assert model.output_table().n_items == 40
    parts.loss.check(10_000)
    if choice.startswith("strategy=") and (refusal := _refusal(parts)) is not None:
        assert "\n" not in str(refusal)
        assert refusal.remedy


def _refusal(parts: Parts) -> UserError | None:
    try:
        parts.strategy.check(1)
    except UserError as error:
        return error
    return None


@pytest.mark.parametrize("name", names("item_ids"))
def test_item_ids_compose_and_are_a_need_of_generative_models_alone(name: str) -> None:
    folder, _, vectors = name.rpartition("/")
    words = ["item_ids=residual_kmeans", f"item_ids/vectors={vectors}"] if folder else [f"item_ids={name}"]
    words += {"file": ["item_ids.path=ids.tsv"], "vectors/column": ["item_ids.vectors.column=x"]}.get(name, [])
    parts = build(composed("model=tiger", *words))
    assert parts.needs["model.item_ids"] is parts.item_ids
    with pytest.raises(UserError, match="item_ids: this model has no item ids"):
        build(composed(*words))


def test_a_generative_model_without_item_ids_is_refused() -> None:
    with pytest.raises(UserError, match="item_ids: this model writes items as ids, and there are none"):
        build(composed("model=tiger", "~item_ids"))


@pytest.mark.parametrize("search", names("search"))
@pytest.mark.parametrize("end", [0, -1])
def test_both_ends_of_a_search_space_build(search: str, end: int) -> None:
    space = OmegaConf.load(CONF / "search" / f"{search}.yaml").hydra.sweeper.params
    parser = OverridesParser.create()
    found = {}
    for key, values in space.items():
        sweep = parser.parse_override(f"{key}={values}")
        value = sweep.value()
        ends = (value.start, value.end) if sweep.is_interval_sweep() else list(sweep.sweep_string_iterator())
        found[key] = ends[end]
    assert found
    config = composed(f"+search={search}", *(f"{key}={value}" for key, value in found.items()))
    with open_dict(config):
        del config.search  # which the sweeper has read
    parts = build(config)
    parts.check()
    parts.model(DataFacts(3, 40, torch.arange(40)))


@pytest.mark.parametrize("setting", names("setting"))
def test_every_setting_is_picked_up_by_its_cell_and_builds(setting: str) -> None:
    dataset, rest = setting.split("_", 1)
    model, loss = next((m, rest.removeprefix(f"{m}_")) for m in names("model") if rest.startswith(f"{m}_"))
    config = composed(f"dataset={dataset}", f"model={model}", f"loss={loss}")
    text = (CONF / "setting" / f"{setting}.yaml").read_text()
    if parent := re.search(r"defaults:\n  - (\S+)\n", text):
        text = (CONF / "setting" / f"{parent[1]}.yaml").read_text()
    assert f"max_epochs: {config.trainer.max_epochs}\n" in text
    build(config)


def test_a_sweep_gives_each_cell_its_own_setting_and_the_command_line_wins() -> None:
    base = ("+experiment=beauty_sce",)
    sce, ce = composed(*base), composed(*base, "loss=ce")
    fmlp = composed(*base, "model=fmlp_rec")
    assert (sce.trainer.max_epochs, sce.loss.k, sce.loss.alpha) == (300, 500, 100)
    assert (ce.trainer.max_epochs, "k" in ce.loss) == (200, False)
    assert (sce.optimizer.lr, fmlp.optimizer.lr, fmlp.optimizer.weight_decay) == (5e-4, 1e-4, 5e-4)
    assert composed(*base, "optimizer.lr=0.5").optimizer.lr == 0.5


@pytest.mark.parametrize("experiment", names("experiment"))
def test_every_experiment_opens_with_what_it_reaches_and_its_command(experiment: str) -> None:
    lines = (CONF / "experiment" / f"{experiment}.yaml").read_text().splitlines()
    assert "NDCG@10" in lines[1]
    assert f"python -m recsys_lt +experiment={experiment}" in "\n".join(lines)


def cells_of_sweep(name: str, *arguments: str) -> list[list[str]]:
    """What Hydra's sweeper makes of an experiment's sweep and the command line: the overrides of each cell."""
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    swept = [f"{key}={value}" for key, value in yaml.safe_load(text)["hydra"]["sweeper"]["params"].items()]
    overrides = OverridesParser.create().parse_overrides([f"+experiment={name}", *swept, *arguments])
    return BasicSweeper.split_arguments(overrides, None)[0]


@pytest.mark.parametrize("dataset", ["ml-100k", "beauty", "yelp", "ml-1m"])
def test_every_choice_of_the_grid_composes_and_has_a_setting(dataset: str) -> None:
    cells = [dict(part.split("=") for part in cell) for cell in cells_of_sweep("grid", f"dataset={dataset}")]
    swept = {key: list(dict.fromkeys(cell[key] for cell in cells)) for key in cells[0]}
    assert {"adam", "sam", "eisam"} <= set(swept["optimizer"])
    assert {"ce", "sce"} <= set(swept["loss"])
    first = cells[0]
    name = composed(f"dataset={dataset}").dataset.name
    for model in swept["model"]:  # each of these cells composes and builds above
        for loss in swept["loss"]:
            assert (CONF / "setting" / f"{name}_{model}_{loss}.yaml").is_file()
    for key, values in swept.items():
        for value in values:
            build(composed(*(f"{each}={chosen}" for each, chosen in {**first, key: value}.items())))


def test_every_method_of_the_grid_of_language_models_is_another_choice() -> None:
    cells = cells_of_sweep("grid_llm_e4srec", "dataset=synthetic", "seed=0")
    assert {cell[1].removeprefix("+method=") for cell in cells} == set(names("method"))
    # The sweep's own keys come before those of the command line.
    made = [composed(*(part for part in cell if "experiment" not in part), cell[0]) for cell in cells]
    assert len({json.dumps(OmegaConf.to_container(c, resolve=True), sort_keys=True) for c in made}) == len(made) == 7
    for config in made:
        assert (config.llm.dtype, config.precision, config.model._target_.split(".")[-1]) == (
            "bfloat16", "bf16-mixed", "E4SRec",
        )  # fmt: skip
        base = config.optimizer.base._target_
        assert (base, config.optimizer.lr, config.optimizer.weight_decay) == ("torch.optim.AdamW", 1e-3, 0.0)
        build(config)


def paper_sweeps() -> list[tuple[str, int]]:
    """Each command that an experiment of the paper names, and how many cells it should make."""
    return [
        ("table3_beauty", 4 * 4 * 3),
        ("table3_yelp", 4 * 4 * 3),
        ("figure3_k_beauty", 2 * 5),
        ("figure3_alpha_beauty", 5),
    ]


@pytest.mark.parametrize(("command", "n"), paper_sweeps())
def test_every_cell_of_the_papers_sweeps_composes_and_builds(command: str, n: int) -> None:
    name, *arguments = command.split()
    assert f"python -m recsys_lt +experiment=paper/{command}" in (CONF / f"experiment/paper/{name}.yaml").read_text()
    cells = cells_of_sweep(f"paper/{name}", *arguments)
    assert len(cells) == len({tuple(cell) for cell in cells}) == n
    seed = next((part for part in cells[0] if part.startswith("seed=")), None)
    some = [cell for cell in cells if seed is None or seed in cell]  # the others differ in their seed alone
    made = set()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for cell in some:
            config = compose("config", overrides=cell, return_hydra_config=True)
            choices = config.hydra.runtime.choices
            with open_dict(config):
                del config["hydra"]
            for override in cell[1:]:
                key, value = override.split("=")
                found = choices[key] if key in choices else OmegaConf.select(config, key)
                assert str(found) == value or float(found) == float(value)
            whole = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
            made.add(json.dumps(whole, sort_keys=True, default=str))
            build(config).loss.check(12_101)
            if name.startswith("table3"):  # each in its own published setting
                setting = f"{config.dataset.name}_{choices.model}_{choices.loss}"
                assert (CONF / "setting" / f"{setting}.yaml").is_file()
    assert len(made) == len(some)


def test_every_sweep_of_the_paper_is_composed() -> None:
    assert {command.split()[0] for command, _ in paper_sweeps()} == set(names("experiment/paper"))


def test_a_dataset_is_ranked_as_its_published_numbers_are_and_the_command_line_wins() -> None:
    assert [composed(f"dataset={name}").metrics.mask_seen for name in ("beauty", "ml-1m", "yelp")] == [
        "published", "published", "none",
    ]  # fmt: skip
    assert composed("dataset=yelp", "metrics.mask_seen=keep_target").metrics.mask_seen == "keep_target"
    assert composed("dataset=yelp", "loss=sce").metrics.mask_seen == "none"
