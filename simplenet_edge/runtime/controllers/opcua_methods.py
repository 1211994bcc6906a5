"""The methods of OPC 40100-1 that a client calls. Each ends with an output argument `Error`, 0 where all went well.

A call that the state doesn't allow has the status BadInvalidState, one with arguments that can't be used
BadInvalidArgument: neither changes anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asyncua import ua

from simplenet_edge.errors import DataError
from simplenet_edge.runtime.controllers.opcua_results import Results, as_variant
from simplenet_edge.runtime.controllers.vision_system import Refused, VisionSystem
from simplenet_edge.runtime.records import Part

__all__ = ["Methods"]

_MACHINE = "VisionStateMachine"
_AUTOMATIC = f"{_MACHINE}/AutomaticModeStateMachine"
_RESULTS = "ResultManagement"

Call = Callable[..., list[ua.Variant]]
Method = Callable[..., Awaitable[list[ua.Variant] | ua.StatusCode]]


class Methods:
    """Binds the methods to what they act on; `publish` writes the news before the client has its answer."""

    def __init__(self, system: VisionSystem, results: Results, publish: Callable[[], Awaitable[None]]) -> None:
        self._system = system
        self._results = results
        self._publish = publish

    def table(self) -> dict[str, Method]:
        """The methods by their path below the vision system."""
        cause = (int, str)
        job = (
            ua.MeasIdDataType,
            ua.PartIdDataType,
            ua.RecipeIdExternalDataType,
            ua.ProductIdDataType,
            list,
        )
        ids = (
            ua.MeasIdDataType,
            ua.PartIdDataType,
            ua.RecipeIdExternalDataType,
            ua.RecipeIdInternalDataType,
            ua.ConfigurationIdDataType,
            ua.ConfigurationIdDataType,
            ua.ProductIdDataType,
            ua.JobIdDataType,
        )
        by_id = (ua.ResultIdDataType, int)
        return {
            f"{_MACHINE}/SelectModeAutomatic": self._method(self._select_automatic),
            f"{_MACHINE}/Reset": self._method(self._reset, *cause),
            f"{_MACHINE}/Halt": self._method(self._halt, *cause),
            f"{_AUTOMATIC}/StartSingleJob": self._method(self._start, *job),
            f"{_AUTOMATIC}/StartContinuous": self._method(self._start_continuous, *job),
            f"{_AUTOMATIC}/Abort": self._method(self._abort, *cause),
            f"{_AUTOMATIC}/Stop": self._method(self._abort, *cause),
            f"{_RESULTS}/GetResultById": self._method(self._results.by_id, *by_id),
            f"{_RESULTS}/GetResultComponentsById": self._method(self._results.components_by_id, *by_id),
            f"{_RESULTS}/GetResultListFiltered": self._method(self._results.filtered, int, *ids, int, int, int),
        }

    def _method(self, call: Call, *kinds: Any) -> Method:
        async def method(parent: ua.NodeId, *arguments: ua.Variant) -> list[ua.Variant] | ua.StatusCode:
            if len(arguments) != len(kinds):
                few = len(arguments) < len(kinds)
                codes = ua.StatusCodes
                return ua.StatusCode(codes.BadArgumentsMissing if few else codes.BadTooManyArguments)
            values = [
                kind() if argument.Value is None else argument.Value
                for kind, argument in zip(kinds, arguments, strict=True)
            ]
            if not all(isinstance(value, kind) for kind, value in zip(kinds, values, strict=True)):
                return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
            try:
                outputs = call(*values)
            except Refused:
                return ua.StatusCode(ua.StatusCodes.BadInvalidState)
            except DataError:
                return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
            except NotImplementedError:
                return ua.StatusCode(ua.StatusCodes.BadNotSupported)
            await self._publish()
            return outputs

        return method

    def _select_automatic(self) -> list[ua.Variant]:
        self._system.select_automatic()
        return [as_variant(0)]

    def _reset(self, cause: int, description: str) -> list[ua.Variant]:
        self._system.leave("Preoperational", _why("reset", cause, description))
        return [as_variant(0)]

    def _halt(self, cause: int, description: str) -> list[ua.Variant]:
        self._system.leave("Halted", _why("halted", cause, description))
        return [as_variant(0)]

    def _start(self, meas: Any, part: Any, recipe: Any, product: Any, parameters: list[Any]) -> list[ua.Variant]:
        names = [meas.Id or "", part.Id or "", recipe.Id or "", product.Id or ""]
        for name in names:
            Part(id=name or None)  # printable and at most 128 characters, or a DataError
        meas_id, part_id, recipe_id, product_id = names
        job = self._system.start(part_id, recipe_id, product_id, meas_id)
        return [as_variant(ua.JobIdDataType(Id=job.id)), as_variant(0)]

    def _start_continuous(self, *job: Any) -> list[ua.Variant]:
        raise NotImplementedError  # every part needs its own trigger here

    def _abort(self, cause: int, description: str) -> list[ua.Variant]:
        self._system.cancel(_why("aborted", cause, description))
        return [as_variant(0)]


def _why(what: str, cause: int, description: str) -> str:
    return f"{what} by the controller" + (f": {description} ({cause})" if description or cause else "")
