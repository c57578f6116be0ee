"""DPO, IPO and SimPO against the code of trl 1.16, which is no dependency: ``pip install trl`` runs these tests."""

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from recsys_lt.losses.preference import Answers, Preference

pytest.importorskip("trl", minversion="1.16")
from trl import DPOTrainer
from trl.experimental.cpo import CPOTrainer

BETA, ROWS = 0.3, 16
ALL = torch.ones(ROWS, 1, dtype=torch.bool)


def of_rows(loss: Preference, policy: torch.Tensor, reference: torch.Tensor | None = None) -> torch.Tensor:
    """Loss of ROWS pairs; ``policy`` and ``reference`` hold the chosen answers and then the rejected ones."""
    split = [None if x is None else Answers(x[:ROWS], x[ROWS:, None]) for x in (policy, reference)]
    return loss(split[0], ALL, split[1])


def by_dpo_trainer(kind: str, policy: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """trl's loss, from a model whose answers have one token with these log-probabilities."""
    two = (2 * ROWS, 2)
    outputs = SimpleNamespace(
        log_probs=policy.unsqueeze(1), entropy=torch.zeros(2 * ROWS, 1), mean_logits=torch.zeros(2 * ROWS, 1),
        is_top1=torch.zeros(2 * ROWS, 1, dtype=torch.bool),
    )  # fmt: skip
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False), aux_loss_enabled=False, ld_alpha=None, precompute_ref_logps=True,
        f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0], beta=BETA, use_weighting=False,
        accelerator=SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x),
        _metrics={"eval": defaultdict(list)}, _tp_size=1, _total_train_tokens=0,
    )  # fmt: skip
    mask = torch.tensor([0, 1]).expand(two)
    inputs = {
        "input_ids": torch.zeros(two, dtype=torch.long), "attention_mask": torch.ones(two), "completion_mask": mask,
        "ref_chosen_logps": reference[:ROWS], "ref_rejected_logps": reference[ROWS:],
    }  # fmt: skip
    found: torch.Tensor = DPOTrainer._compute_loss(trainer, lambda **_: outputs, inputs, False)
    return found


@pytest.fixture
def answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    policy, reference = (-5 * torch.rand(2 * ROWS, generator=generator, dtype=torch.float64) for _ in range(2))
    return policy.requires_grad_(), reference


@pytest.mark.parametrize(
    ("kind", "loss"), [("sigmoid", Preference(BETA)), ("ipo", Preference(BETA, squared=True))], ids=["dpo", "ipo"]
)
def test_loss_and_gradient_are_those_of_trl(kind, loss, answers):
    policy, reference = answers
    ours, theirs = of_rows(loss, policy, reference).mean(), by_dpo_trainer(kind, policy, reference)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    torch.testing.assert_close(*(torch.autograd.grad(x, policy)[0] for x in (ours, theirs)), rtol=0, atol=1e-9)


def test_simpo_is_that_of_trl(answers):
    policy, _ = answers
    trainer = SimpleNamespace(
        alpha=0.0, beta=BETA, simpo_gamma=0.5, loss_type="simpo", label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )  # fmt: skip
    theirs, *_ = CPOTrainer.cpo_loss(trainer, policy[:ROWS], policy[ROWS:])
    torch.testing.assert_close(of_rows(Preference(BETA, margin=0.5), policy), theirs, rtol=0, atol=1e-9)
