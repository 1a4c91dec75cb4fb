"""Which model runs on which engine: the plan of devices meets the models that were configured."""

from collections.abc import Mapping
from dataclasses import dataclass

from gpuctl_serving.engines.held import Part
from gpuctl_serving.engines.loaded_model import LoadedModel
from gpuctl_serving.engines.select import EnginePlan
from gpuctl_serving.engines.state import SlotName


@dataclass(frozen=True)
class Assignment:
    """What each slot runs."""

    parts: Mapping[SlotName, Part]
    models: Mapping[SlotName, LoadedModel]
    #: The model that was asked for.
    main: LoadedModel
    #: Why not even the primary is what was wished; empty when it is.
    shortfall: str

    def model_of(self, slot: SlotName | None) -> LoadedModel:
        """The model a slot runs; while none answers, the one that is expected next."""
        return self.models[slot or "primary"]


def assign(
    plan: EnginePlan, *, wished: str, main: LoadedModel, small: LoadedModel | None, batch_tokens: int
) -> Assignment:
    """Gives every slot its engine and model.

    The main model runs on the planned device. A smaller one, where configured, answers instead of it on the
    CPU: when a GPU is lost or absent, and on machines without one unless `cpu` itself was asked for.
    """
    cpu_only = plan.primary.device == "cpu"
    if cpu_only and small is not None and (plan.reason is not None or wished == "auto"):
        because = plan.reason or f"there is no GPU here, and {main.manifest.id} is not run on a CPU"
        return Assignment(
            {"primary": small.part(plan.primary, batch_tokens)}, {"primary": small}, main, because
        )
    parts: dict[SlotName, Part] = {"primary": main.part(plan.primary, batch_tokens)}
    models: dict[SlotName, LoadedModel] = {"primary": main}
    fallback = plan.fallback or (plan.primary if cpu_only and small is not None else None)
    if fallback is not None:
        models["fallback"] = small or main
        parts["fallback"] = models["fallback"].part(fallback, batch_tokens)
    return Assignment(parts, models, main, plan.reason or "")
