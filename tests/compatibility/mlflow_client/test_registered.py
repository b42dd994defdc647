"""What MLflow's own client registers: its numbers and bytes here, who may read them, and who is told."""

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import pathlib
import threading
import uuid

import mlflow
import pytest
import quarry_server
import requests
from mlflow import MlflowClient
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel
from sklearn.linear_model import LogisticRegression

ROWS = [[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.1]]


def asked(server, method, path, body=None, token=None):
    headers = {"authorization": f"Bearer {token or server.token}"}
    answer = requests.request(method, server.url + path, json=body, headers=headers, timeout=30)
    assert answer.ok, (method, path, answer.status_code, answer.text)
    return answer.json()


@contextlib.contextmanager
def session(server, namespace, monkeypatch, token=None):
    """The client in a namespace."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token or server.token)
    monkeypatch.setenv("MLFLOW_WORKSPACE", namespace)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    yield MlflowClient(server.url)
    while mlflow.active_run():
        mlflow.end_run()


@pytest.fixture
def client(ground, namespace, monkeypatch):
    asked(ground, "POST", "/v1/namespaces", {"name": namespace})
    with session(ground, namespace, monkeypatch) as one:
        yield one


class Says(PythonModel):
    """A model that says one word."""

    def __init__(self, word):
        self.word = word

    def predict(self, context, model_input, params=None):
        return [self.word] * len(model_input)


def test_a_registered_version_has_the_numbers_of_its_run(client, ground, namespace):
    model = LogisticRegression().fit(ROWS, [0, 1, 0, 1])
    mlflow.set_experiment("numbers")
    for acc, rate in ((0.5, "0.1"), (0.75, "0.2")):
        with mlflow.start_run():
            mlflow.log_metric("acc", acc - 0.3, step=0)
            mlflow.log_metric("acc", acc, step=1)
            mlflow.log_param("lr", rate)
            mlflow.sklearn.log_model(model, name="model", registered_model_name="net", input_example=ROWS,
                                     pip_requirements=["scikit-learn"])
    client.copy_model_version("models:/net/2", "copy")

    def found(query):
        rows = ground.json("models", "search", f'namespace = "{namespace}" AND {query}')["versions"]
        return sorted((row["model"], row["number"]) for row in rows)

    assert found("metrics.acc > 0.6") == [("copy", 1), ("net", 2)]
    assert found("metrics.acc > 0.4") == [("copy", 1), ("net", 1), ("net", 2)]
    assert found('flavor = "sklearn"') == [("copy", 1), ("net", 1), ("net", 2)]
    assert found("params.lr = 0.1") == [("net", 1)]
    compared = ground.json("models", "compare", f"{namespace}/net@1", f"{namespace}/net@2")["fields"]
    fields = {field["field"]: field["values"] for field in compared}
    assert fields["metrics.acc"] == ["0.5", "0.75"] and fields["params.lr"] == ["0.1", "0.2"], fields
    facets = ground.json("models", "facets", f"{namespace}/net", "--by", "flavor,params.lr")["facets"]
    assert {value["value"] for value in facets[0]["values"]} == {"python_function", "sklearn"}, facets

    gate = {"metric": "acc", "comparison": "COMPARISON_AT_LEAST", "threshold": 0.7}
    stages = {"stages": [{"name": "prod", "metrics": [gate]}, {"name": "Archived"}]}
    asked(ground, "PUT", f"/v1/namespaces/{namespace}/model-stages", stages)
    with pytest.raises(MlflowException, match="it is 0.5"):
        client.transition_model_version_stage("net", "1", "prod")
    assert client.transition_model_version_stage("net", "2", "PROD", archive_existing_versions=True).current_stage == "prod"
    assert [it.version for it in client.get_latest_versions("net", stages=["Prod"])] == ["2"]
    assert list(mlflow.sklearn.load_model("models:/net/prod").predict(ROWS)) == [0, 1, 0, 1]
    with pytest.raises(MlflowException, match="Nowhere"):
        client.get_latest_versions("net", stages=["Nowhere"])


def test_a_logged_dataset_is_an_edge_to_its_version(client, ground, namespace):
    asked(ground, "POST", f"/v1/namespaces/{namespace}/datasets", {"name": "cats"})
    path = f"/v1/namespaces/{namespace}/datasets/cats"
    ours, other = HTTPDatasetSource(ground.url + path), HTTPDatasetSource("http://elsewhere.example" + path)
    mlflow.set_experiment("edges")
    with mlflow.start_run():
        mlflow.log_input(MetaDataset(ours, name="ours"), context="training")
        mlflow.log_input(MetaDataset(other, name="other"), context="training")
        mlflow.sklearn.log_model(LogisticRegression().fit(ROWS, [0, 1, 0, 1]), name="model", registered_model_name="net",
                                 pip_requirements=["scikit-learn"])
    lineage = asked(ground, "GET", f"/v1/namespaces/{namespace}/models/net/versions/1/lineage")
    named = [(of["name"], of["context"]) for of in lineage["datasets"]]
    assert named == [(f"{namespace}/cats", "training")], lineage


def test_what_was_registered_is_what_is_loaded_by_whom_may_read_the_model(client, ground, namespace, monkeypatch, tmp_path):
    mlflow.set_experiment("bytes")
    with mlflow.start_run():
        info = mlflow.pyfunc.log_model(name="model", python_model=Says("first"), registered_model_name="says", pip_requirements=["mlflow"])
        (tmp_path / "word").write_text("first")
        mlflow.log_artifact(str(tmp_path / "word"), "plain")
        run = mlflow.active_run().info.run_id
    client.create_registered_model("plain")
    client.create_model_version("plain", f"runs:/{run}/plain", run_id=run)
    # Written anew, where it was logged.
    (tmp_path / "word").write_text("second")
    client.log_artifact(run, str(tmp_path / "word"), "plain")
    uri = client.get_model_version_download_uri("plain", "1")
    assert uri.startswith("mlflow-artifacts:/quarry-versions/"), uri
    got = mlflow.artifacts.download_artifacts("models:/plain/1", dst_path=str(tmp_path / "got"))
    assert (pathlib.Path(got) / "word").read_text() == "first"
    got = mlflow.artifacts.download_artifacts(f"runs:/{run}/plain/word", dst_path=str(tmp_path / "run"))
    assert pathlib.Path(got).read_text() == "second"
    assert mlflow.pyfunc.load_model(info.model_uri).predict([1]) == ["first"]

    user = f"u{uuid.uuid4().hex[:12]}"
    ground.cli("users", "create", user)
    token = ground.json("tokens", "create", "--user", user)["secret"]
    for name, level in (("says", "LEVEL_READ"), ("plain", "LEVEL_WRITE")):
        found = asked(ground, "GET", f"/v1/namespaces/{namespace}/models/{name}")["model"]["id"]
        kind = {"kind": "RESOURCE_KIND_MODEL", "id": found}
        asked(ground, "POST", "/v1/grants", {"user": user, "resource": kind, "level": level})
    with session(ground, namespace, monkeypatch, token) as mine:
        assert mlflow.pyfunc.load_model("models:/says/1").predict([1]) == ["first"]
        with pytest.raises(MlflowException):
            mine.get_run(run)
        with pytest.raises(MlflowException):
            mine.set_model_version_tag("says", "1", "k", "v")
        assert mine.create_model_version("plain", "s3://bucket/m").version == "2"
        assert mine.create_model_version("plain", "models:/plain/1").version == "3"
        with pytest.raises(MlflowException):
            mine.create_model_version("plain", f"runs:/{run}/plain", run_id=run)
        assert mine.transition_model_version_stage("plain", "3", "Staging").current_stage == "Staging"
        got = mlflow.artifacts.download_artifacts("models:/plain/Staging", dst_path=str(tmp_path / "mine"))
        assert (pathlib.Path(got) / "word").read_text() == "first"
        mine.set_registered_model_alias("plain", "20240115", "1")
        assert mine.get_model_version_by_alias("plain", "20240115").version == "1"
        got = mlflow.artifacts.download_artifacts("models:/plain@20240115", dst_path=str(tmp_path / "alias"))
        assert (pathlib.Path(got) / "word").read_text() == "first"
        with pytest.raises(MlflowException, match="not found"):
            mine.get_model_version("plain", "20240115")
    shown = ground.json("models", "download", f"{namespace}/plain@alias:20240115", str(tmp_path / "cli"))
    assert shown["files"] == 1 and (tmp_path / "cli/word").read_text() == "first"


def test_a_file_whose_name_begins_like_a_drive_is_fetched(client, ground, tmp_path):
    mlflow.set_experiment("names")
    with mlflow.start_run() as run:
        (tmp_path / "x:y").write_text("odd")
        mlflow.log_artifact(str(tmp_path / "x:y"), "plain")
    client.create_registered_model("odd")
    client.create_model_version("odd", f"runs:/{run.info.run_id}/plain", run_id=run.info.run_id)
    got = mlflow.artifacts.download_artifacts("models:/odd/1", dst_path=str(tmp_path / "got"))
    assert (pathlib.Path(got) / "x:y").read_text() == "odd"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.headers, body))
        status = 500 if self.path == "/broken" else 200
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"heard")

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.got, server.url = [], f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def until(holds):
    """Waits for what comes by itself."""
    end = threading.Event()
    for _ in range(400):
        if found := holds():
            return found
        end.wait(0.05)
    raise AssertionError("it did not come")


def test_webhooks_are_made_tried_told_and_ended(receiver, namespace, monkeypatch):
    variables = {"QUARRY_MODELS__WEBHOOKS_ALLOW_PRIVATE": "true"}
    with quarry_server.Server(variables=variables) as server, session(server, namespace, monkeypatch) as client:
        asked(server, "POST", "/v1/namespaces", {"name": namespace})
        events = ["registered_model.created", "model_version_tag.set"]
        made = client.create_webhook("ci", f"{receiver.url}/hook", events, description="d", secret="s3cret")
        assert {str(event) for event in made.events} == set(events) and made.status == "ACTIVE"
        prompts = client.create_webhook("prompts", f"{receiver.url}/prompts", ["prompt.created", "prompt_version.created"])
        # One of kinds that MLflow has no word for is none here.
        ours = {"name": "ours", "url": f"{receiver.url}/ours", "kinds": ["EVENT_KIND_CARD_SET"]}
        asked(server, "POST", f"/v1/namespaces/{namespace}/model-webhooks", ours)
        assert {hook.name for hook in client.list_webhooks()} == {"ci", "prompts"}
        assert client.get_webhook(made.webhook_id).description == "d"
        with pytest.raises(MlflowException, match="budget"):
            client.create_webhook("b", f"{receiver.url}/hook", ["budget_policy.exceeded"])

        tried = client.test_webhook(made.webhook_id)
        assert (tried.success, tried.response_status, tried.response_body) == (True, 200, "heard")
        tried = client.test_webhook(prompts.webhook_id, "prompt_version.created")
        assert tried.success
        headers, body = receiver.got[0]
        said = json.loads(body)
        assert (said["entity"], said["action"], said["data"]["name"]) == ("registered_model", "created", "example_model")
        signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.new(b"s3cret", signed, hashlib.sha256).digest()).decode()
        assert headers["X-MLflow-Signature"] == f"v1,{mac}"
        assert json.loads(receiver.got[1][1])["data"]["template"] == "Hello {{name}}!"
        changed = client.update_webhook(made.webhook_id, url=f"{receiver.url}/broken", events=["model_version.created"])
        assert [str(event) for event in changed.events] == ["model_version.created"]
        tried = client.test_webhook(made.webhook_id)
        assert (tried.success, tried.response_status) == (False, 500)
        client.update_webhook(made.webhook_id, url="http://127.0.0.1:1/")
        tried = client.test_webhook(made.webhook_id)
        assert not tried.success and "Failed to test webhook" in tried.error_message

        client.update_webhook(made.webhook_id, url=f"{receiver.url}/hook", events=events, status="DISABLED")
        assert client.get_webhook(made.webhook_id).status == "DISABLED"
        receiver.got.clear()
        # Told in their order: once the witness has it, the disabled one was passed over.
        witness = client.create_webhook("witness", f"{receiver.url}/witness", ["registered_model.created"])
        client.create_registered_model("quiet")
        until(lambda: receiver.got)
        client.delete_webhook(witness.webhook_id)
        receiver.got.clear()
        client.update_webhook(made.webhook_id, status="ACTIVE")
        client.create_registered_model("loud")
        client.register_prompt("greeting", "Hi {{who}}!", tags={"team": "a"})
        until(lambda: len(receiver.got) >= 3)
        told = [json.loads(body) for _, body in receiver.got]
        kinds = sorted((it["entity"], it["action"], it["data"]["name"]) for it in told)
        assert kinds == [
            ("prompt", "created", "greeting"), ("prompt_version", "created", "greeting"),
            ("registered_model", "created", "loud"),
        ], told
        version = next(it["data"] for it in told if it["entity"] == "prompt_version")
        assert version["template"] == "Hi {{who}}!" and "mlflow.prompt.is_prompt" not in version["tags"], version
        client.delete_webhook(made.webhook_id)
        with pytest.raises(MlflowException, match="not found"):
            client.get_webhook(made.webhook_id)
        assert [hook.name for hook in client.list_webhooks()] == ["prompts"]
