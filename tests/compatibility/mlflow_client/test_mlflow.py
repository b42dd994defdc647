"""MLflow's own client against the public door, and the same requests to MLflow's own server."""

import json
import pathlib
import socket
import urllib.parse

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LogisticRegression

from mlflow_replay import allowed, replay, steps

API = "/api/2.0/mlflow"


@pytest.fixture
def client(ground, namespace, monkeypatch):
    """The client in a namespace of its own on each ground."""
    headers = {"authorization": f"Bearer {ground.token}"}
    made = requests.post(f"{ground.url}/v1/namespaces", json={"name": namespace}, headers=headers, timeout=30)
    assert made.status_code == 200, made.text
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", ground.token)
    monkeypatch.setenv("MLFLOW_WORKSPACE", namespace)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(ground.url)
    mlflow.set_registry_uri(ground.url)
    yield MlflowClient(ground.url)
    while mlflow.active_run():
        mlflow.end_run()


def fitted():
    rows = [[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.1]]
    return LogisticRegression().fit(rows, [0, 1, 0, 1]), rows


def test_a_session_from_logging_to_serving(client, tmp_path):
    model, rows = fitted()
    experiment = mlflow.set_experiment("session")
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"c": 1.0, "solver": "lbfgs"})
        mlflow.log_metrics({"acc": 0.5}, step=0)
        mlflow.log_metric("acc", 0.75, step=1)
        mlflow.set_tag("team", "vision")
        (tmp_path / "note.txt").write_text("hello")
        mlflow.log_artifact(str(tmp_path / "note.txt"), "notes")
        info = mlflow.sklearn.log_model(model, name="model", registered_model_name="classifier", input_example=rows)
    found = client.get_run(run.info.run_id)
    assert found.data.params == {"c": "1.0", "solver": "lbfgs"} and found.data.metrics["acc"] == 0.75
    assert [point.value for point in client.get_metric_history(run.info.run_id, "acc")] == [0.5, 0.75]
    assert [entry.path for entry in client.list_artifacts(run.info.run_id, "notes")] == ["notes/note.txt"]
    assert len(client.search_runs([experiment.experiment_id], "metrics.acc > 0.6 and params.solver = 'lbfgs'")) == 1

    again = mlflow.register_model(f"runs:/{run.info.run_id}/model", "classifier")
    third = mlflow.register_model(info.model_uri, "classifier")
    assert (int(again.version), int(third.version)) == (2, 3)
    client.set_registered_model_alias("classifier", "champion", "2")
    client.set_model_version_tag("classifier", "2", "checked", "yes")
    client.set_registered_model_tag("classifier", "owner", "ana")
    assert client.get_model_version_by_alias("classifier", "champion").version == "2"
    assert [it.version for it in client.search_model_versions("name = 'classifier' and tags.checked = 'yes'")] == ["2"]
    assert [it.name for it in client.search_registered_models("tags.owner = 'ana'")] == ["classifier"]
    moved = client.transition_model_version_stage("classifier", "1", "Staging")
    assert moved.current_stage == "Staging"
    copied = client.copy_model_version("models:/classifier/2", "copy")
    assert copied.version == "1"

    for uri in ("models:/classifier@champion", "models:/classifier/1", "models:/copy/1", info.model_uri):
        assert list(mlflow.sklearn.load_model(uri).predict(rows)) == [0, 1, 0, 1], uri
    assert list(mlflow.pyfunc.load_model("models:/classifier/3").predict(rows)) == [0, 1, 0, 1]
    target = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/notes/note.txt", dst_path=str(tmp_path / "down"))
    assert pathlib.Path(target).read_text() == "hello"

    client.delete_model_version("classifier", "3")
    with pytest.raises(MlflowException, match="not found"):
        client.get_model_version("classifier", "3")
    client.delete_registered_model("copy")
    client.delete_run(run.info.run_id)
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"


def test_large_files_go_in_parts_and_come_by_ranges(client, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(1 << 20))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(5 << 20))
    monkeypatch.setenv("MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE", str(5 << 20))
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "true")
    content = bytes(range(256)) * (48 << 10)
    (tmp_path / "big.bin").write_bytes(content)
    mlflow.set_experiment("parts")
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big.bin"))
    target = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/big.bin", dst_path=str(tmp_path / "down"))
    assert pathlib.Path(target).read_bytes() == content


def test_the_surface_refuses_in_mlflows_shape(ground, namespace):
    def call(method, path, **more):
        return requests.request(method, ground.url + path, timeout=30, **more)

    nobody = call("GET", f"{API}/registered-models/get", params={"name": "x"})
    assert (nobody.status_code, nobody.json()["error_code"]) == (401, "UNAUTHENTICATED")
    headers = {"authorization": f"Bearer {ground.token}"}
    unknown = call("GET", f"{API}/no/such", headers=headers)
    assert (unknown.status_code, unknown.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    huge = call("POST", f"{API}/registered-models/create", headers=headers, json={"name": "x" * (17 << 20)})
    assert huge.status_code == 413 and huge.json()["error_code"] == "BAD_REQUEST"
    elsewhere = call("GET", f"{API}/registered-models/search", headers={**headers, "x-mlflow-workspace": namespace})
    assert elsewhere.status_code in (200, 404)
    for path in ("../x", "%2e%2e/x", "a/%252e%252e/x", "%2Fetc%2Fpasswd", "a%5c..%5cb"):
        target = f"{ground.url}/api/2.0/mlflow-artifacts/artifacts/{path}"
        # As it is written: clients undo escapes and dots.
        parsed = urllib.parse.urlsplit(target)
        with socket.create_connection((parsed.hostname, parsed.port), 30) as wire:
            wire.sendall(
                f"PUT {parsed.path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ground.token}\r\n"
                "content-length: 1\r\nconnection: close\r\n\r\nx".encode()
            )
            answer = b"".join(iter(lambda: wire.recv(65536), b""))
        assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404")), (path, answer[:200])
        assert b"error_code" in answer, path
    basic = call("GET", f"{API}/experiments/get", params={"experiment_id": "0"}, auth=("admin", ground.token))
    assert basic.status_code == 200


def test_the_same_requests_are_answered_the_same(server, empty_peer):
    # Both count their experiments from nothing, and the numbers are compared.
    all_steps = steps.steps()
    assert len(all_steps) >= 300
    theirs, mine = replay.Side(empty_peer), replay.Side(server.url, server.token)
    unexplained, reasons = replay.compare(all_steps, theirs, mine)
    print(json.dumps({"requests": len(all_steps), "allowed": reasons}, indent=2))
    assert not unexplained, f"{len(unexplained)} of {len(all_steps)}:\n" + "\n".join(unexplained)
    unused = [rule.reason for rule in allowed.ALLOWED if rule.reason not in reasons]
    assert not unused, f"these explain nothing: {unused}"
