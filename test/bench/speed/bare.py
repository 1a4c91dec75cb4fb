"""The session and the tokenizer alone, as a script would use them: what every ratio is measured against."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer


class Bare:
    """Texts are sorted by length and run in batches, as sentence-transformers does; or as they come."""

    def __init__(
        self,
        model: Path,
        threads: int | None = None,
        batch: int = 32,
        *,
        sort: bool = True,
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(str(model / "model.onnx"), options, providers=providers)
        self._takes = {
            i.name: np.int64 if "int64" in i.type else np.int32 for i in self._session.get_inputs()
        }
        self._tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(256)
        self._batch, self._sort = batch, sort

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, in the order of the texts."""
        rows = self._all(self._tokenizer.encode_batch_fast(list(texts)))
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def score(self, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
        """A logit for each document."""
        return self._all(self._tokenizer.encode_batch_fast([(query, text) for text in documents])).reshape(-1)

    def _all(self, encoded: Sequence[object]) -> NDArray[np.float32]:
        order = list(range(len(encoded)))
        if self._sort:
            order.sort(key=lambda at: -len(encoded[at].ids))  # type: ignore[attr-defined]
        answers: list[NDArray[np.float32] | None] = [None] * len(encoded)
        for first in range(0, len(order), self._batch):
            places = order[first : first + self._batch]
            for place, row in zip(places, self._run([encoded[at] for at in places]), strict=True):
                answers[place] = row
        return np.stack([answer for answer in answers if answer is not None])

    def _run(self, encoded: Sequence[object]) -> NDArray[np.float32]:
        width = max(len(one.ids) for one in encoded)  # type: ignore[attr-defined]
        feeds = {name: np.zeros((len(encoded), width), kind) for name, kind in self._takes.items()}
        for at, one in enumerate(encoded):
            count = len(one.ids)  # type: ignore[attr-defined]
            values = {
                "input_ids": one.ids,
                "attention_mask": 1,
                "token_type_ids": one.type_ids,
            }  # type: ignore[attr-defined]
            for name in feeds:
                feeds[name][at, :count] = values[name]
        rows: NDArray[np.float32] = self._session.run(None, feeds)[0]
        return rows


def cpu_seconds_of(work: object) -> float:
    """What this process uses for a call."""
    started = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - started
