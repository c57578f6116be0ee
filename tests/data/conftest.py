from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recsys_lt.data.dataset import Dataset
from recsys_lt.data.sequences import Sequences
from recsys_lt.data.sources.file import File


@pytest.fixture(autouse=True)
def no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECSYS_LT_RAW", raising=False)


@pytest.fixture
def load_file(tmp_path: Path) -> Callable[..., Sequences]:
    """Load a file with the given content as ``dataset=file`` would, without a k-core unless asked."""

    def load(content: str | bytes, name: str = "mine.csv", **settings: Any) -> Sequences:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        settings = {"k_core": 1, "duplicates": "error", **settings}
        dataset = Dataset(File(), path=str(path), cache_dir=str(tmp_path / "cache"), **settings)
        return dataset.load(announce=lambda line: None)

    return load
