"""The help names every command, choice and key, each key with its comment."""

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recsys_lt.__main__ import main
from recsys_lt.cli.command import COMMANDS
from recsys_lt.cli.help import help_text, read_comments
from recsys_lt.system.package import __version__


def test_names_all_commands_choices_and_keys():
    text = help_text([], COMMANDS)
    assert all(f"  {name}" in text and what in text for name, what in COMMANDS.items())
    assert "loss: bce, bpr, bsl, ce" in text
    assert "setting:" not in text
    assert "_base" not in text
    assert "_target_" not in text


def test_keys_are_those_of_the_choices():
    assert "rho: " not in help_text([], COMMANDS)
    lines = help_text(["optimizer=eisam", "optimizer.rho=0.2"], COMMANDS).splitlines()
    line = next(line for line in lines if line.strip().startswith("rho: "))
    assert line.split() == ["rho:", "0.2", "#", "radius"]


def test_choices_of_an_own_folder(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "mine.yaml").write_text("# Mine.\n_target_: mylab.Mine\nsharp: 2   # how sharp\n")
    text = help_text(["--config-dir", str(tmp_path), "loss=mine"], COMMANDS)
    assert "mine, napo, nce" in " ".join(text.split())
    assert "sharp: 2" in text
    assert "# how sharp" in text


def test_comments_stand_behind_or_above_a_key(tmp_path):
    file = tmp_path / "choice.yaml"
    file.write_text(
        '# About the choice.\na: "x # y"\n# of b,\n# in two lines\nb:\n  c: 1  # of c\n  d: {e: 1}  # of d\n'
        "f: {_target_: m.F, g: 1}  # of g\n"
    )
    assert read_comments(file) == {
        "b": "of b, in two lines",
        "b.c": "of c",
        "b.d": "of d",
        "f._target_": "of g",
        "f.g": "of g",
    }


def test_unknown_choices_are_refused():
    with pytest.raises((HydraException, OmegaConfBaseException)):
        help_text(["loss=cee"], COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--help", "Commands:"),
        ("-h", "Commands:"),
        ("resume --help", "usage: recsys_lt resume <run folder>"),
        ("--version", f"recsys_lt {__version__}"),
    ],
)
def test_command_line(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["recsys_lt", *arguments.split()])
    assert main() == 0
    assert said in capsys.readouterr().out
