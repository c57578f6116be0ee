"""Small trained runs."""

import contextlib
import io

import pytest

import recsys_lt
from tests.end_to_end.conftest import dots_for_pictures

SMALL = ("trainer.max_epochs=2", "trainer.batch_rows=64", "logger=none", "strategy=cpu")
SIZES = ("dataset=synthetic", "dataset.source.n_users=80", "dataset.source.n_items=60")


@pytest.fixture(scope="session")
def train():
    def run(folder, *choices):
        cache = f"dataset.cache_dir={folder.parent / 'cache'}"
        with (
            contextlib.chdir(folder.parent),
            contextlib.redirect_stdout(io.StringIO()),  # a test reads what its command prints
            dots_for_pictures(),
        ):
            return recsys_lt.train(*choices, *SMALL, cache, folder=folder).folder

    return run


@pytest.fixture(scope="session")
def titled(tmp_path_factory, train):
    """A run on data with titles."""
    return train(tmp_path_factory.mktemp("titled") / "run", *SIZES, "model.width=8")


@pytest.fixture
def command(capsys):
    """Run a module of ``recsys_lt.cli`` in this process: exit code, output, errors."""

    def run(module, *arguments):
        code = module.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


@pytest.fixture
def refused(command):
    """The one line with which a command refuses."""

    def run(module, *arguments):
        code, out, err = command(module, *arguments)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        return err

    return run
