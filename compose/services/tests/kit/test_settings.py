"""Settings come from the environment, typed, with every problem named at once."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gpuctl_serving.kit.settings import Alias, Settings, SettingsError


@dataclass(frozen=True, kw_only=True)
class Example(Settings):
    folder: Path
    limit: int = field(default=3, metadata={"min": 1, "max": 9})
    ratio: float = 0.5
    loud: bool = False


def gpu_or_cpu(text: str) -> str:
    if text not in {"true", "false"}:
        raise ValueError("must be true or false")
    return "auto" if text == "true" else "cpu"


def test_values_have_the_types_of_their_fields() -> None:
    settings, notes = Example.load(
        {"GPUCTL_FOLDER": "/m", "GPUCTL_LIMIT": "7", "GPUCTL_RATIO": "0.25", "GPUCTL_LOUD": "yes",
         "GPUCTL_DEVICE": "CUDA", "GPUCTL_API_KEYS_FILE": "", "HOME": "/root"}
    )  # fmt: skip
    assert (settings.folder, settings.limit, settings.ratio, settings.loud) == (Path("/m"), 7, 0.25, True)
    assert (settings.device, settings.api_keys_file, settings.max_items) == ("cuda", None, 2048)
    assert notes.warnings == ()


def test_all_problems_are_told_together() -> None:
    wrong = {
        "GPUCTL_LIMIT": "12",
        "GPUCTL_RATIO": "x",
        "GPUCTL_LOUD": "maybe",
        "GPUCTL_DEVICE": "tpu",
        "GPUCTL_PORT": "1.5",
    }
    with pytest.raises(SettingsError) as refused:
        Example.load(wrong)
    told = "\n".join(refused.value.problems)
    for part in (
        "GPUCTL_LIMIT='12': must be at most 9",
        "GPUCTL_RATIO",
        "true or false",
        "one of auto, cuda",
    ):
        assert part in told
    assert "GPUCTL_FOLDER is not set" in told
    assert "GPUCTL_PORT='1.5': must be a whole number" in told


def test_an_unknown_variable_is_a_warning_with_the_nearest_name() -> None:
    _, notes = Example.load({"GPUCTL_FOLDER": "m", "GPUCTL_LIMITS": "3", "GPUCTL_CONFIG": "x", "OTHER": "1"})
    (warning,) = notes.warnings
    assert "GPUCTL_LIMITS" in warning
    assert "did you mean GPUCTL_LIMIT?" in warning


def test_an_alias_says_which_setting_it_set_and_never_beats_the_setting_itself() -> None:
    aliases = [Alias("USE_GPU", "device", gpu_or_cpu), Alias("ENABLE_GPU", "device", gpu_or_cpu)]
    base = {"GPUCTL_FOLDER": "m"}
    settings, notes = Example.load({**base, "USE_GPU": "false"}, aliases)
    assert settings.device == "cpu"
    assert notes.aliases == ("USE_GPU set GPUCTL_DEVICE=cpu",)
    settings, notes = Example.load({**base, "USE_GPU": "false", "GPUCTL_DEVICE": "cuda"}, aliases)
    assert settings.device == "cuda"
    assert "ignored" in notes.aliases[0]
    _, notes = Example.load({**base, "USE_GPU": "true", "ENABLE_GPU": "false"}, aliases)
    assert notes.aliases == (
        "USE_GPU set GPUCTL_DEVICE=auto",
        "ENABLE_GPU was ignored: USE_GPU already set GPUCTL_DEVICE",
    )
    with pytest.raises(SettingsError, match="USE_GPU='perhaps': must be true or false"):
        Example.load({**base, "USE_GPU": "perhaps"}, aliases)
