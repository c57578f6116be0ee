"""T5 on packed rows is the T5 of ``transformers``, in values and gradients; its dropout is keyed by row."""

import pytest
import torch
import torch.nn.functional as F

from recsys_lt.generative.packed_t5 import Layout, Memory, PackedStack

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'recsys_lt[llm]'")
LENGTHS, DEPTH, CPU = (5, 3, 8, 8, 1, 13), 3, torch.device("cpu")


def model(**settings: object):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 4, "num_heads": 4, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 3}
    settings = {"vocab_size": 30, "decoder_start_token_id": 0, "dropout_rate": 0.0, **sizes, **settings}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**settings))


def rows() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    read = [torch.randint(2, 30, (length,), generator=generator) for length in LENGTHS]
    return read, torch.randint(2, 30, (len(LENGTHS), DEPTH), generator=generator)


def packed(t5, read, answers, dropout: float = 0.0, streams: torch.Tensor | None = None) -> torch.Tensor:
    """Last states of the decoder, [B, D, d], in the order of the rows."""
    layout, decoded = Layout.of([len(row) for row in read], CPU), Layout.rectangle(len(answers), DEPTH, CPU)
    encoder, decoder = PackedStack(t5.encoder, dropout, 0, False), PackedStack(t5.decoder, dropout, 1, True)
    keys = (None, None) if streams is None else (layout.streams(streams), decoded.streams(streams[layout.order] + 99))
    states = encoder(t5.shared(torch.cat(read)[layout.places]), layout, keys[0])
    before = F.pad(answers[:, :-1], (1, 0))[layout.order]
    found = decoder(t5.shared(before.flatten()), decoded, keys[1], Memory(states, layout))
    return torch.empty(len(answers), DEPTH, 16).index_copy(0, layout.order, found.view(len(answers), DEPTH, -1))


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu"])
def test_it_is_the_library_in_values_and_gradients(feed_forward: str) -> None:
    t5, (read, answers) = model(feed_forward_proj=feed_forward), rows()
    found = packed(t5, read, answers)
    padded = torch.nn.utils.rnn.pad_sequence(read, batch_first=True)
    expected = t5(
        input_ids=padded,
        attention_mask=torch.arange(padded.shape[1]) < torch.tensor(LENGTHS).unsqueeze(1),
        decoder_input_ids=F.pad(answers[:, :-1], (1, 0)),
        output_hidden_states=True,
    ).decoder_hidden_states[-1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    by, parameters = torch.randn(found.shape), [p for n, p in t5.named_parameters() if n != "lm_head.weight"]
    ours = torch.autograd.grad((found * by).sum(), parameters)
    theirs = torch.autograd.grad((expected * by).sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_dropout_is_of_the_row_and_not_of_the_batch() -> None:
    t5, (read, answers) = model(), rows()
    streams = torch.arange(100, 100 + len(read))
    found = packed(t5, read, answers, 0.3, streams)
    assert torch.equal(found, packed(t5, read, answers, 0.3, streams))
    assert (found - packed(t5, read, answers, 0.3, streams + 1)).abs().max() > 0.1
    some = [4, 2, 0]  # of other lengths, in another order
    alone = packed(t5, [read[row] for row in some], answers[some], 0.3, streams[some])
    torch.testing.assert_close(alone, found[some], rtol=1e-4, atol=1e-5)


def test_a_causal_stack_sees_nothing_that_comes_later() -> None:
    t5, (read, _) = model(), rows()
    stack = PackedStack(t5.decoder, 0.0, 0, True)
    long, short = read[5], read[5][:6]
    layouts = Layout.of([len(long)], CPU), Layout.of([len(short)], CPU)
    found, alone = (stack(t5.shared(row[at.places]), at, None) for row, at in zip((long, short), layouts, strict=True))
    torch.testing.assert_close(found[:6], alone[:6])
    assert (found[6] - found[5]).abs().max() > 1e-3


def test_places_and_ends_of_ragged_rows() -> None:
    layout = Layout.of(LENGTHS, CPU)
    tokens = torch.cat([torch.full((length,), row) for row, length in enumerate(LENGTHS)])[layout.places]
    assert tokens[layout.ends].tolist() == list(range(len(LENGTHS)))
    for group in layout.groups:
        assert (tokens[group.tokens].view(group.n, -1) == layout.order[group.rows].unsqueeze(1)).all()
        assert group.length % 4 == 0
