"""The padded form of each backbone, which is exported, against its packed form."""

from dataclasses import replace

import pytest
import torch

from recsys_lt.backbones.bert4rec import BERT4Rec
from recsys_lt.backbones.bsarec import BSARec
from recsys_lt.backbones.caser import Caser
from recsys_lt.backbones.cotten4rec import Cotten4Rec
from recsys_lt.backbones.fmlp_rec import FMLPRec
from recsys_lt.backbones.gru4rec import GRU4Rec
from recsys_lt.backbones.hstu import HSTU
from recsys_lt.backbones.linrec import CausalLinRec, LinRec
from recsys_lt.backbones.lrurec import LRURec
from recsys_lt.backbones.pop import Pop
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.errors import UserError

MODELS = {
    "sasrec": lambda facts: SASRec(facts, width=8, blocks=2, heads=2, max_length=7, dropout=0.3),
    "sasrec without blocks": lambda facts: SASRec(facts, width=8, blocks=0, heads=1, max_length=7, dropout=0.3),
    "esasrec": lambda facts: SASRec(facts, width=8, blocks=2, heads=2, max_length=7, dropout=0.3, gated=True),
    "gsasrec": lambda facts: SASRec(facts, width=8, blocks=2, heads=2, max_length=7, dropout=0.3, tied=False),
    "bert4rec": lambda facts: BERT4Rec(facts, width=8, blocks=2, heads=2, max_length=8),
    "cotten4rec": lambda facts: Cotten4Rec(facts, width=8, blocks=2, heads=2, max_length=8),
    "linrec": lambda facts: LinRec(facts, width=8, blocks=2, heads=2, max_length=8),
    "causal_linrec": lambda facts: CausalLinRec(facts, width=8, blocks=2, heads=2, max_length=7, dropout=0.3),
    "hstu": lambda facts: HSTU(facts, width=8, blocks=2, heads=3, head_width=2, max_length=7),
    "bsarec": lambda facts: BSARec(facts, width=8, heads=2, max_length=7),
    "fmlp_rec": lambda facts: FMLPRec(facts, width=8, blocks=2, max_length=7),
    "gru4rec": lambda facts: GRU4Rec(facts, width=8, layers=2, max_length=7),
    "lrurec": lambda facts: LRURec(facts, width=8, blocks=2, max_length=7),
    "pop": Pop,
}


@pytest.mark.parametrize("name", MODELS)
def test_padded_states_are_those_of_the_packed_form(facts, make_batch, histories, float64, name):
    torch.manual_seed(0)
    model = MODELS[name](facts).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias"):  # they begin at zero, where mistakes with pads would not show
            torch.nn.init.normal_(parameter)
    length = model.max_length
    rows = histories(9, length)
    items, real = torch.zeros(len(rows), length, dtype=torch.int64), torch.zeros(len(rows), length, dtype=torch.bool)
    for b, row in enumerate(rows):
        items[b, length - len(row) :] = torch.tensor(row)
        real[b, length - len(row) :] = True
    with torch.inference_mode():
        torch.testing.assert_close(model.padded_states(items, real), model.user_states(make_batch(rows)))


@pytest.mark.parametrize(
    "name", ["sasrec", "esasrec", "gsasrec", "bert4rec", "cotten4rec", "linrec", "causal_linrec", "hstu"]
)
def test_a_process_without_a_part_of_a_batch_has_gradients_of_zero(facts, make_batch, name):
    model = MODELS[name](facts).train()
    states = model.states(replace(make_batch([]), target_events=torch.zeros(0, dtype=torch.int64)))
    assert states.shape == (0, 8)
    (states.sum() + model.output_table().weight.sum() * 0).backward()
    assert [parameter for parameter, p in model.named_parameters() if p.grad is None or p.grad.any()] == []


def test_a_backbone_without_a_padded_form_says_so(facts):
    with pytest.raises(UserError, match="Caser has no padded form"):
        Caser(facts).padded_states(torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.bool))
