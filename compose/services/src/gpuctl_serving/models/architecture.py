"""What config.json says about an encoder, checked against what the graph builder can build."""

from dataclasses import dataclass
from typing import Any, Literal

from gpuctl_serving.models.errors import ModelProblem

Family = Literal["bert", "roberta"]
_FAMILIES: dict[str, Family] = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta"}


@dataclass(frozen=True)
class Architecture:
    """Sizes and conventions of a BERT-like encoder."""

    family: Family
    hidden: int
    layers: int
    heads: int
    epsilon: float
    vocabulary: int
    #: Rows of the position table that come before the first token's position (RoBERTa: pad id + 1).
    position_offset: int
    #: Longest input the position table allows.
    max_positions: int
    token_types: int
    pad_id: int

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Architecture":
        """Reads config.json. Raises ModelProblem for what would be built wrongly."""
        kind = config.get("model_type")
        family = _FAMILIES.get(kind) if isinstance(kind, str) else None
        if family is None:
            raise ModelProblem(
                f"model type {kind!r} is not supported",
                "the graph builder knows " + ", ".join(sorted(_FAMILIES)),
                "choose such a model, or one that ships model.onnx",
            )
        if config.get("hidden_act", "gelu") != "gelu":
            raise ModelProblem(
                f"activation {config['hidden_act']!r} is not supported", "only the exact gelu is built"
            )
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise ModelProblem("relative positions are not supported", "only absolute ones are built")
        pad = int(config.get("pad_token_id") or 0)
        offset = pad + 1 if family == "roberta" else 0
        return cls(
            family=family,
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=int(config["num_attention_heads"]),
            epsilon=float(config.get("layer_norm_eps", 1e-12)),
            vocabulary=int(config["vocab_size"]),
            position_offset=offset,
            max_positions=int(config["max_position_embeddings"]) - offset,
            token_types=int(config.get("type_vocab_size", 0)),
            pad_id=pad,
        )
