"""Registries that move here: MLflow's by its database and its server, and the small one of raw SQL."""

import hashlib
import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import time
import uuid

import mlflow
import pytest
import quarry_server
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

SMALL = """
CREATE TABLE mr_models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT,
  created_at TEXT NOT NULL, updated_at TEXT NOT NULL);
CREATE TABLE mr_model_versions (id INTEGER PRIMARY KEY, model_id INTEGER NOT NULL, version TEXT NOT NULL,
  description TEXT, storage_path TEXT NOT NULL, file_size_bytes INTEGER DEFAULT 0, created_at TEXT NOT NULL,
  FOREIGN KEY (model_id) REFERENCES mr_models(id) ON DELETE CASCADE, UNIQUE(model_id, version));
CREATE TABLE mr_model_tags (id INTEGER PRIMARY KEY, model_version_id INTEGER NOT NULL, tag_key TEXT NOT NULL,
  tag_value TEXT, FOREIGN KEY (model_version_id) REFERENCES mr_model_versions(id) ON DELETE CASCADE,
  UNIQUE(model_version_id, tag_key));
CREATE TABLE schema_migrations (version TEXT PRIMARY KEY, applied_at TEXT NOT NULL);
"""


@pytest.fixture(scope="module")
def source(peer, peer_place):
    """A registry in MLflow's own server: two versions with files and numbers, one deleted."""
    os.environ.pop("MLFLOW_TRACKING_TOKEN", None)
    os.environ.pop("MLFLOW_WORKSPACE", None)
    mlflow.set_tracking_uri(peer)
    mlflow.set_registry_uri(peer)
    name = f"moving-{uuid.uuid4().hex}"
    rows = [[0.0, 1.0], [1.0, 0.0], [0.2, 0.9], [0.9, 0.1]]
    mlflow.set_experiment("moving")
    with mlflow.start_run():
        mlflow.log_params({"c": 1.0})
        mlflow.log_metric("acc", 0.25, step=1)
        mlflow.log_metric("acc", 0.75, step=2)
        mlflow.log_metric("nothing", float("nan"))
        model = LogisticRegression().fit(rows, [0, 1, 0, 1])
        for _ in range(3):
            mlflow.sklearn.log_model(model, name="model", registered_model_name=name)
    client = MlflowClient(peer)
    client.delete_model_version(name, "2")
    client.set_registered_model_alias(name, "champion", "3")
    client.set_model_version_tag(name, "1", "checked", "yes")
    client.set_registered_model_tag(name, "owner", "ana")
    client.update_registered_model(name, "moves")
    client.transition_model_version_stage(name, "1", "Staging")
    return name, rows


def versions(server, namespace, model):
    listed = server.json("models", "versions", f"{namespace}/{model}")
    return {version["number"]: version for version in listed["versions"]}


@pytest.mark.parametrize("way", ["server", "database"])
def test_a_registry_of_mlflows_moves_once(ground, namespace, peer, peer_place, source, way, monkeypatch):
    name, rows = source
    ground.cli("namespaces", "create", namespace)
    place = [peer] if way == "server" else [peer_place / "mlflow.db", "--artifacts", peer_place / "artifacts"]
    import_it = ["models", "import", namespace, *place, "--model", name]
    tried = ground.json(*import_it, "--dry-run")
    assert (tried["created"], tried["failed"]) == (2, 0) and tried["bytes"] > 0, tried
    done = ground.json(*import_it)
    assert (done["created"], done["failed"], done["aliases"]) == (2, 0, 1), done
    assert done["sent_bytes"] < done["bytes"], f"equal files go once: {done}"
    again = ground.json(*import_it)
    assert (again["created"], again["present"], again["sent_bytes"], again["aliases"]) == (0, 2, 0, 0), again

    found = versions(ground, namespace, name)
    assert sorted(found) == [1, 3], "numbers stay, and the deleted one's is free"
    assert found[3]["aliases"] == ["champion"] and found[1]["stage"] == "Staging"
    assert found[1]["tags"]["checked"] == "yes" and "sklearn" in found[1]["flavors"]
    shown = ground.json("models", "show", f"{namespace}/{name}")["model"]
    assert (shown["description"], shown["tags"]["owner"]) == ("moves", "ana")
    wanted = f'metrics.acc = 0.75 AND params.c = "1.0" AND namespace = "{namespace}"'
    assert len(ground.json("models", "search", wanted)["versions"]) == 2

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", ground.token)
    monkeypatch.setenv("MLFLOW_WORKSPACE", namespace)
    mlflow.set_tracking_uri(ground.url)
    mlflow.set_registry_uri(ground.url)
    for uri in (f"models:/{name}/1", f"models:/{name}@champion"):
        assert list(mlflow.sklearn.load_model(uri).predict(rows)) == [0, 1, 0, 1], uri


def test_the_same_registry_by_two_ways_is_one(server, namespace, peer, peer_place, source):
    name, _ = source
    server.cli("namespaces", "create", namespace)
    server.json("models", "import", namespace, peer, "--model", name)
    database = [peer_place / "mlflow.db", "--artifacts", peer_place / "artifacts", "--model", name]
    again = server.json("models", "import", namespace, *database)
    assert (again["created"], again["present"]) == (0, 2), again


def small_registry(place, count, size):
    """The small registry with versions of random bytes; answers their digests."""
    connection = sqlite3.connect(place / "registry.db")
    digests = {}
    with connection:
        connection.executescript(SMALL)
        connection.execute("INSERT INTO mr_models VALUES (1, 'net', 'small', 't', 't')")
        for number in range(1, count + 1):
            content = os.urandom(size)
            path = place / f"net/v{number}/model.pkl"
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
            digests[number] = hashlib.sha256(content).hexdigest()
            row = (number, str(number), f"net/v{number}/model.pkl", size)
            connection.execute("INSERT INTO mr_model_versions VALUES (?, 1, ?, NULL, ?, ?, 't')", row)
            connection.execute("INSERT INTO mr_model_tags VALUES (?, ?, 'n', ?)", (number, number, str(number)))
    connection.close()
    return digests


def test_an_import_that_was_killed_goes_on(ground, namespace, tmp_path):
    digests = small_registry(tmp_path, 30, 300_000)
    ground.cli("namespaces", "create", namespace)
    report = tmp_path / "report"
    command = ["models", "import", namespace, tmp_path / "registry.db", "--report", report]
    environment = quarry_server.environment({"QUARRY_SERVER": ground.url, "QUARRY_TOKEN": ground.token})
    running = subprocess.Popen([ground.executable, *map(str, command)], env=environment,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(versions_or_none(ground, namespace)) < 3:
        assert time.monotonic() < end and running.poll() is None, "it ended too soon to be killed"
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = ground.json(*command)
    assert done["failed"] == 0 and done["created"] + done["present"] == 30 and done["present"] >= 3, done
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["version"] for line in lines] == [str(number) for number in range(1, 31)]
    found = versions(ground, namespace, "net")
    assert sorted(found) == list(range(1, 31)) and all(found[n]["tags"]["n"] == str(n) for n in found)
    target = tmp_path / "down"
    for number in (1, 15, 30):
        ground.cli("models", "download", f"{namespace}/net@{number}", target / str(number))
        content = (target / str(number) / "model.pkl").read_bytes()
        assert hashlib.sha256(content).hexdigest() == digests[number]


def versions_or_none(server, namespace):
    listed = server.cli("models", "versions", f"{namespace}/net", "-o", "json", check=False)
    return json.loads(listed.stdout)["versions"] if listed.returncode == 0 else []


def test_a_damaged_source_is_named_and_brings_nothing(server, namespace, tmp_path):
    small_registry(tmp_path, 2, 100)
    server.cli("namespaces", "create", namespace)
    path = tmp_path / "registry.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    failed = server.cli("models", "import", namespace, path, check=False)
    assert failed.returncode == 7 and "registry.db" in failed.stderr, failed
    path.write_bytes(whole)
    (tmp_path / "net/v2/model.pkl").write_bytes(b"shorter")
    partly = server.cli("models", "import", namespace, path, "-o", "json", check=False)
    report = json.loads(partly.stdout)
    assert partly.returncode == 1 and (report["created"], report["failed"]) == (1, 1), report
    assert report["rows"][0]["version"] == "2" and "100" in report["rows"][0]["message"], report
    other = pathlib.Path(tmp_path / "text")
    other.write_text("no registry")
    failed = server.cli("models", "import", namespace, other, check=False)
    assert failed.returncode == 7 and "no registry" in failed.stderr, failed
