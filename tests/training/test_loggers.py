"""When a run goes online by itself."""

from pathlib import Path

import pytest

from recsys_lt.training.loggers import has_key


def test_a_key_of_the_server_in_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    assert not has_key()
    for host in ("api.wandb.ai", "api.forge.coreweave.com"):  # before wandb 0.31, and since
        netrc.write_text(f"machine {host}\n  login user\n  password {'0' * 40}\n")
        assert has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org/")
    assert not has_key()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert has_key()
