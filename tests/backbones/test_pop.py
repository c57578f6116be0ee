import torch

from recsys_lt.backbones.pop import Pop


def test_scores_are_training_counts(facts, make_batch):
    model = Pop(facts)
    batch = make_batch([[1, 2], [3], []])
    weight, bias, *_ = model.output_table()
    assert bias is None
    scores = model.user_states(batch) @ weight.T
    assert torch.equal(scores, facts.popularity.float().expand(3, -1))
    assert torch.equal(model.states(batch), model.user_states(batch))


def test_nothing_is_trained_but_the_counts_are_saved(facts):
    model = Pop(facts)
    assert not model.trainable
    assert not list(model.parameters())
    assert set(model.state_dict()) == {"counts"}
