"""Probes: inputs whose right answers are known, recorded at fetch, asked again when proof is wanted."""

import json
from dataclasses import dataclass
from importlib import resources

import numpy as np

from gpuctl_serving.engines.protocol import Engine, Rows, TokenBatch
from gpuctl_serving.models.errors import ModelProblem
from gpuctl_serving.models.manifest import Kind, Probe, Probes
from gpuctl_serving.models.tokenizer import ModelTokenizer

#: Least cosine between a vector and its reference that is still called right.
LEAST_SIMILARITY = 0.9999
#: Largest difference of a logit that is still called right, by what the engine computes in. float16 keeps
#: three digits of every sum: a logit of 10 is right to a few hundredths, and its score to less than 0.01.
MOST_LOGIT_ERROR = {"float32": 1e-3, "float16": 3e-2}
#: Decimals of a recorded answer. More would tell of this CPU, not of the model.
DIGITS = 6

#: Fixed inputs for models without a reference: short and long, several scripts, numbers, nothing.
TEXTS = (
    "What is the capital of France?",
    "Paris is the capital and most populous city of France.",
    "GPU inference reduces the latency of a reranker from seconds to milliseconds.",
    "Rollback restores the previous release when a health check fails.",
    "Der Server startet nach dem Treiberwechsel nicht mehr.",
    "Le chat dort sur le canapé pendant que la pluie tombe.",
    "东京是日本的首都。",
    "🚀 deploy → 🔁 rollback ✅",
    "a",
    "",
    "   leading and trailing spaces   ",
    "UPPER CASE TEXT",
    "e-mail: ops@example.org, URL: https://example.org/a?b=c&d=%20",
    "12345 67890 3.14159 -42 1e-9",
    "tabs\tand\nnewlines\r\nare white space",
    "one long text of many words " * 40,
)
_QUERY = "How do I roll a release back?"


@dataclass(frozen=True)
class Verdict:
    """What asking a probe again gave."""

    ok: bool
    #: Cosine to the recorded vector; for a pair 1 - the logit's error, so that higher is better for both.
    similarity: float
    detail: str


def record(engine: Engine, tokenizer: ModelTokenizer, pad_id: int, kind: Kind) -> Probes:
    """Runs the fixed inputs through a loaded FP32 engine, one by one, and keeps its answers."""
    items = [_ask(engine, tokenizer, pad_id, kind, text) for text in TEXTS]
    return Probes(kind, "self-recorded", tuple(items))


def _ask(engine: Engine, tokenizer: ModelTokenizer, pad_id: int, kind: Kind, text: str) -> Probe:
    if kind == "cross-encoder":
        rows = engine.infer(TokenBatch.of(tokenizer.pairs(_QUERY, [text]), pad_id))
        return Probe(query=_QUERY, document=text, logit=round(float(_finite(rows)[0]), DIGITS))
    tokens = tokenizer.texts([text])
    vector = unit(_finite(engine.infer(TokenBatch.of(tokens, pad_id))))[0]
    return Probe(text=text, tokens=len(tokens[0]), vector=tuple(round(float(v), DIGITS) for v in vector))


def reference_for(weights_sha256: str) -> Probes | None:
    """Independently computed probes that ship with this package, if they are of exactly these weights."""
    for file in resources.files("gpuctl_serving.models").joinpath("reference").iterdir():
        if not file.name.endswith(".json"):
            continue
        reference = json.loads(file.read_text(encoding="utf-8"))
        if reference["weights"] == weights_sha256:
            items = (Probe(i["text"], i["tokens"], tuple(i["vector"])) for i in reference["items"])
            return Probes("embedder", "reference", tuple(items))
    return None


def tokens_of(probe: Probe, tokenizer: ModelTokenizer) -> TokenBatch:
    """The probe as a batch of one."""
    if probe.text is not None:
        return TokenBatch.of(tokenizer.texts([probe.text]), 0)
    return TokenBatch.of(tokenizer.pairs(probe.query or "", [probe.document or ""]), 0)


def judge(probe: Probe, answer: Rows, dtype: str = "float32") -> Verdict:
    """Compares the answer (one row) of an engine that computes in `dtype` with the recorded one."""
    if not np.isfinite(answer).all():
        return Verdict(False, 0.0, "the answer holds values that are not finite numbers (NaN or infinity)")
    if probe.vector is None:
        return _judge_logit(probe, answer, MOST_LOGIT_ERROR.get(dtype, MOST_LOGIT_ERROR["float32"]))
    wanted = np.asarray(probe.vector, np.float32)
    if answer.ndim != 2 or answer.shape[1] != len(wanted):
        got = answer.shape[-1] if answer.ndim == 2 else 1
        return Verdict(False, 0.0, f"the answer has dimension {got}, the model has {len(wanted)}")
    similarity = float(unit(answer)[0] @ unit(wanted[None])[0])
    return Verdict(
        similarity >= LEAST_SIMILARITY,
        similarity,
        f"cosine {similarity:.7f} to the recorded vector of {probe.text!r}; {LEAST_SIMILARITY} is needed",
    )


def _judge_logit(probe: Probe, answer: Rows, most: float) -> Verdict:
    if answer.ndim != 1 or probe.logit is None:
        return Verdict(False, 0.0, f"the answer has dimension {answer.shape[-1]}, a score has 1")
    error = abs(float(answer[0]) - probe.logit)
    detail = f"the logit differs by {error:.2e} from the recorded one, at most {most} is right"
    return Verdict(error <= most, 1.0 - error, detail)


def unit(rows: Rows) -> Rows:
    """Rows scaled to length one; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Rows = rows / np.maximum(norms, np.float32(1e-12))
    return scaled


def _finite(rows: Rows) -> Rows:
    if not np.isfinite(rows).all():
        raise ModelProblem("the model gives values that are not finite numbers", "its weights are damaged")
    return rows
