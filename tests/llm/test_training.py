"""The same update rules, checkpoints and processes as any model's; one command trains both stages."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.recommenders.step_closure import StepClosure
from recsys_lt.results.cells import cells_of
from recsys_lt.runs.checkpoints import load
from recsys_lt.runs.listing import find_runs
from recsys_lt.runs.stored import Names, Stored, store
from recsys_lt.runs.sweep import claimed
from recsys_lt.training.sharing import new_folder, pack, unpack
from recsys_lt.training.trained import Run
from tests.end_to_end.conftest import environment, forked_ranks, here, start
from tests.llm.conftest import N_ITEMS, training_batch

__all__ = ["environment", "forked_ranks", "here", "start"]
MADE = (
    "dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "llm=tiny_random", "logger=none",
    "strategy=cpu", "trainer.batch_rows=16", "trainer.rank_rows=16", "trainer.eval_every=1",
)  # fmt: skip
MODELS = {
    "e4srec": ("model=e4srec", "model.max_length=6"),
    "llamarec": ("model=llamarec", "model.candidates=6", "model.max_length=3", "model.title_tokens=8"),
    "bigrec": ("model=bigrec", "model.max_length=3", "model.title_tokens=6", "model.beams=1"),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("optimizer", ["sam", "eisam"])
def test_sharpness_aware_rules_put_everything_back(made, data, model, optimizer) -> None:
    module = made(*MODELS[model], f"optimizer={optimizer}", "optimizer.rho=0.3")
    batch = training_batch(data, module)
    parameters = [p for p in module.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in parameters]
    plain = torch.autograd.grad(module.batch_losses(batch)[0].sum(), parameters)
    total, gradients = module.rule.gradients(StepClosure(module, parameters, [batch]))
    assert torch.isfinite(total)
    for p, old in zip(parameters, before, strict=True):
        assert torch.equal(p, old)
    assert {p.dtype for p in parameters} == {torch.float32}
    # Uphill is another place: the gradients are not the plain ones.
    assert any((g - old).abs().max() > 1e-6 for g, old in zip(gradients, plain, strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_item_weights_weigh_answers(made, data, model) -> None:
    module = made(*MODELS[model]).eval()
    batch = training_batch(data, module)
    weights = torch.rand(2, N_ITEMS)
    totals, losses, items = module.batch_losses(batch, weights)
    torch.testing.assert_close(totals, (weights[:, items] * losses).mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_products_in_bfloat16_are_near(made, data, model) -> None:
    losses = []
    for precision in ("float32", "bf16-mixed"):
        module = made(*MODELS[model], f"precision={precision}")
        totals, each, _ = module.batch_losses(training_batch(data, module))
        totals.sum().backward()
        assert {p.grad.dtype for p in module.parameters() if p.grad is not None} == {torch.float32}
        losses.append(each)
    torch.testing.assert_close(losses[0], losses[1], rtol=0.03, atol=0.03)
    assert not torch.equal(losses[0], losses[1])


def test_a_run_of_two_stages_its_resume_and_what_it_recommends(here, tmp_path: Path) -> None:
    run = (*MADE, *MODELS["e4srec"], "hydra.run.dir=run", "schedule=constant")
    first = here(*run, "trainer.max_epochs=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "sasrec_ce is made first" in first.stdout
    stage = json.loads((tmp_path / "run/needs/model.item_vectors/metrics.json").read_text())
    assert (stage["model"], stage["finished"]) == ("sasrec", True)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["train"]["trained_parameters"] < metrics["train"]["parameters"]
    assert metrics["train"]["tokens_per_second"] > 0
    assert "tokens_per_second" in (tmp_path / "run/learning_curve.csv").read_text()
    assert stage["train"]["tokens_per_second"] is None
    checkpoint = load(tmp_path / "run/best.ckpt", events=metrics["protocol"]["fingerprint"])["state_dict"]
    assert {name.split(".")[1] for name in checkpoint} == {"language", "adaptor", "head", "vectors"}
    assert not [name for name in checkpoint if "embed_tokens" in name]
    # On: not a second first stage, and in the end the same as without a stop.
    again = here("resume", "run", "trainer.max_epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "is made first" not in again.stdout
    whole = here(
        *run[:-2], "hydra.run.dir=whole", "schedule=constant", "trainer.max_epochs=2",
        f"model.item_vectors={tmp_path}/run/needs/model.item_vectors", cwd=tmp_path,
    )  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    one, other = (json.loads((tmp_path / f"{name}/metrics.json").read_text()) for name in ("run", "whole"))
    assert one["test"] == other["test"]
    (one,) = Run(tmp_path / "run").lists(["u0"], k=3)
    assert [item.rank for item in one.items] == [1, 2, 3]
    assert one.items[0].score >= one.items[1].score
    check_shared(tmp_path / "whole", tmp_path)


@pytest.mark.parametrize(("model", "stage"), [("llamarec", "model.retriever"), ("bigrec", None)])
def test_a_model_that_answers_goes_on_where_it_was_and_recommends(here, tmp_path: Path, model: str, stage) -> None:
    run = (*MADE, *MODELS[model], "schedule=constant", "trainer.max_train_rows=32", "metrics.max_users=20")
    first = here(*run, "hydra.run.dir=run", "trainer.max_epochs=1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert ("lrurec_ce is made first" in first.stdout) is (stage is not None)
    assert ("its candidates in random order" in first.stdout) is (stage is not None)
    assert ("cannot rank them first" in first.stdout) is (model == "bigrec")  # titles of six letters
    again = here("resume", "run", "trainer.max_epochs=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "is made first" not in again.stdout
    given = () if stage is None else (f"{stage}={tmp_path}/run/needs/{stage}",)
    whole = here(*run, *given, "hydra.run.dir=whole", "trainer.max_epochs=2", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    one, other = (json.loads((tmp_path / f"{name}/metrics.json").read_text()) for name in ("run", "whole"))
    assert one["test"] == other["test"]
    assert (one["protocol"]["shared_titles"] is not None) is (model == "bigrec")
    if stage is not None:  # the retriever alone, on the same users: of its own run, which ranked no others
        alone = json.loads((tmp_path / "run/needs/model.retriever/metrics.json").read_text())["test"]
        for name in ("hr@1", "ndcg@10", "hr@20"):
            assert one["test"][f"retriever/{name}"] == alone[name], name
    kept = [
        load(tmp_path / name / "last.ckpt", events=one["protocol"]["fingerprint"])["state_dict"]
        for name in ("run", "whole")
    ]
    assert {name.split(".")[0] for name in kept[0]} == {"language"} | ({"retriever"} if stage else set())
    for name, tensor in kept[0].items():
        assert torch.equal(tensor, kept[1][name]), name
    (told,) = Run(tmp_path / "run").lists(["u0"], k=3)
    assert [item.rank for item in told.items] == [1, 2, 3]
    check_shared(tmp_path / "whole", tmp_path)


@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize("model", ["e4srec", "bigrec"])
def test_two_processes_learn_what_one_does_also_of_a_part(start, tmp_path: Path, model: str) -> None:
    """EISAM's two passes, dropout and caps; what was learnt is compared, not only what came of it."""
    learnt, metrics = {}, {}
    for devices in (1, 2):
        folder = tmp_path / f"on{devices}"
        first = (
            (f"model.item_vectors={tmp_path}/on1/needs/model.item_vectors",)
            if model == "e4srec" and devices == 2
            else ()
        )
        run = start(  # one process of DDP would leave its group behind in this one
            *MADE, *MODELS[model], *first, "strategy=ddp", "strategy.accelerator=cpu", f"trainer.devices={devices}",
            "trainer.max_epochs=1", "trainer.max_train_rows=40", "metrics.max_users=20", "llm.lora.dropout=0.2",
            "optimizer=eisam", "optimizer.rho=0.3", "optimizer.lr=0.01", f"hydra.run.dir={folder}", cwd=tmp_path,
        )  # fmt: skip
        assert run.ended() == 0, run.said()
        metrics[devices] = json.loads((folder / "metrics.json").read_text())
        assert metrics[devices]["train"]["processes"] == devices
        assert metrics[devices]["protocol"]["ranked_users"] == "20 of 60"
        assert metrics[devices]["protocol"]["training_rows"].startswith("40 of ")
        assert metrics[devices]["test"]["users"] == 20
        kept = load(folder / "last.ckpt", events=metrics[devices]["protocol"]["fingerprint"])
        learnt[devices] = {name: t for name, t in kept["state_dict"].items() if "lora" in name}
    assert metrics[1]["valid"]["ndcg@10"] == pytest.approx(metrics[2]["valid"]["ndcg@10"], abs=1e-6)
    assert learnt[1].keys() == learnt[2].keys() != set()
    # Adapters begin with a factor of zeros: they have moved, and to the same place.
    assert all(t.abs().max() > 1e-3 for name, t in learnt[1].items() if "lora_B" in name)
    for name, tensor in learnt[1].items():
        torch.testing.assert_close(learnt[2][name], tensor, rtol=1e-3, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (("model=llamarec", "loss=sce"), "loss: this model has an objective of its own"),
        (("model=sasrec", "loss=own", "~llm"), "loss=own: this model has no objective of its own"),
        (("model=bigrec", "llm.quantize=4bit"), "llm.quantize=4bit: weights are quantised on a CUDA device"),
        (("model=e4srec", "model.item_vectors=nowhere"), "nowhere: there is no such folder"),
        (
            ("model=llamarec", "model.candidates=3", "dataset=file", "dataset.path=bare.csv", "dataset.k_core=1"),
            "the items' column 'title' is read, which bare lacks",
        ),
        (("model=e4srec", "llm.lora.rnk=3"), "Did you mean llm.lora.rank?"),
        (("model=sasrec",), "llm: this model has no language model"),
        (("model=e4srec", "llm=null"), "llm=null: a group is a choice"),
        (("model=e4srec", "llm.quantize=4bit"), "llm.quantize=4bit: weights are quantised on a CUDA device"),
        (
            ("model=llamarec", "llm=pretrained", "llm.weights.name=./nothing/there"),
            "no language model can be read there",
        ),
        (("model=bigrec", "llm=pretrained", "llm.weights.name=./nothing/there"), "no language model can be read there"),
    ],
)
def test_bad_input_is_one_line(here, tmp_path: Path, choices, said, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "bare.csv").write_text("user,item\n" + "".join(f"a,{n}\nb,{n + 1}\n" for n in range(5)))
    made = [given for given in MADE if "dataset=file" not in choices or not given.startswith("dataset")]
    done = here(*made, *choices, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert said in lines[-1]
    assert "is made first" not in done.stdout  # at once, not after the first stage
    assert "Traceback" not in done.stderr


def test_a_sweep_s_table_tells_language_models_apart_and_leaves_first_stages_out(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = [compose("config", [*MADE, "model=e4srec", f"llm.lora.rank={rank}"]) for rank in (4, 16)]
    metrics = {
        "dataset": "synthetic", "model": "e4srec", "loss": "ce", "optimizer": "adamw", "seed": 0, "finished": True,
        "protocol": {"fingerprint": "x"}, "test": {"ndcg@10": 0.1},
    }  # fmt: skip
    names = Names("synthetic", "e4srec", "ce", "adamw")
    for number, config in enumerate(configs):
        folder = tmp_path / f"{number}_e4srec"
        (folder / "needs").mkdir(parents=True)
        store(folder, Stored(config, names, "sweep"))
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "needs" / "metrics.json").write_text(json.dumps(metrics | {"model": "sasrec"}))
    failed = tmp_path / "2_e4srec"
    store(failed / "needs", Stored(configs[0], names, None))
    (failed / "needs" / "metrics.json").write_text(json.dumps(metrics | {"model": "sasrec"}))
    store(failed, Stored(configs[1], names, "sweep"))
    runs = find_runs(tmp_path)
    assert [run.folder.name for run in runs] == ["0_e4srec", "1_e4srec", "2_e4srec"]
    cells = cells_of(runs)
    assert [(cell.label, len(cell.finished), len(cell.failed)) for cell in cells] == [
        ("e4srec/ce/adamw/rank=4", 1, 0),
        ("e4srec/ce/adamw/rank=16", 1, 1),
    ]
    # What cannot change a result finds a done cell all the same.
    other = compose_again("llm.pack_tokens=64", "llm.lora.rank=4")
    with claimed(Stored(other, names, "sweep"), tmp_path / "3_e4srec") as claim:
        assert (claim.state, claim.folder.name) == ("done", "0_e4srec")


def test_cells_of_a_sweep_share_a_first_stage(here, tmp_path: Path) -> None:
    sweep = ("-m", *MADE, *MODELS["e4srec"], "trainer.max_epochs=1", "hydra.sweep.dir=sweep", "optimizer=adamw,sam")
    done = here(*sweep, "seed=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("sasrec_ce is made first") == 1
    cells = sorted((tmp_path / "sweep").glob("*_seed0"))
    stages = {(cell / "needs" / "model.item_vectors").resolve() for cell in cells}
    assert len(cells) == 2
    assert [(stage.parent, stage.name[:10]) for stage in stages] == [(tmp_path / "sweep" / ".needs", "sasrec_ce_")]
    # It moves with the sweep.
    (tmp_path / "sweep").rename(tmp_path / "elsewhere")
    (one,) = Run(tmp_path / "elsewhere" / cells[0].name).lists(["u1"], k=3)
    assert len(one.items) == 3


def test_the_grid_of_methods_runs_and_goes_on(here, tmp_path: Path) -> None:
    grid = ("+experiment=grid_llm_e4srec", *MADE, *MODELS["e4srec"], "trainer.max_epochs=1", "seed=0")
    done = here(*grid, "+method=eisam_rowwise", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = here(*grid, "+method=eisam_rowwise,eisam_logit_adjusted", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    runs = find_runs(tmp_path / "multirun/grid_llm_e4srec_synthetic")
    assert [run.identity[2:] for run in runs] == [("ce", "eisam"), ("ce_logit_adjusted", "eisam")]
    assert [run.config["optimizer.form"] for run in runs] == ["rowwise", "exact"]
    assert {run.config["llm.dtype"] for run in runs} == {"bfloat16"}
    assert "\ndone in " in done.stdout  # the first cell of the second start


def check_shared(folder: Path, place: Path) -> None:
    """A run that others get takes the run it needs with it, and recommends the same without a dataset."""
    history = {"": [str(item) for item in Run(folder).data.item_ids[:4]]}
    known = Run(folder).recommend(histories=history, k=3)
    with new_folder(place / "shared") as made:
        pack(folder, made)
    assert str(place) not in (place / "shared" / "config.yaml").read_text()
    with new_folder(place / "theirs") as made:
        unpack(place / "shared", made)
    assert Run(place / "theirs").recommend(histories=history, k=3).equals(known)


def compose_again(*changes: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*MADE, "model=e4srec", *changes])
