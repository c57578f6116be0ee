import pytest

from recsys_lt import report
from tests.reporting.runs import fail, make_run


@pytest.fixture
def call(capsys):
    def run(*arguments):
        code = report.main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return run


@pytest.fixture(scope="session")
def sweep(tmp_path_factory):
    """Two datasets: a cell of two seeds, a worse one, one without tenths, and a failed one; a cell on its own."""
    root = tmp_path_factory.mktemp("reports") / "my sweep"
    make_run(root / "0", 0.050, seed=0)
    make_run(root / "1", 0.054, seed=1)
    make_run(root / "2", 0.040, loss="sce", raw=0.5)
    make_run(root / "3", 0.045, loss="bce", deciles=False, curve=False)
    fail(root / "4")
    make_run(root / "5", 0.10, dataset="ml-100k", config=False)
    return root


@pytest.fixture(scope="session")
def html(sweep, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report.write_report(sweep, path) == path
    return path
