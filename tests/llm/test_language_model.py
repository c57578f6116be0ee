"""Packs read what rows alone would; asking again gives the same; a checkpoint holds the adapters alone."""

import pytest
import torch
from torch import Tensor, nn

from recsys_lt.errors import UserError
from recsys_lt.llm import packed_attention
from recsys_lt.llm.language_model import LanguageModel
from recsys_lt.llm.tiny_random import TinyRandom
from tests.llm.conftest import plain_hidden

LENGTHS = [3, 1, 5, 2]
EVEN = [4, 3, 4, 4, 3]  # in blocks there are fewer pairs of tokens than in one product


def read(language, seed: int = 0, lengths=LENGTHS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(4, language.width, generator=generator),
        torch.randn(sum(lengths), language.width, generator=generator),
    )


def stirred(language):
    """With adapters that change something: peft's begin as nothing."""
    torch.manual_seed(3)
    for p in language.parameters():
        if p.requires_grad:
            nn.init.normal_(p, std=0.3)
    return language


@pytest.mark.parametrize("pack_tokens", [1, 9, 1024])
@pytest.mark.parametrize("graded", [True, False])
@pytest.mark.parametrize("lengths", [LENGTHS, EVEN])
def test_packs_equal_rows_read_alone(tiny, pack_tokens, graded, lengths) -> None:
    language = stirred(tiny(f"llm.pack_tokens={pack_tokens}").load()).eval()
    prompt, rows = read(language, lengths=lengths)
    with torch.set_grad_enabled(graded):  # without gradients the prompt is read once, and kept
        found = language.hidden(prompt, rows, lengths)
    expected = plain_hidden(language, prompt, rows, lengths)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - language.hidden(prompt * 0.5, rows, lengths)).abs().max() > 1e-3  # the prompt is heard


@pytest.mark.parametrize(("lengths", "pack_tokens"), [(LENGTHS, 9), (EVEN, 1024)])
def test_gradients_of_packs_equal_those_of_rows(tiny, lengths, pack_tokens) -> None:
    language = stirred(tiny(f"llm.pack_tokens={pack_tokens}").load()).eval()
    prompt, rows = read(language, lengths=lengths)
    parameters = [p for p in language.parameters() if p.requires_grad]
    direction = torch.randn(len(rows), language.width)
    packed = torch.autograd.grad((language.hidden(prompt, rows, lengths) * direction).sum(), parameters)
    plain = torch.autograd.grad((plain_hidden(language, prompt, rows, lengths) * direction).sum(), parameters)
    for one, other in zip(packed, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("lengths", [LENGTHS, EVEN])
def test_without_a_prompt(tiny, lengths) -> None:
    language = tiny().load().eval()
    prompt, rows = read(language, lengths=lengths)
    with torch.no_grad():
        found = language.hidden(prompt[:0], rows, lengths)
    torch.testing.assert_close(found, plain_hidden(language, prompt[:0], rows, lengths), rtol=1e-4, atol=1e-5)


def test_attention_stays_within_rows_where_that_is_less_work(tiny, monkeypatch) -> None:
    language, pairs = tiny().load().eval(), []
    plain = packed_attention.F.scaled_dot_product_attention

    def counted(q: Tensor, k: Tensor, v: Tensor, **more) -> Tensor:
        pairs.append(q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2])
        return plain(q, k, v, **more)

    monkeypatch.setattr(packed_attention.F, "scaled_dot_product_attention", counted)
    layers = language.causal.config.num_hidden_layers
    for lengths, expected in ((EVEN, 5 * 4 * (4 + 4) + 4 * 4), (LENGTHS, 15 * 15)):
        pairs.clear()
        language.hidden(*read(language, lengths=lengths), lengths)
        assert sum(pairs) == expected * layers * language.causal.config.num_attention_heads


@pytest.mark.parametrize("checkpointed", [False, True])
def test_dropout_is_repeated_when_asked_again_and_does_not_depend_on_packs(tiny, checkpointed) -> None:
    changes = ("llm.lora.dropout=0.5", f"llm.gradient_checkpointing={checkpointed}")
    whole = stirred(tiny(*changes).load()).train()
    parted = stirred(tiny(*changes, "llm.pack_tokens=9").load()).train()
    prompt, rows = read(whole)
    keys = torch.arange(len(rows)) * 7919
    answers, gradients = [], []
    for language in (whole, whole, parted):
        found = language.hidden(prompt, rows, LENGTHS, keys, 11)
        answers.append(found.detach())
        gradients.append(
            torch.autograd.grad(found.square().sum(), [p for p in language.parameters() if p.requires_grad])
        )
    assert torch.equal(answers[0], answers[1])
    torch.testing.assert_close(answers[0], answers[2], rtol=1e-4, atol=1e-5)
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
    others = whole.hidden(prompt, rows, LENGTHS, keys + 1, 11)
    assert (answers[0] - others).abs().max() > 1e-3  # another key, another mask
    assert (answers[0] - whole.eval().hidden(prompt, rows, LENGTHS)).abs().max() > 1e-3


def test_checkpointing_a_pack_at_a_time_changes_nothing(tiny) -> None:
    gradients = []
    for checkpointed in (False, True):
        language = stirred(tiny(f"llm.gradient_checkpointing={checkpointed}", "llm.pack_tokens=9").load()).train()
        prompt, rows = read(language)
        found = language.hidden(prompt, rows, LENGTHS, torch.arange(len(rows)), 5)
        gradients.append(
            torch.autograd.grad(found.square().sum(), [p for p in language.parameters() if p.requires_grad])
        )
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_holds_the_adapters_alone(tiny) -> None:
    class Around(nn.Module):
        def __init__(self, language) -> None:
            super().__init__()
            self.language, self.head = language, nn.Linear(2, 3)

    kept = Around(stirred(tiny().load()))
    state = {name: value.clone() for name, value in kept.state_dict().items()}
    assert {name for name in state if name.startswith("language.")} == {
        f"language.{name}" for name, p in kept.language.named_parameters() if p.requires_grad
    }
    fresh = Around(tiny().load())
    fresh.load_state_dict(state)
    prompt, rows = read(kept.language)
    with torch.no_grad():
        both = [around.language.eval().hidden(prompt, rows, LENGTHS) for around in (kept, fresh)]
    assert torch.equal(*both)
    adapter = next(name for name in state if "lora_B" in name)
    with pytest.raises(RuntimeError, match="lora_B"):
        fresh.load_state_dict({name: value for name, value in state.items() if name != adapter})
    with pytest.raises(RuntimeError, match=r"head\.weight"):
        fresh.load_state_dict({name: value for name, value in state.items() if name != "head.weight"})


def test_untuned_is_as_it_was_loaded(tiny) -> None:
    language, as_loaded = stirred(tiny().load()).eval(), tiny("llm.lora=null").load().eval()
    prompt, rows = read(language)
    with torch.no_grad():
        plain = as_loaded.hidden(prompt, rows, LENGTHS)
        assert (language.hidden(prompt, rows, LENGTHS) - plain).abs().max() > 1e-3
        with language.untuned():
            torch.testing.assert_close(language.hidden(prompt, rows, LENGTHS), plain)
    assert not [p for p in as_loaded.parameters() if p.requires_grad]


def test_adapters_are_float32_on_frozen_weights_of_fewer_bits(tiny) -> None:
    language = stirred(tiny("llm.dtype=bfloat16").load()).train()
    assert {p.dtype for p in language.parameters() if p.requires_grad} == {torch.float32}
    assert language.vocabulary.dtype == torch.bfloat16
    prompt, rows = (part.bfloat16() for part in read(language))
    found = language.hidden(prompt, rows, LENGTHS, torch.arange(len(rows)), 1)
    found.float().square().sum().backward()
    assert all(p.grad is not None for p in language.parameters() if p.requires_grad)


@pytest.mark.parametrize("lengths", [LENGTHS, EVEN])
def test_packs_in_bfloat16_are_the_rows_to_its_rounding(tiny, lengths) -> None:
    language = stirred(tiny("llm.dtype=bfloat16").load()).eval()
    prompt, rows = (part.bfloat16() for part in read(language, lengths=lengths))
    found, expected = language.hidden(prompt, rows, lengths), plain_hidden(language, prompt, rows, lengths)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(
        found.float(), expected.float(), rtol=0.0, atol=0.04 * float(expected.detach().abs().max())
    )


def test_tokens_read_are_counted(tiny) -> None:
    language = tiny("llm.pack_tokens=9").load()
    prompt, rows = read(language)
    language.hidden(prompt, rows, LENGTHS)
    assert language.tokens_read == 11 + 3 * 4  # three packs, each with the prompt
    with torch.no_grad():
        language.hidden(prompt, rows, LENGTHS)
    assert language.tokens_read == 11 + 3 * 4 + 11 + 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("llm.dtype=int4", "llm.dtype"),
        ("llm.quantize=2bit", "llm.quantize"),
        ("llm.quantize=4bit", "there is none"),
        ("llm.pack_tokens=0", "llm.pack_tokens"),
        ("llm.lora.rank=0", "llm.lora"),
        ("llm.lora.targets=[nothing]", "q_proj"),
    ],
)
def test_what_means_nothing_is_refused(tiny, change, said, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=said) as refusal:
        tiny(change).load()
    assert refusal.value.remedy


def test_a_row_longer_than_the_context(tiny) -> None:
    language = tiny("+llm.weights.context=16").load()
    language.check_length(16, "model.max_length=12")
    with pytest.raises(UserError, match="17 tokens, and the language model reads 16"):
        language.check_length(17, "model.max_length=13")


def test_the_tiny_tokenizer_reads_bytes() -> None:
    tokenizer, model = TinyRandom().load({})
    ids = tokenizer("Zoë A", add_special_tokens=False)["input_ids"]
    assert len(ids) == len("Zoë A".encode())
    assert tokenizer.decode(ids) == "Zoë A"
    assert max(ids) < model.config.vocab_size


_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
FAMILIES = {
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    "gpt_neox": ("GPTNeoXConfig", _SIZES | {"intermediate_size": 64}),
    "opt": ("OPTConfig", _SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.5}),
    "qwen3": (
        "Qwen3Config",
        _SIZES | {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64, "attention_dropout": 0.5},
    ),
}


def of_family(name: str, sizes: dict, **more) -> LanguageModel:
    import transformers

    tokenizer, _ = TinyRandom().load({})
    config = getattr(transformers, name)(vocab_size=258, bos_token_id=256, eos_token_id=257, **sizes, **more)
    torch.manual_seed(0)
    causal = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    return LanguageModel(tokenizer, causal, None, 1024, False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", [LENGTHS, EVEN])
def test_other_families_are_read_alike_and_their_own_dropout_is_off(family, lengths) -> None:
    language = of_family(*FAMILIES[family]).train()
    prompt, rows = read(language, lengths=lengths)
    with torch.no_grad():
        first, second = (language.hidden(prompt, rows, lengths, torch.arange(len(rows)), 1) for _ in range(2))
        assert torch.equal(first, second)
        expected = plain_hidden(language, prompt, rows, lengths)
    torch.testing.assert_close(first, expected, rtol=1e-3, atol=1e-4)


def test_a_window_shorter_than_a_row_is_refused_when_rows_are_that_long() -> None:
    sizes = {**FAMILIES["qwen3"][1], "sliding_window": 8}
    language = of_family("MistralConfig", sizes)
    with pytest.raises(UserError, match="9 tokens, and the language model reads 8"):
        language.check_length(9, "model.max_length")


def test_a_head_that_does_more_than_a_product_is_refused() -> None:
    with pytest.raises(UserError, match="reads itself in another way"):
        of_family("GraniteConfig", FAMILIES["qwen3"][1], logits_scaling=4.0)


def test_masks_do_not_depend_on_whether_gradients_are_wanted(tiny) -> None:
    language = stirred(tiny("llm.lora.dropout=0.5", "llm.pack_tokens=9").load()).train()
    prompt, rows = read(language)
    keys = torch.arange(len(rows)) * 31
    found = language.hidden(prompt, rows, LENGTHS, keys, 3)
    with torch.no_grad():
        torch.testing.assert_close(language.hidden(prompt, rows, LENGTHS, keys, 3), found)


def test_a_checkpoint_leaves_no_masks_behind_and_counts_tokens_once(tiny) -> None:
    language = stirred(tiny("llm.gradient_checkpointing=true", "llm.lora.dropout=0.5").load()).train()
    prompt, rows = read(language)
    language.hidden(prompt, rows, LENGTHS, torch.arange(len(rows)), 3).sum().backward()
    assert language._pass.keys is None
    assert language.tokens_read == 4 + 11


@pytest.mark.filterwarnings("error::FutureWarning")
def test_keys_and_values_go_by_the_name_that_transformers_has_for_them(tiny, monkeypatch) -> None:
    """No warning of the name of other versions, in generation neither."""
    import transformers

    def read_on() -> tuple[str, Tensor]:
        language = tiny().load().eval()
        prompt, rows = read(language)
        ids = torch.arange(12).view(2, 6)
        with torch.no_grad():
            cache = language.read_rows(ids[:, :-1], torch.ones(2, 5).long(), None)
            said = {"max_new_tokens": 3, "do_sample": False, language.cache_argument: cache}
            language.causal.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **said)
            return language.cache_argument, language.hidden(language.read(prompt), rows, LENGTHS)

    name, expected = read_on()
    plain = transformers.LlamaModel.forward

    def older(self, *given, past_key_values=None, **more):
        return plain(self, *given, **more | ({} if past_key_values is None else {name: past_key_values}))

    monkeypatch.setattr(transformers.LlamaModel, "forward", older)
    monkeypatch.setattr(transformers.LlamaForCausalLM, "generate", lambda *_, **given: given["past_key_values"])
    other, found = read_on()
    assert other == "past_key_values"
    assert torch.equal(found, expected)


def test_the_first_layers_alone_give_what_the_whole_model_has_after_them(tiny) -> None:
    whole, cut = (
        tiny("+llm.weights.layers=3", layers).load(adapted=False) for layers in ("llm.layers=null", "llm.layers=2")
    )
    tokens = torch.arange(20)[None]
    after = whole.causal.base_model(tokens, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(cut.causal.base_model(tokens).last_hidden_state, whole.causal.base_model.norm(after))
    random = tiny("+llm.weights.layers=3", "llm.layers=2", "llm.untrained=true").load(adapted=False)
    assert len(random.causal.base_model.layers) == 2


def test_more_layers_than_there_are_are_refused(tiny) -> None:
    with pytest.raises(UserError, match=r"llm\.layers=3: the language model has 2 layers"):
        tiny("llm.layers=3").load(adapted=False)
