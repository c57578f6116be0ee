"""The gap between test and training loss: the losses, the bins and the slope against plain definitions."""

import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, TrainBatches, rank_loader, users_with_target
from recsys_lt.data.preparation import Preparation
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.errors import UserError
from recsys_lt.metrics.groups import GROUPS, ItemGroups
from recsys_lt.recommenders.sequential import SequentialRecommender
from recsys_lt.runs.reading import read_json
from recsys_lt.training.build import build
from studies.llm_long_tail import generalisation
from studies.llm_long_tail.generalisation import FILE, Gap, by_items, held_out_losses, interval, slope

DATA = Preparation(k_core=1)(Synthetic(n_users=40, n_items=50, mean_length=8).draw(), "made")[0]
E4SREC = ("model=e4srec", "llm=tiny_random", "model.max_length=5")


def made(*choices: str) -> SequentialRecommender:
    if "model=e4srec" in choices:
        pytest.importorskip("transformers")
        pytest.importorskip("peft")
    torch.manual_seed(0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        parts = build(compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *choices]))
    facts = DataFacts(DATA.n_users, DATA.n_items, torch.from_numpy(DATA.popularity))
    first = SASRec(facts, width=8, blocks=1, heads=1, max_length=5, dropout=0.0).requires_grad_(False)
    module = parts.recommender(DATA, {"model.item_vectors": first} if "model=e4srec" in choices else {})
    assert isinstance(module, SequentialRecommender)
    return module.eval()


def held(module: SequentialRecommender, stage: str = "test") -> RankBatches:
    return RankBatches(DATA, users_with_target(DATA, stage), stage, module.max_length, 16, with_seen=True)


@pytest.mark.parametrize("choices", [("model.max_length=5",), E4SREC])
def test_the_loss_of_a_held_out_target_is_its_cross_entropy(choices) -> None:
    module = made(*choices)
    batch = held(module)[0]
    with torch.no_grad():
        scores = module.backbone.user_states(batch) @ module.backbone.output_table().weight.T
    expected = -scores.log_softmax(1)[torch.arange(len(batch)), batch.targets]
    torch.testing.assert_close(held_out_losses(module, batch), expected, rtol=1e-4, atol=1e-4)


def test_the_loss_of_a_held_out_target_may_be_of_cosines() -> None:
    module = made("model.max_length=5", "model.tied=false", "loss=sl", "loss.k=5")
    batch = held(module)[0]
    loss = held_out_losses(module, batch)
    with torch.no_grad():
        module.backbone.output.weight *= 3
    torch.testing.assert_close(held_out_losses(module, batch), loss)


@pytest.mark.parametrize("choices", [("model.max_length=5",), E4SREC])
def test_a_validation_writes_the_losses_of_groups_and_bins(tmp_path: Path, choices) -> None:
    module, logged = made(*choices), {}

    def validated(fn: str, epoch: int) -> pd.DataFrame:
        state = SimpleNamespace(fn=fn)
        loader = rank_loader(held(module, "valid"))
        trainer = SimpleNamespace(val_dataloaders=loader, state=state, current_epoch=epoch, default_root_dir=tmp_path)
        with mock.patch.object(module, "log", lambda name, value, batch_size: logged.__setitem__(name, value)):
            Gap(batch_rows=7).on_validation_epoch_end(trainer, module)
        return pd.read_csv(tmp_path / FILE)

    table = validated("validate", 0)
    batches = TrainBatches(DATA, module.task, 100, 0, generalisation.Share(), False)
    with torch.no_grad():
        _, losses, items = module.batch_losses(batches[0, 0])
    of = ItemGroups(DATA.popularity).of[items]
    for number, group in enumerate(GROUPS):
        row = table[table["items"] == group].iloc[0]
        assert row["train_targets"] == (of == number).sum()
        if row["train_targets"]:
            assert row["train_loss"] == pytest.approx(float(losses[of == number].mean()), rel=1e-3)
            assert logged[f"train_loss/{group}"] == pytest.approx(row["train_loss"], rel=1e-5)
    test = pd.concat([pd.DataFrame({"l": held_out_losses(module, b), "i": b.targets}) for b in held(module)])
    bins = table[table["interactions"].notna()]
    assert (bins["test_loss"] * bins["test_targets"]).sum() == pytest.approx(
        test["l"][DATA.popularity[test["i"]] > 0].sum(), rel=1e-3
    )
    assert list(validated("fit", 1)["epoch"].unique()) == [0, 2]
    assert list(validated("fit", 4)["epoch"].unique()) == [0, 2, 5]
    assert list(validated("fit", 1)["epoch"].unique()) == [0, 2]  # it went on from an earlier epoch


def test_bins_are_powers_of_two() -> None:
    counts = np.array([0, 1, 2, 3, 4, 9])
    train = np.array([1, 2, 3, 3]), np.array([1.0, 2.0, 3.0, 5.0])
    test = np.array([0, 2, 3, 5]), np.array([9.0, 4.0, 6.0, 7.0])
    table = by_items(counts, train, test).set_index("items")
    assert list(table.index) == [*GROUPS, "1", "2-3", "4-7", "8-15"]
    assert tuple(table.loc["2-3", ["train_targets", "train_loss", "test_targets", "test_loss"]]) == (3, 10 / 3, 2, 5.0)
    assert table.loc["2-3", "interactions"] == pytest.approx(6**0.5)
    assert np.isnan(table.loc["8-15", "train_loss"])
    assert np.isnan(table.loc["head", "interactions"])
    assert table.loc[list(GROUPS), "test_targets"].sum() == 4


def test_the_slope_is_that_of_the_logarithms() -> None:
    n = np.array([1.0, 3.0, 10.0, 50.0])
    table = pd.DataFrame(
        {"interactions": n, "train_loss": 2.0, "test_loss": 2.0 + 3.0 * n**-0.4, "train_targets": 5,
         "test_targets": [20, 30, 10, 80]}
    )  # fmt: skip
    assert slope(table) == (pytest.approx(-0.4), 0)
    few = pd.concat([table, table.iloc[:1].assign(interactions=2.0, test_loss=9.0, test_targets=9)])
    assert slope(few) == (pytest.approx(-0.4), 0)  # a bin of few targets does not count
    lower = pd.concat([table, table.iloc[:1].assign(interactions=100.0, test_loss=1.0)])
    assert slope(lower) == (pytest.approx(-0.4), 1)  # a gap below zero has no logarithm, and is counted


def test_the_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert (mean, (high - low) / 2) == (2.0, pytest.approx(4.3027 / 3**0.5, rel=1e-4))
    assert np.isnan(interval([1.0])[1])


def runs_in(folder: Path) -> None:
    """Finished runs of two optimizers and two seeds, with the losses of two epochs."""
    for optimizer, power in (("adamw", -0.3), ("eisam", -0.5)):
        for seed in (0, 1):
            run = folder / f"{optimizer}{seed}"
            run.mkdir(parents=True)
            metrics = {"dataset": "d", "model": "m", "loss": "ce", "optimizer": optimizer, "seed": seed,
                       "finished": True, "best_epoch": 1, "test": {"ndcg@10": 0.1}}  # fmt: skip
            (run / "metrics.json").write_text(json.dumps(metrics))
            rows = []
            for epoch, factor in ((1, 1.0), (2, 2.0 + seed)):
                for name, n in (("head", None), ("tail", None), ("1", 1.0), ("8-15", 10.0)):
                    gap = factor * (1.0 if n is None else n**power)
                    rows.append((epoch, name, n, 10, 1.0, 20, 1.0 + gap))
            columns = ("epoch", "items", "interactions", "train_targets", "train_loss", "test_targets", "test_loss")
            pd.DataFrame(rows, columns=columns).to_csv(run / FILE, index=False)


def test_runs_are_drawn_with_their_slopes(tmp_path: Path, capsys) -> None:
    runs_in(tmp_path / "runs")
    assert generalisation.main([str(tmp_path / "runs"), "--out", str(tmp_path / "gap.json")]) == 0
    assert "m, eisam, best epoch: slope -0.500" in capsys.readouterr().out
    found = read_json(tmp_path / "gap.json")
    assert found["m, adamw"]["best"]["slope"]["mean"] == pytest.approx(-0.3)
    assert found["m, adamw"]["last"]["epochs"] == [2, 2]
    assert found["m, adamw"]["along"]["tail"] == {"1": pytest.approx(1.0), "2": pytest.approx(2.5)}
    assert (tmp_path / "gap.png").stat().st_size > 1000


def test_what_is_refused(tmp_path: Path, capsys) -> None:
    runs_in(tmp_path / "runs")
    for path in (tmp_path / "runs").glob(f"*/{FILE}"):
        path.unlink()
    assert generalisation.main([str(tmp_path / "runs"), "--out", str(tmp_path / "gap.json")]) == 2
    assert f"no finished run there has {FILE}" in capsys.readouterr().err
    runs_in(tmp_path / "twice" / "rho=1")
    runs_in(tmp_path / "twice" / "rho=2")
    assert generalisation.main([str(tmp_path / "twice"), "--out", str(tmp_path / "gap.json")]) == 2
    assert "there is another run of m, adamw with seed 0" in capsys.readouterr().err
    for wrong in ({"stage": "train"}, {"users": 0}, {"batch_rows": 0}):
        with pytest.raises(UserError, match=r"callbacks\.gap"):
            Gap(**wrong)
