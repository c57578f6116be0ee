"""Classes of somebody else's: what their parameters' annotations take, and what they refuse."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from recsys_lt import CONF
from recsys_lt.errors import UserError
from recsys_lt.training.build import build
from tests.end_to_end.conftest import Cli, environment, here

__all__ = ["environment", "here"]  # fixtures

MODULE = """
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from recsys_lt.losses.ce import CE
from recsys_lt.optim.schedules import Schedule


class Plain(CE):
    def __init__(self, gamma=2.0):
        self.value = gamma


class Sized(Protocol):
    size: int


class ByProtocol(CE):
    def __init__(self, gamma: Sized | None = None):
        self.value = gamma


class NotIn(CE):
    def __init__(self, gamma: "OfACheckerAlone" = 2.0):
        self.value = gamma

"""
#: Annotation and default -> a value that fits, as it is typed and as it arrives; one that does not.
KINDS = {
    "Any = 1": ("abc", "abc", None),
    "object = 1": ("[1,a]", [1, "a"], None),
    "float = 1.0": ("2", 2, "abc"),
    "float = None": ("null", None, "abc"),
    "int | None = None": ("3", 3, "3.5"),
    "list = ()": ("[1,a]", [1, "a"], "5"),
    "tuple = ()": ("[1,a]", [1, "a"], "{a:1}"),
    "list[int] = ()": ("[1,2]", [1, 2], "[1,a]"),
    "Sequence[float] = ()": ("[1,2.5]", [1, 2.5], "[a]"),
    "tuple[int, ...] = ()": ("[1,2,3]", [1, 2, 3], "[1,a]"),
    "tuple[int, str] = (1, 'a')": ("[2,b]", [2, "b"], "[2]"),
    "set[str] = frozenset()": ("[a]", ["a"], "[1]"),
    "dict = {}": ("{a:1}", {"a": 1}, "[1]"),
    "Mapping[str, int] = {}": ("{a:1}", {"a": 1}, "{a:b}"),
    "dict[str, Any] = {}": ("{a:b}", {"a": "b"}, "5"),
    "Path = Path('.')": ("some/where", "some/where", "5"),
    "Path | None = None": ("null", None, "[a]"),
    "Literal['a', 'b'] = 'a'": ("b", "b", "c"),
    "Callable[[int], int] | None = None": ("null", None, "5"),
    "Schedule | None = None": ("null", None, "5"),
    "Callable[..., Schedule] | None = None": ("null", None, None),
}


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with a class a kind, K0 to the last."""
    made = "".join(
        f"class K{number}(CE):\n    def __init__(self, value: {kind}):\n        self.value = value\n\n"
        for number, kind in enumerate(KINDS)
    )
    (tmp_path / "outside_losses.py").write_text(MODULE + made)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "outside_losses", raising=False)


def loss(name: str, *overrides: str) -> object:
    """The loss of that name, built."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"loss._target_=outside_losses.{name}", *overrides])
    return build(config).loss


@pytest.mark.parametrize("kind", KINDS)
def test_a_parameter_of_each_kind(kind: str) -> None:
    name = f"K{list(KINDS).index(kind)}"
    typed, arrives, wrong = KINDS[kind]
    loss(name)  # its default
    assert vars(loss(name, f"+loss.value={typed}"))["value"] == arrives
    if wrong is not None:
        with pytest.raises(UserError, match=r"loss\.value[:.].*It should be"):
            loss(name, f"+loss.value={wrong}")


@pytest.mark.parametrize("name", ["Plain", "NotIn", "ByProtocol"])
@pytest.mark.parametrize("typed", ["3.5", "abc", "[1]", "{a:1}", "null"])
def test_a_parameter_without_an_annotation_that_can_be_read(name: str, typed: str) -> None:
    loss(name)
    loss(name, f"+loss.gamma={typed}")


def test_a_node_in_any_place_is_looked_at() -> None:
    node = "{_target_:recsys_lt.optim.schedules.NoSuch}"
    for kind, value, where in (
        ("Any = 1", node, "loss.value._target_"),
        ("list = ()", f"[{node}]", "loss.value._target_"),
        ("dict[str, Any] = {}", f"{{a:{node}}}", "loss.value.a._target_"),
    ):
        with pytest.raises(UserError, match=f"{where}: .*has no class NoSuch"):
            loss(f"K{list(KINDS).index(kind)}", f"+loss.value={value}")


def test_a_node_where_a_class_is_declared() -> None:
    name = f"K{list(KINDS).index('Schedule | None = None')}"
    good = loss(name, "+loss.value={_target_:recsys_lt.optim.schedules.Constant}")
    assert type(vars(good)["value"]).__name__ == "Constant"
    with pytest.raises(UserError, match="is no Schedule"):
        loss(name, "+loss.value={_target_:recsys_lt.losses.ce.CE}")


def test_a_node_where_a_callable_that_makes_a_class_is_declared() -> None:
    name = f"K{list(KINDS).index('Callable[..., Schedule] | None = None')}"
    good = loss(name, "+loss.value={_target_:recsys_lt.optim.schedules.Constant,_partial_:true}")
    assert type(vars(good)["value"]()).__name__ == "Constant"
    with pytest.raises(UserError, match="is no Schedule"):
        loss(name, "+loss.value={_target_:recsys_lt.losses.ce.CE,_partial_:true}")
    with pytest.raises(UserError, match=r"_partial_: .*Give true"):
        loss(name, "+loss.value={_target_:recsys_lt.optim.schedules.Constant}")


def test_a_class_of_ones_own_through_the_command(here: Cli, tmp_path: Path) -> None:
    small = ("dataset=synthetic", "dataset.source.n_users=60", "dataset.source.n_items=40", "trainer.max_epochs=1",
             "model.width=8", "model.blocks=1", "logger=none")  # fmt: skip
    done = here(*small, "loss._target_=outside_losses.Plain", "+loss.gamma=3", "hydra.run.dir=own", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "own" / "metrics.json").is_file()
