import pytest

from recsys_lt.cli import report
from recsys_lt.results.report import parts
from recsys_lt.results.report.examples import Example, Examples, Listed
from tests.cli.conftest import train as train  # its fixture
from tests.results.report.runs import fail, make_run, written


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
    assert written(sweep, path) == path
    return path


@pytest.fixture(scope="session")
def with_users(sweep, tmp_path_factory):
    """The report with three users a dataset, two lists each; titles as long as shops have them."""
    long = "Professional Salon Quality Moisturizing Argan Oil Shampoo and Conditioner Set, 2 x 16 oz, Sulfate Free"

    def made(members, compared, users, open_run):
        def example(number):
            titles = [f"Item {place} of user {number}" for place in range(1, 11)]
            titles[1], titles[2] = long, "Unbroken" * 12
            listed = tuple(
                Listed(member, "0", rank, tuple((t, "head", place == rank) for place, t in enumerate(titles, 1)))
                for member, rank in zip(members[:2], (3, 47), strict=False)
            )
            recent = ("First of the six", long, "Third", "Fourth", "Fifth", "Latest of the six")
            return Example(f"A{number:013}", 40, recent, f"Target of user {number}", "tail", 7, listed)

        return Examples(tuple(example(number) for number in range(3)), 500, ())

    path = tmp_path_factory.mktemp("users") / "report.html"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "examples", made)
        return written(sweep, path)
