"""What services say at `/metrics`, and what they register."""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from gpuctl_serving.embedder.service import create_service as create_embedder
from gpuctl_serving.index.service import create_service as create_index
from gpuctl_serving.kit.gpu_metrics import exposition
from gpuctl_serving.kit.gpu_watch import Seen
from gpuctl_serving.kit.nvml import METRICS, Gpu, Sample
from gpuctl_serving.reranker.service import create_service as create_reranker

#: Name and labels of a series; of a histogram, without its buckets.
Series = tuple[str, frozenset[tuple[str, str]]]


def values(exposition: str) -> dict[Series, float]:
    """The value of every series: buckets and times of creation left out."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def series(name: str, **labels: str) -> Series:
    """One of them."""
    return name, frozenset(labels.items())


@dataclass(frozen=True)
class Family:
    """A metric as a service registers it, named as it is scraped."""

    name: str
    kind: str
    help: str
    #: Label -> the values that are there from the start.
    labels: dict[str, tuple[str, ...]]


def registered() -> dict[str, dict[str, Family]]:
    """Service -> its metrics by name."""
    nowhere = {"GPUCTL_MODEL_DIR": "/nonexistent", "GPUCTL_INDEX_DIR": "/nonexistent"}
    return {
        "embedder": _families(create_embedder(nowhere).metrics.registry),
        "reranker": _families(create_reranker(nowhere).metrics.registry),
        "index": _families(create_index(nowhere).metrics.registry),
    }


def _families(registry: CollectorRegistry) -> dict[str, Family]:
    found = {}
    for metric in registry.collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        labels: dict[str, list[str]] = {}
        for sample in metric.samples:
            for label, value in sample.labels.items():
                if label != "le" and value not in labels.setdefault(label, []):
                    labels[label].append(value)
        known = {label: tuple(given) for label, given in labels.items()}
        found[name] = Family(name, metric.type, metric.documentation, known)
    return found


#: Labels of which too many values are there, or none before something is loaded.
_OPEN_LABELS = {"route", "code", "engine", "dtype", "model", "revision"}


def rows(services: dict[str, dict[str, Family]]) -> Iterable[str]:
    """The lines of the table of `/metrics` in docs/guides/metrics.md."""
    names = dict.fromkeys(name for families in services.values() for name in families)
    for name in names:
        having = {service: families[name] for service, families in services.items() if name in families}
        family = next(iter(having.values()))
        labels: dict[str, dict[str, None]] = {}
        for each in having.values():
            for label, given in each.labels.items():
                labels.setdefault(label, {}).update(dict.fromkeys(given))
        cells = "<br>".join(_label(name, label, [*given]) for label, given in labels.items())
        whose = "all" if len(having) == len(services) else ", ".join(having)
        yield f"| `{name}` | {family.kind} | {cells} | {whose} | {family.help} |"


def _label(name: str, label: str, given: list[str]) -> str:
    if label in _OPEN_LABELS or name == "gpuctl_device_info":
        return f"`{label}`"
    return f"`{label}`: {', '.join(given)}"


def gpu_rows() -> Iterable[str]:
    """The lines of the table of `/metrics/gpu`: of a card that has every value, and of none."""
    card = Gpu(0, "GPU-0", "card", {metric.name: 1.0 for metric in METRICS})
    seen = [Seen(sample, 0.0, {}) for sample in (Sample(absent="no driver"), Sample((card,), "1"))]
    families: dict[str, tuple[str, str]] = {}
    for line in "".join(exposition(each, None) for each in seen).splitlines():
        if line.startswith("# HELP "):
            _, _, name, text = line.split(" ", 3)
        elif line.startswith("# TYPE "):
            families[name] = (line.rpartition(" ")[2], text)
    for name, (kind, text) in families.items():
        yield f"| `{name}` | {kind} | {text} |"
