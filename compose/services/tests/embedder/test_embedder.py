"""The embedder over HTTP: TEI's and OpenAI's shapes, truncation, proof, and what it refuses."""

import base64
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.running import Running, run_service

from gpuctl_serving.embedder.service import create_service
from gpuctl_serving.kit.errors import LoadFailed
from gpuctl_serving.kit.settings import SettingsError


def settings(model: Path, **more: str) -> dict[str, str]:
    return {
        "GPUCTL_MODEL_DIR": str(model),
        **{f"GPUCTL_{name.upper()}": value for name, value in more.items()},
    }


@pytest.fixture(scope="module")
def minilm_service(minilm: Path) -> Iterator[Running]:
    with run_service(create_service(settings(minilm, threads="1"))) as running:
        yield running


@pytest.fixture(scope="module")
def tiny_service(tiny: dict[str, Path]) -> Iterator[Running]:
    model = tiny["tiny-xlmr-embedder"]
    with run_service(create_service(settings(model, max_items="100", max_tokens="64"))) as running:
        yield running


def vectors(running: Running, **body: Any) -> np.ndarray:
    answer = running.public.post("/embed", json=body)
    assert answer.status_code == 200, answer.text
    return np.array(answer.json(), np.float64)


def test_golden_texts_come_back_over_http_in_every_shape(minilm_service: Running, golden: Path) -> None:
    items = json.loads((golden / "minilm-reference.json").read_text())["items"]
    texts, wanted = [i["text"] for i in items], np.array([i["embedding"] for i in items])
    answer = minilm_service.public.post("/embed", json={"inputs": texts})
    assert (np.array(answer.json()) * wanted).sum(axis=1).min() >= 0.99999
    assert int(answer.headers["x-compute-tokens"]) == sum(i["tokens"] for i in items)
    assert answer.headers["x-gpuctl-truncated"] == "1"
    for encoding in ("float", "base64"):
        body = minilm_service.public.post(
            "/v1/embeddings", json={"input": texts[:5], "model": "any", "encoding_format": encoding}
        ).json()
        raw = [entry["embedding"] for entry in body["data"]]
        found = [np.frombuffer(base64.b64decode(r), "<f4") if encoding == "base64" else r for r in raw]
        assert (np.array(found) * wanted[:5]).sum(axis=1).min() >= 0.99999
        assert [entry["index"] for entry in body["data"]] == [0, 1, 2, 3, 4]
        assert body["usage"] == {"prompt_tokens": 71, "total_tokens": 71}
        assert body["model"] == "sentence-transformers/all-MiniLM-L6-v2"


def test_the_device_is_reported_as_proven(minilm_service: Running) -> None:
    health = minilm_service.public.get("/health").json()
    assert (health["status"], health["device"]) == ("healthy", "cpu")
    proof = minilm_service.private.post("/private/proof").json()
    assert (proof["device"], proof["level"], proof["providers"]) == ("cpu", "self", ["CPUExecutionProvider"])
    assert proof["canary"]["ok"]
    assert proof["canary"]["similarity"] > 0.99999
    info = minilm_service.public.get("/info").json()
    assert (info["device"], info["max_input_length"], info["dimension"]) == ("cpu", 256, 384)
    assert info["revision"] == info["model_sha"]
    assert info["licence"] == "Apache-2.0"
    assert 'gpuctl_device_info{device="cpu"' in minilm_service.public.get("/metrics").text


def test_warm_up_runs_the_worst_batch(tiny_service: Running) -> None:
    warm = tiny_service.private.post("/private/warmup").json()
    shapes = [(s["texts"], s["tokens"]) for s in warm["shapes"]]
    assert {tokens for _, tokens in shapes} == {16, 32, 64}
    assert shapes[0] == (1, 16)
    assert shapes[-1] == (tiny_service.public.get("/info").json()["max_batch_tokens"] // 64, 64)
    assert all(s["ms"] > 0 for s in warm["shapes"])
    assert warm["peakRssMiB"] > 50


def test_a_single_string_is_a_list_of_one(tiny_service: Running) -> None:
    assert vectors(tiny_service, inputs="one text").shape == (1, 64)


def test_normalize_false_gives_the_pooled_vector_as_it_is(tiny_service: Running) -> None:
    plain = vectors(tiny_service, inputs=["a text"], normalize=False)
    unit = vectors(tiny_service, inputs=["a text"])
    assert abs(np.linalg.norm(unit) - 1) < 1e-5
    assert abs(np.linalg.norm(plain) - 1) > 1e-3
    assert np.allclose(plain / np.linalg.norm(plain), unit, atol=1e-5)


def test_dimensions_shorten_and_scale_again(tiny_service: Running) -> None:
    short = vectors(tiny_service, inputs=["a text"], dimensions=16)
    whole = vectors(tiny_service, inputs=["a text"])[:, :16]
    assert np.allclose(short, whole / np.linalg.norm(whole), atol=1e-5)


def test_truncation_is_counted_and_can_be_refused(tiny_service: Running) -> None:
    long = "very long " * 200
    answer = tiny_service.public.post("/embed", json={"inputs": ["short", long, long]})
    assert answer.headers["x-gpuctl-truncated"] == "2"
    assert "gpuctl_truncated_total 2.0" in tiny_service.public.get("/metrics").text
    refused = tiny_service.public.post("/embed", json={"inputs": ["short", long], "truncate": False})
    assert refused.status_code == 422
    assert "Input 1 is longer than 64 tokens" in refused.json()["error"]
    left = vectors(tiny_service, inputs=[long + "end"], truncation_direction="Left")
    right = vectors(tiny_service, inputs=[long + "end"], truncation_direction="Right")
    assert not np.allclose(left, right, atol=1e-3)
    assert np.allclose(right, vectors(tiny_service, inputs=[long]), atol=1e-6)


def test_a_text_of_megabytes_is_cut_before_it_costs_anything(tiny_service: Running) -> None:
    answer = tiny_service.public.post("/embed", json={"inputs": "word " * 1_000_000})
    assert (answer.status_code, answer.headers["x-gpuctl-truncated"]) == (200, "1")
    assert float(answer.headers["server-timing"].split("tokenize;dur=")[1].split(",")[0]) < 500


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/embed", {"inputs": []}, 400, "`inputs` is empty"),
        ("/v1/embeddings", {"input": []}, 400, "`input` is empty"),
        ("/embed", {}, 422, "inputs"),
        ("/embed", {"inputs": {"a": 1}}, 422, "inputs"),
        ("/embed", {"inputs": [None]}, 422, "inputs"),
        ("/embed", {"inputs": ["a"], "dimensions": 65}, 422, "1 to 64"),
        ("/embed", {"inputs": ["a"], "dimensions": 0}, 422, "1 to 64"),
        ("/embed", {"inputs": ["a"], "truncation_direction": "up"}, 422, "`right` or `left`"),
        ("/embed", {"inputs": ["a"], "prompt_name": "poem"}, 422, "no prompt 'poem'"),
        ("/embed", {"inputs": ["a"] * 101}, 422, "at most 100"),
        ("/embed", {"inputs": [1, 2]}, 422, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": [[1, 2], [3]]}, 422, "check_embedding_ctx_length=False"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int8"}, 422, "`float` or `base64`"),
    ],
)
def test_what_cannot_be_embedded_is_a_4xx_that_helps(
    tiny_service: Running, path: str, body: object, status: int, said: str
) -> None:
    answer = tiny_service.public.post(path, json=body)
    assert answer.status_code == status
    assert said in answer.json()["message"]


def test_openai_clients_hear_which_field_is_wrong(tiny_service: Running) -> None:
    answer = tiny_service.public.post("/v1/embeddings", json={"input": "a", "dimensions": "two"})
    assert answer.json()["error"]["param"] == "dimensions"


def test_null_means_absent_for_every_optional_field(tiny_service: Running) -> None:
    nothing = dict.fromkeys(("truncate", "truncation_direction", "normalize", "prompt_name", "dimensions"))
    assert vectors(tiny_service, inputs=["a"], **nothing).shape == (1, 64)
    nothing = dict.fromkeys(("model", "encoding_format", "dimensions", "user"))
    answer = tiny_service.public.post("/v1/embeddings", json={"input": "a", **nothing})
    assert len(answer.json()["data"][0]["embedding"]) == 64


def test_many_clients_at_once_each_get_their_own(tiny_service: Running) -> None:
    texts = [f"text number {n} " + "more " * (n % 30) for n in range(60)]
    wanted = vectors(tiny_service, inputs=texts)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda text: vectors(tiny_service, inputs=text)[0], texts))
    assert np.abs(np.array(found) - wanted).max() < 1e-5


def test_200_parallel_requests_against_a_small_queue_get_200_or_429(tiny: dict[str, Path]) -> None:
    service = create_service(settings(tiny["tiny-xlmr-embedder"], max_queue_tokens="256", threads="1"))
    with run_service(service) as running:
        client = running.public

        def ask(number: int) -> tuple[int, str | None]:
            answer = client.post("/embed", json={"inputs": [f"{number} " + "word " * 100] * 2})
            return answer.status_code, answer.headers.get("retry-after")

        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(ask, range(200)))
        assert {status for status, _ in answers} == {200, 429}
        assert all(int(wait or 0) >= 1 for status, wait in answers if status == 429)
        assert client.post("/embed", json={"inputs": "after"}).status_code == 200
        assert 'gpuctl_rejected_total{reason="queue_full"}' in client.get("/metrics").text


def test_a_damaged_model_does_not_load_and_names_the_file(tiny: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(tiny["tiny-xlmr-embedder"], broken)
    graph = broken / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-8] + b"\0\0\0\0\0\0\0\1")
    with pytest.raises(LoadFailed, match="its contents changed"):
        create_service(settings(broken)).load()
    (broken / "manifest.json").write_text("{")
    with pytest.raises(LoadFailed, match="is damaged"):
        create_service(settings(broken)).load()
    with pytest.raises(LoadFailed, match="gpuctl models fetch"):
        create_service(settings(tmp_path / "nowhere")).load()


def test_a_wrong_canary_does_not_load(tiny: dict[str, Path], tmp_path: Path) -> None:
    changed = tmp_path / "model"
    shutil.copytree(tiny["tiny-xlmr-embedder"], changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest["probes"]["items"][0]["vector"].reverse()
    (changed / "manifest.json").write_text(json.dumps(manifest))
    service = create_service(settings(changed))
    with pytest.raises(LoadFailed, match="canary wrongly"):
        service.load()
    assert (service.state, service.device) == ("failed", None)


def test_a_cross_encoder_is_no_embedder_and_a_model_must_be_named(tiny: dict[str, Path]) -> None:
    with pytest.raises(LoadFailed, match="cross-encoder"):
        create_service(settings(tiny["tiny-bert-cross-encoder"])).load()
    with pytest.raises(SettingsError, match="GPUCTL_MODEL_DIR"):
        create_service({})


def test_cuda_without_cuda_is_degraded_with_a_reason_and_required_cuda_is_503(tiny: dict[str, Path]) -> None:
    model = tiny["tiny-xlmr-embedder"]
    with run_service(create_service(settings(model, device="cuda"))) as running:
        health = running.public.get("/health")
        assert (health.status_code, health.json()["status"], health.json()["device"]) == (
            200,
            "degraded",
            "cpu",
        )
        assert "cuda was asked for" in health.json()["reason"]
        assert "cuda was asked for" in running.public.get("/info").json()["reason"]
        answer = running.public.post("/embed", json={"inputs": "a"})
        assert (answer.status_code, answer.headers["x-gpuctl-device"]) == (200, "cpu")
    with run_service(create_service(settings(model, device="cuda", require="cuda"))) as running:
        assert running.public.get("/health/ready").status_code == 503
        assert running.public.post("/embed", json={"inputs": "a"}).status_code == 503
        assert running.private.post("/private/proof").json()["device"] == "cpu"


def test_a_prefix_and_named_prompts_go_before_the_text(
    tiny: dict[str, Path], tiny_service: Running, tmp_path: Path
) -> None:
    changed = tmp_path / "model"
    shutil.copytree(tiny["tiny-xlmr-embedder"], changed)
    manifest = json.loads((changed / "manifest.json").read_text())
    manifest |= {"prefix": "passage: ", "prompts": {"query": "query: "}}
    (changed / "manifest.json").write_text(json.dumps(manifest))
    with run_service(create_service(settings(changed, max_tokens="64"))) as running:
        both = vectors(tiny_service, inputs=["passage: a text", "query: a text"])
        assert np.allclose(vectors(running, inputs="a text")[0], both[0], atol=1e-5)
        assert np.allclose(vectors(running, inputs="a text", prompt_name="query")[0], both[1], atol=1e-5)
