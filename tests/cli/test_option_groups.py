"""One parameter of a command stands for a group of options."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from simplenet_edge.cli.option_groups import OptionGroup, with_option_groups
from simplenet_edge.cli.training_options import training_options
from simplenet_edge.training.options import TrainingOptions


@dataclass(frozen=True)
class Place:
    x: Annotated[int, typer.Option("--x", help="Right.")] = 0
    y: Annotated[int, typer.Option("--y", help="Down.")] = 0


received: list[object] = []


@with_option_groups
def full(
    name: Annotated[str, typer.Argument()], place: Annotated[Place, OptionGroup(Place)], loud: bool = False
) -> None:
    """Go somewhere."""
    received[:] = [name, place, loud]


@with_option_groups
def partial(*, loud: bool = False, place: Annotated[Place, OptionGroup(Place, without=("y",))]) -> None:
    received[:] = [loud, place]


def test_the_options_stand_where_their_parameter_stood() -> None:
    assert list(inspect.signature(full).parameters) == ["name", "x", "y", "loud"]
    assert list(inspect.signature(partial).parameters) == ["loud", "x"]
    assert (full.__name__, full.__doc__) == ("full", "Go somewhere.")


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        (full, ["here"], ["here", Place(), False]),
        (full, ["here", "--y", "3", "--loud", "--x", "2"], ["here", Place(2, 3), True]),
        (partial, ["--x", "5"], [False, Place(5)]),
    ],
)
def test_the_command_receives_what_the_group_makes(command: object, words: list[str], expected: list[object]) -> None:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert received == expected


def test_an_option_that_was_left_out_is_unknown() -> None:
    app = typer.Typer()
    app.command()(partial)
    assert CliRunner().invoke(app, ["--y", "1"]).exit_code == 2


def test_training_options_have_the_defaults_of_the_dataclass() -> None:
    assert training_options() == TrainingOptions()
    given = training_options(layers="layer1, layer2", size="64x96", budget="2m", rotate=5.0, augment=1)
    assert given == TrainingOptions(
        layers=("layer1", "layer2"), size_hw=(64, 96), budget_s=120.0, rotate_degrees=5.0, augment=1
    )
