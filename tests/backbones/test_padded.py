"""The padded form of each backbone, which is exported, against its packed form."""

import pytest
import torch

from recsys_lt.backbones.bert4rec import BERT4Rec
from recsys_lt.backbones.bsarec import BSARec
from recsys_lt.backbones.caser import Caser
from recsys_lt.backbones.fmlp_rec import FMLPRec
from recsys_lt.backbones.gru4rec import GRU4Rec
from recsys_lt.backbones.lrurec import LRURec
from recsys_lt.backbones.pop import Pop
from recsys_lt.backbones.sasrec import SASRec
from recsys_lt.errors import UserError

MODELS = {
    "sasrec": lambda facts: SASRec(facts, width=8, blocks=2, heads=2, max_length=7, dropout=0.3),
    "sasrec without blocks": lambda facts: SASRec(facts, width=8, blocks=0, heads=1, max_length=7, dropout=0.3),
    "bert4rec": lambda facts: BERT4Rec(facts, width=8, blocks=2, heads=2, max_length=8),
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
    length = model.max_length
    rows = histories(9, length)
    items, real = torch.zeros(len(rows), length, dtype=torch.int64), torch.zeros(len(rows), length, dtype=torch.bool)
    for b, row in enumerate(rows):
        items[b, length - len(row) :] = torch.tensor(row)
        real[b, length - len(row) :] = True
    with torch.inference_mode():
        torch.testing.assert_close(model.padded_states(items, real), model.user_states(make_batch(rows)))


def test_a_backbone_without_a_padded_form_says_so(facts):
    with pytest.raises(UserError, match="Caser has no padded form"):
        Caser(facts).padded_states(torch.zeros(1, 5, dtype=torch.int64), torch.ones(1, 5, dtype=torch.bool))
