"""Results as OPC 40100-1 has them (`ResultDataType`), and those of the last jobs.

The types of the specification are in `asyncua.ua` once the NodeSet has been loaded.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timezone
from typing import Any

from asyncua import ua

from simplenet_edge.runtime.controllers.vision_system import Job, JobEnded, ResultState

__all__ = ["NOT_FOUND", "RECENT", "RESULT_FIELDS", "Results", "as_variant", "result_of"]

RECENT = 100
"""Results that can be fetched by their ids; the oldest goes first."""

NOT_FOUND = -1
"""The output `Error` of a method that finds no such result. Below 0: ours, not the specification's."""

RESULT_FIELDS = (
    "ResultId",
    "HasTransferableDataOnFile",
    "IsPartial",
    "IsSimulated",
    "ResultState",
    "MeasId",
    "PartId",
    "ExternalRecipeId",
    "InternalRecipeId",
    "ProductId",
    "ExternalConfigurationId",
    "InternalConfigurationId",
    "JobId",
    "CreationTime",
    "ProcessingTimes",
    "ResultContent",
)
"""The fields of `ResultDataType` and of `ResultType`, in their order."""


def as_variant(value: Any) -> ua.Variant:
    """A value as a variable, an event or an output argument carries it; a list is one of variants."""
    kinds = {
        bool: ua.VariantType.Boolean,
        int: ua.VariantType.Int32,
        str: ua.VariantType.String,
        datetime: ua.VariantType.DateTime,
        list: ua.VariantType.Variant,
        ua.LocalizedText: ua.VariantType.LocalizedText,
        ua.NodeId: ua.VariantType.NodeId,
    }
    return ua.Variant(value, kinds.get(type(value), ua.VariantType.ExtensionObject))


def result_of(notice: Job | JobEnded | None) -> Any:
    """The `ResultDataType` of a job that ended, of one that runs (PROCESSING, INVALID), or of none (UNDEFINED)."""
    ended = notice if isinstance(notice, JobEnded) else None
    job = notice.job if isinstance(notice, JobEnded) else notice or Job("", datetime.fromtimestamp(0, timezone.utc))
    state = ended.state if ended else ResultState.PROCESSING if notice else ResultState.UNDEFINED
    end = ended.ended if ended else job.started
    score = math.nan if ended is None or ended.score is None else ended.score
    return ua.ResultDataType(
        ResultId=ua.ResultIdDataType(Id=job.id),
        HasTransferableDataOnFile=False,
        IsPartial=False,
        IsSimulated=False,
        ResultState=int(state),
        MeasId=ua.MeasIdDataType(Id=job.meas_id),
        PartId=ua.PartIdDataType(Id=job.part_id),
        ExternalRecipeId=ua.RecipeIdExternalDataType(Id=job.recipe),
        InternalRecipeId=ua.RecipeIdInternalDataType(Id=job.recipe),
        ProductId=ua.ProductIdDataType(Id=job.product_id),
        ExternalConfigurationId=ua.ConfigurationIdDataType(Id=""),
        InternalConfigurationId=ua.ConfigurationIdDataType(Id=""),
        JobId=ua.JobIdDataType(Id=job.id),
        CreationTime=end,
        ProcessingTimes=ua.ProcessingTimesDataType(StartTime=job.started, EndTime=end),
        ResultContent=[
            ua.Variant(ended.verdict if ended else "INVALID", ua.VariantType.String),
            ua.Variant(score, ua.VariantType.Double),
            ua.Variant(ended.reason if ended else "", ua.VariantType.String),
        ],
    )


class Results:
    """Those of the last jobs, and the methods of `ResultManagementType` that read them; for the server's thread."""

    def __init__(self) -> None:
        self._recent: deque[Any] = deque(maxlen=RECENT)

    def add(self, result: Any) -> None:
        """Keep a finished one."""
        self._recent.append(result)

    def _find(self, wanted: Any) -> tuple[Any, int]:
        found = next((result for result in self._recent if result.ResultId.Id == wanted.Id), None)
        return (result_of(None), NOT_FOUND) if found is None else (found, 0)

    def by_id(self, result_id: Any, timeout: int) -> list[ua.Variant]:
        """GetResultById: handle, result, error."""
        result, error = self._find(result_id)
        return [_handle(), as_variant(result), as_variant(error)]

    def components_by_id(self, result_id: Any, timeout: int) -> list[ua.Variant]:
        """GetResultComponentsById: the same, each field for itself."""
        result, error = self._find(result_id)
        flag, *fields = [as_variant(getattr(result, name)) for name in RESULT_FIELDS[1:]]
        return [flag, _handle(), *fields, as_variant(error)]

    def filtered(
        self,
        state: int,
        meas_id: Any,
        part_id: Any,
        external_recipe: Any,
        internal_recipe: Any,
        external_configuration: Any,
        internal_configuration: Any,
        product_id: Any,
        job_id: Any,
        most: int,
        start: int,
        timeout: int,
    ) -> list[ua.Variant]:
        """GetResultListFiltered, newest first. An empty id and the state 0 match every result; `most` 0 is no limit."""
        wanted = {
            "MeasId": meas_id,
            "PartId": part_id,
            "ExternalRecipeId": external_recipe,
            "InternalRecipeId": internal_recipe,
            "ExternalConfigurationId": external_configuration,
            "InternalConfigurationId": internal_configuration,
            "ProductId": product_id,
            "JobId": job_id,
        }
        matching = [
            result
            for result in reversed(self._recent)
            if state in (0, result.ResultState)
            and all(getattr(result, name).Id == value.Id for name, value in wanted.items() if value.Id)
        ][start:]
        given = matching[: most or None]
        return [
            as_variant(len(given) == len(matching)),
            ua.Variant(len(given), ua.VariantType.UInt32),
            _handle(),
            ua.Variant(given, ua.VariantType.ExtensionObject, is_array=True),
            as_variant(0),
        ]


def _handle() -> ua.Variant:
    """None is given out: results need not be released."""
    return ua.Variant(0, ua.VariantType.UInt32)
