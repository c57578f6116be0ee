"""E4SRec: one pass supervises every event, all items are scored, and what is trained is what is kept."""

from dataclasses import replace

import pytest
import torch

from recsys_lt.errors import UserError
from tests.llm.conftest import N_ITEMS, plain_hidden, ranking_batch, training_batch

MODEL = ("model=e4srec", "model.max_length=6")


def test_shapes_and_what_is_trained(made, data) -> None:
    module = made(*MODEL)
    batch = training_batch(data, module)
    totals, losses, items = module.batch_losses(batch, torch.ones(2, N_ITEMS))
    assert totals.shape == (2,)
    assert losses.shape == items.shape == batch.targets.shape == batch.items.shape
    totals[0].backward()
    trained = {name for name, p in module.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in module.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in trained} == {"language", "adaptor", "head"}
    assert all("lora_" in name for name in trained if ".language." in name)
    assert not [name for name in trained if "q_proj" in name]  # the published targets: the feed-forward's layers
    assert sum("lora_A" in name for name in trained) == 3 * 2


def test_what_may_be_perturbed(made) -> None:
    parts = {
        perturb: set(made(*MODEL, "optimizer=eisam", f"optimizer.perturb={perturb}").rule.perturbed_names)
        for perturb in ("[lora_]", "table", "[adaptor]", "all", "encoder", "[gate_proj.lora_]")
    }
    assert parts["table"] == {"backbone.head.weight"}
    assert parts["[adaptor]"] == {"backbone.adaptor.weight", "backbone.adaptor.bias"}
    assert all(".lora_A." in name or ".lora_B." in name for name in parts["[lora_]"])
    assert parts["encoder"] == parts["[lora_]"] | parts["[adaptor]"]
    assert parts["all"] == parts["encoder"] | parts["table"]
    assert {name.split(".")[-4] for name in parts["[gate_proj.lora_]"]} == {"gate_proj"}


def test_every_event_sees_its_past_alone(made, data) -> None:
    module = made(*MODEL).eval()
    batch = training_batch(data, module)
    with torch.no_grad():
        states = module.backbone.states(batch)
        changed = batch.items.clone()
        last = batch.offsets[1:] - 1
        changed[last] = (changed[last] + 1) % N_ITEMS
        others = module.backbone.states(replace(batch, items=changed))
    same = torch.ones(len(states), dtype=torch.bool)
    same[last] = False
    torch.testing.assert_close(states[same], others[same])
    assert ((states - others)[last].abs().amax(1) > 1e-5).all()


def test_what_is_ranked_by_is_what_was_trained(made, data) -> None:
    """The state after a history is that of its last event in training, and of a row read alone."""
    module = made(*MODEL, "llm.pack_tokens=40").eval()
    batch = training_batch(data, module)
    with torch.no_grad():
        states = module.backbone.states(batch)[batch.offsets[1:] - 1]
        torch.testing.assert_close(module.backbone.user_states(batch), states, rtol=1e-4, atol=1e-5)
        alone = plain_hidden(
            module.backbone.language,
            module.backbone.language.vectors(module.backbone.opening),
            module.backbone._read(batch),
            batch.lengths,
        )
    torch.testing.assert_close(alone[batch.offsets[1:] - 1], states, rtol=1e-4, atol=1e-5)


def test_seen_items_are_never_listed(made, data) -> None:
    module = made(*MODEL).eval()
    batch = ranking_batch(data, module)
    with torch.no_grad():
        found = module.rank(batch, 10)
    assert found.target_rank.shape == (6,)
    top = found.items
    assert (found.scores.diff(dim=1) <= 1e-6).all()
    for listed, seen in zip(top, batch.seen.items.split(batch.seen.offsets.diff().tolist()), strict=True):
        assert not set(listed.tolist()) & set(seen.tolist())


def test_supervised_at_the_end_a_row_is_a_prefix_read_after_the_closing(made, data) -> None:
    module = made(*MODEL, "model.supervise=last").eval()
    batch = training_batch(data, module)
    assert len(batch.targets) == len(batch)
    backbone = module.backbone
    with torch.no_grad():
        states = backbone.states(batch)
        assert torch.equal(states, backbone.user_states(batch))
        read = backbone._read(batch).split(batch.lengths)
        closing = backbone.language.vectors(backbone.closing)
        assert len(closing)
        rows = torch.cat([part for events in read for part in (events, closing)])
        lengths = [length + len(closing) for length in batch.lengths]
        hidden = plain_hidden(backbone.language, backbone.language.vectors(backbone.opening), rows, lengths)
    torch.testing.assert_close(states, hidden[torch.tensor(lengths).cumsum(0) - 1], rtol=1e-4, atol=1e-5)


def test_a_prefix_without_a_closing_is_read_at_its_last_event(made, data) -> None:
    module = made(*MODEL, "model.supervise=last", "model.prompt.closing=''").eval()
    batch = training_batch(data, module)
    with torch.no_grad():
        assert module.backbone.states(batch).shape[0] == len(batch.targets) == len(batch)


@pytest.mark.parametrize("supervise", ["all", "last"])
def test_asking_again_gives_the_same(made, data, supervise) -> None:
    module = made(*MODEL, f"model.supervise={supervise}", "llm.lora.dropout=0.5").train()
    for p in module.parameters():
        if p.requires_grad and p.dim() == 2:
            torch.nn.init.normal_(p, std=0.3)
    batch = training_batch(data, module)
    first, second = module.batch_losses(batch)[1], module.batch_losses(batch)[1]
    assert torch.equal(first, second)
    for other in (replace(batch, streams=batch.streams + 1), replace(batch, step_key=batch.step_key + 1)):
        assert (first - module.batch_losses(other)[1]).abs().max() > 1e-4


def test_item_vectors_are_the_first_stage_s_and_stay(made, data, first_stage) -> None:
    module = made(*MODEL)
    assert torch.equal(module.backbone.vectors, first_stage.items.weight)
    assert "backbone.vectors" in module.state_dict()
    assert not module.backbone.vectors.requires_grad


@pytest.mark.parametrize("loss", ["ce", "sce", "bce"])
def test_losses_of_the_group_work_on_it(made, data, loss) -> None:
    small = ("loss.k=5",) if loss == "sce" else ()
    module = made(*MODEL, f"loss={loss}", *small)
    totals, _, _ = module.batch_losses(training_batch(data, module))
    totals.sum().backward()
    assert bool(torch.isfinite(totals).all())


def test_what_means_nothing_is_one_line(made) -> None:
    with pytest.raises(UserError, match=r"model\.supervise"):
        made(*MODEL, "model.supervise=some")
    with pytest.raises(UserError, match="reads 16"):
        made(*MODEL, "+llm.weights.context=16")
    with pytest.raises(UserError, match=r"Only \{noun\} may stand in braces"):
        made(*MODEL, "model.prompt.opening='{product}'")
