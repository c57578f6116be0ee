"""What a checkpoint was trained with, against what its config.yaml says now."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from recsys_lt.errors import UserError
from recsys_lt.runs.trained_as import check_trained_as, trained_as


def config(vectors: Any = None, retriever: Any = None, weights: str = "hub/model") -> Any:
    model = {"item_vectors": vectors, "retriever": retriever}
    return OmegaConf.create({"model": model, "llm": {"weights": {"name": weights}}})


def check(then: Any, now: Any) -> None:
    check_trained_as(trained_as(then), trained_as(now), Path("best.ckpt"))


@pytest.mark.parametrize("key", ["vectors", "retriever", "weights"])
def test_what_a_run_builds_on_may_have_moved(key: str, tmp_path: Path) -> None:
    check(config(**{key: "/old/place"}), config(**{key: str(tmp_path)}))


@pytest.mark.parametrize(
    ("then", "now", "key"),
    [
        (config("/old/place"), config(), "model.item_vectors"),
        (config(), config(retriever="/a/run"), "model.retriever"),
        (config(weights="hub/model"), config(weights="hub/other"), "llm.weights.name"),
        (config(weights="hub/model"), config(weights="/a/folder"), "llm.weights.name"),
    ],
)
def test_another_first_stage_or_language_model_is_refused(then: Any, now: Any, key: str) -> None:
    with pytest.raises(UserError, match=f"it was trained with {key}="):
        check(then, now)
