"""Hugging Face's `InferenceClient`, which LangChain, Haystack and many applications sit on."""

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests_clients.conftest import KEY
from tests_clients.services import Service


def test_features_of_one_text_and_of_several(embedder: Service) -> None:
    client = InferenceClient(model=embedder.url)
    wanted = np.array(embedder.post("/embed", {"inputs": ["one", "two"]}).json())
    assert np.allclose(client.feature_extraction(["one", "two"], normalize=True), wanted, atol=1e-6)
    assert np.allclose(client.feature_extraction("one"), wanted[:1], atol=1e-6)
    left = client.feature_extraction("word " * 400 + "end", truncate=True, truncation_direction="Left")
    right = client.feature_extraction("word " * 400 + "end", truncate=True, truncation_direction="Right")
    assert not np.allclose(left, right, atol=1e-3)


def test_similarity_with_the_routes_address(embedder: Service) -> None:
    client = InferenceClient(model=f"{embedder.url}/similarity")
    sentences = ["roll a release back", "bake bread"]
    found = client.sentence_similarity("undo a deploy", other_sentences=sentences)
    direct = embedder.post(
        "/similarity", {"inputs": {"source_sentence": "undo a deploy", "sentences": sentences}}
    ).json()
    assert found == pytest.approx(direct, abs=1e-6)
    assert found[0] > found[1]


def test_a_refusal_is_an_http_error_with_our_sentence(embedder: Service, guarded_embedder: Service) -> None:
    with pytest.raises(HfHubHTTPError, match="no prompt 'riddle'"):
        InferenceClient(model=embedder.url).feature_extraction("a", prompt_name="riddle")
    assert InferenceClient(model=guarded_embedder.url, token=KEY).feature_extraction("a") is not None
    with pytest.raises(HfHubHTTPError, match="401"):
        InferenceClient(model=guarded_embedder.url, token="wrong").feature_extraction("a")
