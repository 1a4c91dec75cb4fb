"""What both engines on ONNX Runtime share: how a session is set up, fed and asked."""

from typing import Any

import numpy as np
import onnxruntime as ort

from gpuctl_serving.engines.protocol import DeviceLost, Rows, TokenBatch

_INT64 = "tensor(int64)"


def session_options(threads: int) -> Any:
    """Spinning is off: the cores are shared with tokenising, HTTP and neighbours."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


class OnnxSession:
    """A loaded graph, or none: then everything raises DeviceLost."""

    def __init__(self) -> None:
        self._session: Any = None
        self._inputs: dict[str, type[np.generic]] = {}

    def open(self, session: Any) -> None:
        """This graph answers from now on."""
        self._session = session
        self._inputs = {i.name: np.int64 if i.type == _INT64 else np.int32 for i in session.get_inputs()}

    def run(self, batch: TokenBatch, options: Any = None) -> Rows:
        """A row for each text, or its logit. Raises whatever the runtime raises."""
        arrays = {"input_ids": batch.ids, "attention_mask": batch.mask, "token_type_ids": batch.types}
        feeds = {name: arrays[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()}
        rows = np.asarray(self.opened.run(None, feeds, options)[0], dtype=np.float32)
        return rows[:, 0] if rows.ndim == 2 and rows.shape[1] == 1 else rows

    def providers(self) -> tuple[str, ...]:
        """What it runs on, in the runtime's names, the first one first."""
        return tuple(self.opened.get_providers())

    def close(self) -> None:
        """Gives its memory back."""
        self._session = None

    @property
    def opened(self) -> Any:
        """The runtime's own session."""
        if self._session is None:
            raise DeviceLost("the session is closed")
        return self._session
