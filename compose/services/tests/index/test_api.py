"""The public API as a client sees it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from gpuctl_serving import __version__
from gpuctl_serving.index import core, worker
from gpuctl_serving.index.service import create_service
from gpuctl_serving.kit.errors import LoadFailed
from tests.index.support import BASE, Index, axis, in_base64, index


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path) as made:
        yield made


@pytest.fixture
def guide(tmp_path: Path) -> Iterator[Index]:
    with index(tmp_path) as made:
        made.add(
            {"id": "a", "vector": axis(0), "text": "alpha", "metadata": {"source": "guide.md", "line": 1}},
            {"id": "b", "vector": axis(1), "text": "beta", "metadata": {"source": "guide.md", "line": 2}},
            {"id": "c", "vector": [1, 1, 0, 0], "metadata": {"source": "other.md", "tags": ["x", "y"]}},
        )
        yield made


def test_an_add_is_acknowledged_with_counts_and_a_sequence(empty: Index) -> None:
    first = empty.add({"id": "a", "vector": axis(0)}, {"id": "b", "vector": axis(1)})
    assert first == {"added": 2, "updated": 0, "sequence": 2}
    second = empty.add({"id": "b", "vector": axis(2)}, {"id": "c", "vector": axis(3)}, upsert=True)
    assert second == {"added": 1, "updated": 1, "sequence": 4}


def test_a_search_answers_the_documented_body(guide: Index) -> None:
    answer = guide.post("search", {"vector": axis(0), "k": 2})
    assert answer == {
        "device": "cpu",
        "indexType": "Flat",
        "results": [
            [
                {"id": "a", "score": 1.0, "text": "alpha", "metadata": {"source": "guide.md", "line": 1}},
                {
                    "id": "c",
                    "score": 0.707107,
                    "text": None,
                    "metadata": {"source": "other.md", "tags": ["x", "y"]},
                },
            ]
        ],
    }


def test_several_vectors_get_one_list_of_results_each(guide: Index) -> None:
    answer = guide.post("search", {"vectors": [axis(0), axis(1)], "k": 1})
    assert [[hit["id"] for hit in row] for row in answer["results"]] == [["a"], ["b"]]


def test_base64_is_the_same_as_numbers(empty: Index) -> None:
    empty.add({"id": "a", "vectorBase64": in_base64([0.5, 0.25, 0, 0])})
    answer = empty.post("search", {"vectorBase64": in_base64([2, 1, 0, 0])})
    assert answer["results"][0][0]["score"] == 1.0


def test_equal_scores_are_ordered_by_id_whatever_the_order_of_arrival(empty: Index) -> None:
    names = [f"n{number:03}" for number in range(60)]
    for name in reversed(names):
        empty.add({"id": name, "vector": axis(0)})
    assert empty.found(axis(0), k=5) == names[:5]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"source": "guide.md"}, ["a", "b"]),
        ({"source": "guide.md", "line": 2}, ["b"]),
        ({"line": 2.0}, ["b"]),
        ({"line": "2"}, []),
        ({"line": True}, []),
        ({"source": ["guide.md", "other.md"]}, ["a", "c", "b"]),
        ({"tags": "y"}, ["c"]),
        ({"tags": []}, []),
        ({"nobody": None}, []),
        ({}, ["a", "c", "b"]),
    ],
)
def test_a_filter_keeps_items_that_equal_it_in_every_key(
    guide: Index, wanted: dict[str, object], ids: list[str]
) -> None:
    assert guide.found(axis(0), filter=wanted) == ids


def test_deleting_counts_what_was_there(guide: Index) -> None:
    assert guide.post("delete", {"ids": ["a", "a", "nobody"]}) == {"deleted": 1, "sequence": 4}
    assert guide.found(axis(0)) == ["c", "b"]
    assert guide.post("delete", {"ids": ["x"], "namespace": "nowhere"}) == {"deleted": 0, "sequence": 4}


def test_namespaces_do_not_see_each_other(guide: Index) -> None:
    guide.add({"id": "a", "vector": axis(2)}, namespace="two")
    assert guide.found(axis(0), namespace="two") == ["a"]
    assert guide.found(axis(0), namespace="nobody used this") == []
    assert guide.stats()["namespaces"] == {"default": 3, "two": 1}


@pytest.mark.parametrize(
    "name", ["guide.md#3", "dir/sub dir/a?b=c&d", "ünïcode/日本", "100%", "a//b", "a\\b"]
)
def test_an_item_is_found_by_its_percent_encoded_id(empty: Index, name: str) -> None:
    empty.add({"id": name, "vector": axis(0), "text": "t"})
    answer = empty.public.get(f"{BASE}/items/{quote(name, safe='')}")
    assert answer.status_code == 200
    assert answer.json() == {"namespace": "default", "id": name, "text": "t", "metadata": {}, "sequence": 1}


def test_an_item_that_is_not_there_is_a_404(empty: Index) -> None:
    answer = empty.public.get(f"{BASE}/items/nobody?namespace=x")
    assert answer.status_code == 404
    assert "'nobody' in namespace 'x'" in answer.json()["message"]


def test_a_duplicate_without_upsert_is_a_409_that_names_it_and_stores_nothing(guide: Index) -> None:
    body = {"items": [{"id": "new", "vector": axis(3)}, {"id": "b", "vector": axis(3)}]}
    status, message = guide.refused("add", body)
    assert status == 409
    assert "'b'" in message and "upsert" in message
    assert "new" not in guide.found(axis(3))
    assert guide.stats()["items"] == 3


def deep(levels: int) -> dict[str, Any]:
    return {"k": deep(levels - 1)} if levels > 1 else {"k": 1}


def test_metadata_as_deep_as_allowed_is_found_again(empty: Index) -> None:
    empty.add({"id": "x", "vector": axis(0), "metadata": deep(240)})
    found = empty.post("search", {"vector": axis(0)})["results"][0][0]
    assert found["metadata"] == deep(240)
    assert empty.public.get(f"{BASE}/items/x").json()["metadata"] == deep(240)


@pytest.mark.parametrize(
    ("item", "status", "says"),
    [
        ({"id": "x", "vector": [1, 2]}, 422, "4"),
        ({"id": "x", "vector": [0, 0, 0, 0]}, 422, "zeros"),
        ({"id": "x", "vector": []}, 422, "empty"),
        ({"id": "x", "vector": [1e39, 0, 0, 0]}, 422, "finite"),
        ({"id": "x", "vectorBase64": in_base64([float("nan"), 0, 0, 0])}, 422, "finite"),
        ({"id": "x", "vectorBase64": "AAAA"}, 422, "3 bytes"),
        ({"id": "x", "vectorBase64": "not base64!"}, 422, "base64"),
        ({"id": "x", "vectorBase64": in_base64([1, 0])}, 422, "dimensions"),
        ({"id": "x", "vector": axis(0), "vectorBase64": in_base64(axis(0))}, 422, "both"),
        ({"id": "x"}, 422, "neither"),
        ({"id": "x", "text": "  "}, 422, "neither"),
        ({"id": "x", "text": "needs an embedder"}, 422, "GPUCTL_EMBEDDER_URL"),
        ({"id": "", "vector": axis(0)}, 422, "id"),
        ({"id": "x" * 513, "vector": axis(0)}, 422, "512"),
        ({"id": "nul\u0000", "vector": axis(0)}, 422, "printable"),
        ({"id": "x", "vector": axis(0), "metadata": {"k": "v" * 70_000}}, 422, "metadata"),
        ({"id": "x", "vector": axis(0), "metadata": [1]}, 422, "metadata"),
        ({"id": "x", "vector": axis(0), "metadata": {"k": 2**64}}, 422, "64 bits"),
        ({"id": "x", "vector": axis(0), "metadata": deep(300)}, 422, "240 levels"),
        ({"id": "x", "vector": axis(0), "vektor": 1}, 422, "vektor"),
        ({"id": 7.5, "vector": axis(0)}, 422, "id"),
        ({"id": 2**63, "vector": axis(0)}, 422, "64 bits"),
        ({"id": True, "vector": axis(0)}, 422, "id"),
        ({"id": "x", "vector": ["1", 0, 0, 0]}, 422, "vector"),
    ],
)
def test_a_wrong_item_is_refused_with_a_reason_and_nothing_is_stored(
    guide: Index, item: dict[str, object], status: int, says: str
) -> None:
    got, message = guide.refused("add", {"items": [{"id": "fine", "vector": axis(0)}, item]})
    assert got == status
    assert says in message
    assert guide.stats()["items"] == 3


@pytest.mark.parametrize(
    ("route", "body", "status", "says"),
    [
        ("add", {"items": []}, 400, "items"),
        ("add", {"items": [{"id": "x", "vector": axis(0)}] * 2}, 422, "twice"),
        ("add", {"items": [{"id": str(n), "vector": axis(0)} for n in range(2049)]}, 422, "2048"),
        ("add", {"items": [{"id": "x", "vector": axis(0)}], "namespace": ""}, 422, "namespace"),
        ("search", {"vector": axis(0), "k": 0}, 422, "k is 0"),
        ("search", {"vector": axis(0), "k": -1}, 422, "k is -1"),
        ("search", {"vector": axis(0), "k": 2049}, 422, "2048"),
        ("search", {"vector": axis(0), "k": 1.5}, 422, "k"),
        ("search", {"k": 1}, 422, "none of them"),
        ("search", {"vector": axis(0), "text": "x"}, 422, "vector and text"),
        ("search", {"text": "   "}, 400, "text"),
        ("search", {"text": "x"}, 422, "GPUCTL_EMBEDDER_URL"),
        ("search", {"vector": [1, 0]}, 422, "2 dimensions"),
        ("search", {"vectors": []}, 400, "vectors"),
        ("search", {"vectors": [[1, 0], [1]]}, 422, "different"),
        ("search", {"vectors": [axis(0)] * 2000, "k": 2000}, 422, "results"),
        ("search", {"vector": axis(0), "filter": {"a": {"b": 1}}}, 422, "filter.a"),
        ("delete", {"ids": []}, 400, "ids"),
        ("delete", {"ids": [""]}, 422, "ids[0]"),
        ("delete", {"ids": ["x"] * 2049}, 422, "2048"),
        ("delete", [1], 422, "shape"),
    ],
)
def test_a_wrong_request_is_refused_with_a_reason(
    guide: Index, route: str, body: object, status: int, says: str
) -> None:
    got, message = guide.refused(route, body)
    assert got == status
    assert says in message


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"vector": [NaN]}', b'{"text": "\\ud800"}', b'{"text": "\xff"}', b"[" * 5000]
)
def test_a_body_that_is_not_json_is_a_400(guide: Index, raw: bytes) -> None:
    answer = guide.public.post(f"{BASE}/search", content=raw)
    assert answer.status_code in (400, 422)
    assert answer.json()["message"]


def test_a_large_body_is_a_413(tmp_path: Path) -> None:
    with index(tmp_path, max_body_bytes=2000) as small:
        items = [{"id": str(number), "vector": axis(0)} for number in range(100)]
        assert small.refused("add", {"items": items})[0] == 413


def test_the_statistics_say_where_the_index_searches_and_why(guide: Index) -> None:
    stats = guide.stats()
    assert stats["device"] == "cpu"
    assert stats["gpu"]["inUse"] is False and "CPU build" in stats["gpu"]["reason"]
    assert (stats["indexType"], stats["metric"], stats["dimension"]) == ("Flat", "cosine", 4)
    assert (stats["items"], stats["vectors"], stats["generation"]) == (3, 3, "dim:4")
    assert stats["writer"] is True and stats["lag"] == 0 and stats["sequence"] == 3
    assert stats["bytes"]["database"] > 0 and stats["bytes"]["memory"] > 0


def test_every_answer_names_its_device(guide: Index) -> None:
    assert guide.public.get(f"{BASE}/stats").headers["x-gpuctl-device"] == "cpu"


def test_everything_is_there_again_after_a_restart(tmp_path: Path) -> None:
    with index(tmp_path) as first:
        first.add({"id": "a", "vector": axis(0), "metadata": {"n": 1}}, {"id": "b", "vector": axis(1)})
        first.post("delete", {"ids": ["b"]})
    with index(tmp_path) as second:
        assert second.found(axis(1)) == ["a"]
        assert second.found(axis(0), filter={"n": 1}) == ["a"]
        assert second.add({"id": "c", "vector": axis(2)})["sequence"] == 4


def test_the_first_add_decides_the_dimension(empty: Index) -> None:
    assert empty.stats()["dimension"] == 0
    assert empty.found([1, 0, 0]) == []
    status, message = empty.refused(
        "add", {"items": [{"id": "a", "vector": [1]}, {"id": "b", "vector": [1, 0]}]}
    )
    assert status == 422 and "items[1]" in message
    empty.add({"id": "a", "vector": [1, 0, 0]})
    assert empty.stats()["dimension"] == 3


def test_metrics_are_there_at_zero_and_follow(empty: Index) -> None:
    before = empty.public.get("/metrics").text
    for series in ("count", "index_bytes", "snapshot_age_seconds", "sequence"):
        assert f"gpuctl_vector_{series} 0.0" in before
    assert "gpuctl_vector_recall_probe 1.0" in before
    assert 'gpuctl_vector_items_written_total{op="added"} 0.0' in before
    assert 'gpuctl_rejected_total{reason="conflict"} 0.0' in before
    empty.add({"id": "a", "vector": axis(0)})
    after = empty.public.get("/metrics").text
    assert "gpuctl_vector_count 1.0" in after
    assert 'gpuctl_vector_items_written_total{op="added"} 1.0' in after


def test_health_and_info_and_proof(guide: Index) -> None:
    assert guide.public.get("/health").json()["status"] == "healthy"
    info = guide.public.get("/info").json()
    assert (info["indexType"], info["state"], info["version"]) == ("Flat", "ready", __version__)
    status, proof = guide.control("proof", {})
    assert status == 200
    assert proof["device"] == "cpu" and proof["level"] == "self" and proof["providers"] == ["faiss-cpu"]
    assert (proof["replica"]["state"], proof["replica"]["device"]) == ("off", None)
    assert proof["canary"]["ok"] is True and proof["canary"]["similarity"] == 1.0
    _, warm = guide.control("warmup", {})
    assert warm["shapes"] and all(shape["ms"] >= 0 for shape in warm["shapes"])


def test_private_routes_are_not_public(guide: Index) -> None:
    assert guide.public.get("/private/index").status_code == 404
    standing = guide.private.get("/private/index").json()
    assert standing["writer"] is True and standing["items"] == 3
    assert standing["generations"] == [{"key": "dim:4", "dimension": 4, "vectors": 3, "missing": 0}]


def test_an_unmet_wish_for_a_gpu_shows_as_degraded_and_a_requirement_is_refused_at_load(
    tmp_path: Path,
) -> None:
    with index(tmp_path / "a", FAISS_ENABLE_GPU="true") as wished:
        health = wished.public.get("/health")
        assert health.status_code == 200
        assert health.json()["status"] == "degraded" and "CPU build" in health.json()["reason"]
    for device in ("cuda", "mps"):
        env = {"GPUCTL_INDEX_DIR": str(tmp_path / "b"), "GPUCTL_REQUIRE": device}
        service = create_service(env)
        with pytest.raises(LoadFailed, match=f"GPUCTL_REQUIRE={device} .*GPUCTL_DEVICE=cuda asks"):
            service.load()
        required = TestClient(service.app)
        assert required.get("/health").status_code == 503
        assert required.post(f"{BASE}/search", json={"vector": axis(0)}).status_code == 503
    with index(tmp_path / "c", require="cpu") as on_cpu:
        assert on_cpu.public.get("/health").status_code == 200


def test_a_filtered_search_in_a_large_share_and_a_small_one_agree(empty: Index) -> None:
    items = [
        {"id": f"i{n:04}", "vector": [1.0, n / 1000, 0, 0], "metadata": {"half": n % 2, "few": n % 100}}
        for n in range(1000)
    ]
    empty.add(*items)
    assert empty.found(axis(0), k=3, filter={"half": 1}) == ["i0001", "i0003", "i0005"]
    assert empty.found(axis(0), k=3, filter={"few": 7}) == ["i0007", "i0107", "i0207"]


def test_numbers_survive_as_they_were_sent(empty: Index) -> None:
    metadata = {
        "big": 2**53 + 1,
        "float": 0.1,
        "text": "\u2028",
        "deep": {"a": [1, {"b": None}]},
        "yes": True,
    }
    empty.add({"id": "m", "vector": axis(0), "metadata": metadata})
    answer = empty.public.get(f"{BASE}/items/m")
    assert json.loads(answer.text)["metadata"] == metadata


def test_more_than_the_queue_holds_is_a_429_with_a_time_to_come_back(
    guide: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "MAX_READS", 0)
    monkeypatch.setattr(worker, "MAX_WAITING", 0)
    bodies = {"search": {"vector": axis(0)}, "add": {"items": [{"id": "x", "vector": axis(0)}]}}
    for route, body in bodies.items():
        answer = guide.public.post(f"{BASE}/{route}", json=body)
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
    assert "gpuctl_rejected_total" in guide.public.get("/metrics").text


def test_a_public_client_cannot_say_whose_vectors_it_sends(guide: Index) -> None:
    headers = {"x-gpuctl-generation": "another", "x-gpuctl-forwarded": "99999"}
    item = {"id": "x", "vector": axis(3)}
    answer = guide.public.post(f"{BASE}/add", json={"items": [item]}, headers=headers)
    assert answer.status_code == 200
    assert guide.found(axis(3), k=1) == ["x"]
