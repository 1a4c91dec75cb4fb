"""What is put before a text: the model's words for a query or a passage, by whatever name it is asked."""

import asyncio
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from gpuctl_serving.models.fetch import fetch
from gpuctl_serving.models.manifest import Manifest
from gpuctl_serving.models.progress import Progress
from gpuctl_serving.models.prompts import passage_prompt, prompt_of
from gpuctl_serving.models.spec import PathSpec
from gpuctl_serving.models.store import ModelStore

E5 = {"query": "query: ", "passage": "passage: "}


@pytest.mark.parametrize(
    ("prompts", "prefix", "name", "wanted"),
    [
        (E5, "", "query", "query: "),
        (E5, "", "passage", "passage: "),
        (E5, "", "document", "passage: "),
        (E5, "", "search_query", "query: "),
        (E5, "", None, ""),
        ({"document": "text: "}, "", "passage", "text: "),
        ({"query": "Represent this: "}, "", "passage", ""),
        ({}, "", "query", ""),
        ({}, "always: ", "passage", "always: "),
        ({}, "always: ", None, "always: "),
        (E5, "", "poem", None),
    ],
)
def test_a_prompt_is_found_under_the_names_of_its_side(
    prompts: dict[str, str], prefix: str, name: str | None, wanted: str | None
) -> None:
    assert prompt_of(prompts, prefix, name) == wanted


def test_what_is_before_a_passage_is_part_of_the_identity_of_vectors(golden: Path, tmp_path: Path) -> None:
    plain, e5 = manifest(golden, tmp_path), manifest(golden, tmp_path, prompts=E5)
    assert passage_prompt(e5.prompts, e5.prefix) == "passage: "
    assert plain.generation is not None and e5.generation is not None
    assert plain.generation.split("|")[1:] == ["cls", "normalized", "", "64"]
    assert e5.generation.split("|")[1:] == ["cls", "normalized", "passage: ", "64"]
    assert e5.revision != plain.revision


def test_prompts_that_the_source_has_itself_change_no_revision(golden: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(golden / "models/tiny-xlmr-embedder", own)
    said = json.dumps({"prompts": {**E5, "nothing": ""}})
    (own / "config_sentence_transformers.json").write_text(said)
    from_source = fetched(own, tmp_path)
    assert from_source.prompts == E5
    assert fetched(own, tmp_path, prompts=E5).revision == from_source.revision
    assert fetched(own, tmp_path, prompts={}).prompts == {}


def manifest(golden: Path, tmp_path: Path, **options: Any) -> Manifest:
    return fetched(golden / "models/tiny-xlmr-embedder", tmp_path, **options)


def fetched(source: Path, tmp_path: Path, **options: Any) -> Manifest:
    spec = PathSpec(path=source, pooling="cls", **options)
    return asyncio.run(fetch(spec, ModelStore(tmp_path / "store"), Progress(io.StringIO()))).manifest
