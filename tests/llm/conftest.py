"""A few users, items with titles, and a language model of a few thousand weights."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

pytest.importorskip("transformers", reason="transformers is not installed: pip install 'recsys_lt[llm]'")
pytest.importorskip("peft", reason="peft is not installed: pip install 'recsys_lt[llm]'")

from recsys_lt import CONF
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.data.batch import Batch
from recsys_lt.data.dataset import Dataset
from recsys_lt.data.facts import DataFacts
from recsys_lt.data.loader import RankBatches, Share, TrainBatches, users_with_target
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.sources.synthetic import Synthetic
from recsys_lt.llm.choice import LLM
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.recommenders.recommender import Recommender
from recsys_lt.training.build import Parts, build
from recsys_lt.training.instantiate import checked

N_ITEMS = 40


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    source = Synthetic(n_users=30, n_items=N_ITEMS, mean_length=8)
    cache = str(tmp_path_factory.mktemp("cache"))
    return Dataset(source, name="made", k_core=1, cache_dir=cache).load(lambda _line: None)


@pytest.fixture(scope="session")
def first_stage(data: Sequences) -> SASRec:
    torch.manual_seed(1)
    facts = DataFacts(data.n_users, data.n_items, torch.from_numpy(data.popularity))
    return SASRec(facts, width=16, blocks=1, heads=1, max_length=10, dropout=0.0).requires_grad_(False).eval()


def needs_of(model: SASRec) -> dict[str, SASRec]:
    """A trained model as what E4SRec and LlamaRec need."""
    return {"model.item_vectors": model, "model.retriever": model}


def parts_of(*choices: str) -> Parts:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["dataset=synthetic", "strategy=cpu", "logger=none", *choices])
    return build(config)


@pytest.fixture(scope="session")
def tiny() -> Callable[..., LLM]:
    """The choice llm=tiny_random with keys changed."""

    def made(*changes: str) -> LLM:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", ["llm=tiny_random", *changes])
        llm: LLM = checked("llm", OmegaConf.to_container(config.llm, resolve=True), LLM)
        return llm

    return made


@pytest.fixture(scope="session")
def made(data: Sequences, first_stage: SASRec) -> Callable[..., Recommender]:
    """A recommender by its choices, with the tiny language model and the first stage."""

    def recommender(*choices: str) -> Recommender:
        torch.manual_seed(0)
        return parts_of("llm=tiny_random", *choices).recommender(data, needs_of(first_stage))

    return recommender


def plain_hidden(language: LanguageModel, prompt: Tensor, rows: Tensor, lengths: Sequence[int]) -> Tensor:
    """``LanguageModel.hidden`` row by row, as anybody would read them: what packs are held equal to."""
    states = []
    for row in rows.split(list(lengths)):
        read = torch.cat([prompt, row]).unsqueeze(0)
        found = language._inner.base_model(inputs_embeds=read, use_cache=False)
        states.append(found.last_hidden_state[0, len(prompt) :])
    return torch.cat(states)


def training_batch(data: Sequences, module: Recommender, rows: int = 6, epoch: int = 0) -> Batch:
    return TrainBatches(data, module.task, rows, 0, Share(), module.needs_seen)[epoch, 0]


def ranking_batch(data: Sequences, module: Recommender, stage: str = "test", rows: int = 6) -> Batch:
    return RankBatches(data, users_with_target(data, stage), stage, module.max_length, rows, with_seen=True)[0]
