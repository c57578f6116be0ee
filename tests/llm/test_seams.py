"""Texts that are read apart have the tokens they have together, whatever the tokenizer does to a beginning."""

import pytest
import torch

from recsys_lt.llm.tiny_random import TinyRandom
from tests.llm.conftest import parts_of, ranking_batch, training_batch

SMALL = ("model.max_length=3", "model.title_tokens=64")


def like_llama_2(kind: str):
    """SentencePiece's ways: a space before every text, by normalising it or by cutting it up; bytes where need be."""
    import tokenizers as t
    import transformers

    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789().,:#-?'"
    merged = ["\u2581\u2581", *(f"\u2581{letter}" for letter in letters), "th", "##", "###", "(1", "-\u2581"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    words = ["<unk>", "<s>", "</s>", *bytes_, "\u2581", *letters, *merged]
    merges = [("##", "#") if both == "###" else (both[0], both[1]) for both in merged]
    vocabulary = {word: number for number, word in enumerate(words)}
    bare = t.Tokenizer(t.models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if kind == "normalizer":
        bare.normalizer = t.normalizers.Sequence(
            [t.normalizers.Prepend("\u2581"), t.normalizers.Replace(" ", "\u2581")]
        )
    else:
        bare.pre_tokenizer = t.pre_tokenizers.Metaspace("\u2581", prepend_scheme="first", split=False)
    bare.decoder = t.decoders.Sequence(
        [t.decoders.Replace("\u2581", " "), t.decoders.ByteFallback(), t.decoders.Fuse(), t.decoders.Strip(" ", 1, 0)]
    )
    bare.post_processor = t.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=bare, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )


@pytest.fixture(params=["normalizer", "pre-tokenizer"])
def tokenizer(request, monkeypatch):
    found = like_llama_2(request.param)
    plain = TinyRandom.load

    def load(self, options, outline=False):
        _, model = plain(self, options, outline)
        model.resize_token_embeddings(len(found), mean_resizing=False)
        return found, model

    monkeypatch.setattr(TinyRandom, "load", load)
    return found


def test_a_prompt_in_parts_is_the_whole_text(made, data, tokenizer) -> None:
    module = made("model=llamarec", "model.candidates=6", *SMALL)
    model, batch = module, training_batch(data, module, rows=4)
    prompts, answers = model.prompts_and_answers(batch)
    for prompt, (letter,) in zip(prompts, answers, strict=True):
        whole = [*model.opening.tolist(), *prompt, letter]
        text = tokenizer.decode(whole, skip_special_tokens=True)
        assert "History:\n(1) " in text
        assert "\n\nCandidates:\n(A) " in text
        assert tokenizer(text)["input_ids"] == whole
    assert [tokenizer.convert_ids_to_tokens(int(letter)) for letter in model.letters] == list("ABCDEF")


def test_an_answer_goes_on_from_its_prompt_and_ends_with_its_line(made, data, tokenizer) -> None:
    module = made("model=bigrec", *SMALL).eval()
    model, batch = module, training_batch(data, module, rows=4)
    for prompt, answer in zip(*model.prompts_and_answers(batch), strict=True):
        whole = [*model.opening.tolist(), *prompt, *answer]
        text = tokenizer.decode(whole, skip_special_tokens=True)
        assert tokenizer(text)["input_ids"] == whole
    newline = tokenizer.convert_tokens_to_ids("<0x0A>")
    assert model._ends == [model.language.end, newline]
    with torch.no_grad():
        model.begin_ranking()
        model.scores(ranking_batch(data, module, rows=2))


def test_what_a_vocabulary_has_as_one_token_is_read_after_something_else(made, tokenizer) -> None:
    language = made("model=bigrec", *SMALL).language
    newline = tokenizer.convert_tokens_to_ids("<0x0A>")
    assert language.ids(["\n", "\n\n", ""]) == [[newline], [newline] * 2, []]
    plain = language._tokens

    def with_double_lines(texts):  # a tokenizer that has two line ends as one token, 7
        return [
            [7 if pair == (newline, newline) else pair[0] for pair in zip(ids, [*ids[1:], None], strict=True)]
            for ids in plain(texts)
        ]

    language._tokens = with_double_lines
    assert language.ids(["\nA"])[0][0] == newline


def test_other_tokenizers_are_asked_as_they_were(made) -> None:
    language = parts_of("llm=tiny_random", "model=bigrec").model.keywords["llm"].load()
    assert not language._spaces
    assert language.ids([" A", "\n"]) == language._tokens([" A", "\n"])
