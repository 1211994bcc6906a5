"""Options that several commands share, written once: one parameter of the command stands for all of them.

    @with_option_groups
    def train(options: Annotated[TrainingOptions, OptionGroup(training_options)]) -> None: ...

Typer sees the parameters of `training_options`; `train` receives what it returns for them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["OptionGroup", "with_option_groups"]


@dataclass(frozen=True)
class OptionGroup:
    """Put in a parameter's `Annotated`: the parameters of `build` are the options, its result the parameter's value."""

    build: Callable[..., Any]
    without: tuple[str, ...] = ()  # options that this command doesn't have; they keep their defaults

    def options(self) -> list[inspect.Parameter]:
        """The options as parameters, annotations evaluated."""
        parameters = inspect.signature(self.build, eval_str=True).parameters
        return [parameter for name, parameter in parameters.items() if name not in self.without]


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """The command with each group's options in the place of the parameter that stands for them."""
    groups: dict[str, OptionGroup] = {}
    flat: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        marks = getattr(parameter.annotation, "__metadata__", ())
        group = next((mark for mark in marks if isinstance(mark, OptionGroup)), None)
        if group is None:
            flat.append(parameter)
        else:
            groups[name] = group
            flat += group.options()

    @functools.wraps(command)
    def flattened(**values: Any) -> None:
        built = {
            name: group.build(**{option.name: values.pop(option.name) for option in group.options()})
            for name, group in groups.items()
        }
        command(**values, **built)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in flat]
    flattened.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    flattened.__annotations__ = {parameter.name: parameter.annotation for parameter in flat}
    return flattened
