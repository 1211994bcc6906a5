"""TensorBoard scalars with one running step, as the official code's `TBWrapper` keeps them."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter

from simplenet_edge.errors import DataError

__all__ = ["TensorBoardLogger"]


class TensorBoardLogger:
    """Writes scalars below `log_dir`; `global_step` is the x axis and is advanced by whoever trains.

    Raises DataError for a folder whose name is not UTF-8.
    """

    def __init__(self, log_dir: Path, global_step: int = 0) -> None:
        self.global_step = global_step
        # a resumed run drops what the interrupted one logged past its last checkpoint
        try:
            self._writer = SummaryWriter(str(log_dir), purge_step=global_step or None)
        except UnicodeEncodeError:
            raise DataError(
                f"{log_dir}: TensorBoard can't write below a name that is not UTF-8; name another folder"
            ) from None

    def scalars(self, **values: float) -> None:
        """Log each value under its name at the present step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, self.global_step)

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
