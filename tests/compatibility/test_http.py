"""Plain HTTP, and the OpenAPI document under a validator that is not ours."""

import requests
from openapi_spec_validator import validate


def test_namespaces_need_a_token(ground):
    answer = requests.get(f"{ground.url}/v1/namespaces", timeout=10)
    assert answer.status_code == 401
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"
    headers = {"authorization": f"Bearer {ground.token}"}
    answer = requests.get(f"{ground.url}/v1/namespaces", headers=headers, timeout=10)
    assert answer.status_code == 200 and "namespaces" in answer.json()


def test_the_openapi_document_is_valid(server):
    document = requests.get(f"{server.url}/openapi.json", timeout=10).json()
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_the_keys_are_public(server):
    keys = requests.get(f"{server.url}/.well-known/jwks.json", timeout=10).json()["keys"]
    assert keys and all(key["kty"] == "OKP" and "d" not in key for key in keys)
