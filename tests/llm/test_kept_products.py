"""Memory does not grow with every length of a pack that comes along."""

import os
import subprocess
import sys

import pytest
import torch

# Two hundred lengths, then the first of them again: is it still kept?
_LENGTHS = """
import recsys_lt.llm, torch
weight = torch.ones(64, 64, dtype=torch.bfloat16)
for n in [*range(100, 300), 100]:
    torch.nn.functional.linear(torch.ones(n, 64, dtype=torch.bfloat16), weight)
"""


def _made(more: dict[str, str]) -> int:
    """Products prepared anew, as oneDNN tells."""
    environment = {name: value for name, value in os.environ.items() if "_CACHE_CAPACITY" not in name}
    told = subprocess.run(
        [sys.executable, "-c", _LENGTHS],
        env=environment | {"ONEDNN_VERBOSE": "profile_create"} | more,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.count("create:cache_miss")


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor multiplies bfloat16 without oneDNN"
)
def test_products_of_old_lengths_are_let_go_of_and_the_user_may_keep_more() -> None:
    assert _made({}) == 201
    assert _made({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}) == 200
