"""Loggers to other programs: when a run goes online, what they get, and that their failures never end a run."""

from pathlib import Path
from typing import Any

import pytest

from recsys_lt.errors import UserError
from recsys_lt.training.loggers import Logger, MLflowLogger, TensorBoardLogger, WandbLogger, has_key


def test_a_key_of_the_server_in_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    assert not has_key()
    for host in ("api.wandb.ai", "api.forge.coreweave.com"):  # before wandb 0.31, and since
        netrc.write_text(f"machine {host}\n  login user\n  password {'0' * 40}\n")
        assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_key()


CELL = {"dataset": "d", "model": "m", "loss": "l", "optimizer": "o", "seed": 0}
CONFIG = {"model": {"width": 64, "start_from": None}, "seed": 0}
METRICS: dict[str, Any] = {
    **CELL,
    "valid": {"ndcg@10": 0.2},
    "test": {"ndcg@10": 0.1, "head/ndcg@10": 0.15, "tail/ndcg@10": None},
    "long_tail": {"deciles": [{"least": 1, "most": 2, "ndcg@10": 0.1}]},
    "best_epoch": 1,
}


class _Failing(Logger):
    name, package = "Elsewhere", "elsewhere"
    asked = 0

    def _start(self, *_: Any) -> None:
        self.asked += 1

    def _log(self, *_: Any) -> None:
        self.asked += 1
        raise ConnectionError("the server\nis gone")

    def _finish(self, *_: Any) -> None:
        self.asked += 1


def _run(logger: Logger, folder: Path, pictures: dict[str, Path] | None = None) -> None:
    logger.start(folder, CONFIG, CELL, "sweep")
    logger.log({"epoch": 1, "train/loss": 2.0, "valid/ndcg@10": 0.2})
    logger.finish(METRICS, pictures or {})


def test_a_failure_is_one_line_and_ends_the_logging_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = _Failing()
    _run(logger, tmp_path)
    assert logger.asked == 2  # not again after it failed
    said = capsys.readouterr().err
    assert said == "Elsewhere logging stopped (ConnectionError: the server is gone); the run goes on\n"


@pytest.mark.parametrize("logger", [TensorBoardLogger(), MLflowLogger()])
def test_a_missing_package_is_refused_in_one_line(logger: Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_lt.system.package.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=rf"pip install 'recsys_lt\[{logger.extra}\]'"):
        logger.check()
    WandbLogger().check()  # which is always there


def test_tensorboard_gets_curves_and_results(tmp_path: Path, capsys: pytest.CaptureFixture[str], picture: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _run(TensorBoardLogger(), tmp_path / "run", {"learning_curve": picture})
    said = capsys.readouterr()
    assert said.out.startswith("TensorBoard: tensorboard --logdir ")
    assert said.err == ""
    read = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    assert {"train/loss", "valid/ndcg@10", "final/test/ndcg@10"} <= set(read.Tags()["scalars"])
    assert [(one.step, one.value) for one in read.Scalars("train/loss")] == [(1, 2.0)]
    assert read.Tags()["images"] == ["learning_curve"]


def test_mlflow_keeps_one_run_per_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], picture: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    folder, uri = tmp_path / "run", f"sqlite:///{tmp_path}/mlflow.db"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # where artifacts of a local database go
        _run(MLflowLogger(uri=uri, artifacts=["config"]), folder, {"learning_curve": picture})
        _run(MLflowLogger(uri=uri), folder)  # after a resume
    assert capsys.readouterr().err == ""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("recsys_lt")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["model"] == "m"
    assert found.data.params["model.width"] == "64"
    assert found.data.metrics["train/loss"] == 2.0
    assert found.data.metrics["final/test/ndcg_at_10"] == 0.1
    assert sorted(one.path for one in client.list_artifacts(found.info.run_id)) == ["config.yaml", picture.name]


def test_a_server_that_is_not_there_does_not_end_a_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _run(MLflowLogger(uri="http://127.0.0.1:9"), tmp_path)
    assert "MLflow logging stopped" in capsys.readouterr().err


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from matplotlib.image import imsave

    path = tmp_path / "learning_curve.png"
    imsave(path, [[[0.0, 0.5, 1.0]] * 4] * 4)
    return path
