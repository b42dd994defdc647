"""What is asked of both servers, in order.

A step is (method, path, query, body, save). `save` names values of the answer for later steps, which write
them as `{name}`; in what is compared they are `<name>`.
"""

import copy

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts"


class Steps:
    def __init__(self):
        self.all = []

    def add(self, method, path, query=None, body=None, save=None, headers=None, data=None):
        if path.startswith("+"):
            path = ARTIFACTS + path[1:]
        elif not path.startswith(("/api/", "/ajax-api/")) and path not in ("/health", "/version"):
            path = API + path
        self.all.append({
            "method": method, "path": path, "query": query, "body": copy.deepcopy(body),
            "save": save or {}, "headers": headers or {}, "data": data,
        })

    def get(self, path, query=None, save=None):
        self.add("GET", path, query=query, save=save)

    def post(self, path, body, save=None, **more):
        self.add("POST", path, body=body, save=save, **more)

    def patch(self, path, body):
        self.add("PATCH", path, body=body)

    def delete(self, path, body):
        self.add("DELETE", path, body=body)


def experiments(s):
    s.get("/experiments/get", {"experiment_id": "0"})
    s.get("/experiments/get-by-name", {"experiment_name": "Default"})
    for name in ("alpha", "beta", "gamma"):
        s.post("/experiments/create", {"name": name, "tags": [{"key": "team", "value": name[0]}]},
               save={f"exp_{name}": "experiment_id"})
    s.post("/experiments/create", {"name": "alpha"})
    s.post("/experiments/create", {})
    s.post("/experiments/create", {"name": ""})
    s.post("/experiments/create", {"name": 5})
    s.post("/experiments/create", {"name": "x" * 501})
    s.post("/experiments/create", {"name": "bad-tags", "tags": "no list"})
    s.post("/experiments/create", {"name": "bad-place", "artifact_location": "runs:/a/b"})
    s.post("/experiments/create", {"name": "elsewhere", "artifact_location": "s3://bucket/place"},
           save={"exp_elsewhere": "experiment_id"})
    s.get("/experiments/get", {"experiment_id": "{exp_alpha}"})
    s.get("/experiments/get", {"experiment_id": "{exp_elsewhere}"})
    s.get("/experiments/get", {"experiment_id": "987654"})
    s.get("/experiments/get", {"experiment_id": "nonsense"})
    s.get("/experiments/get")
    s.get("/experiments/get-by-name", {"experiment_name": "nobody"})
    s.get("/experiments/get-by-name", {"experiment_name": "beta"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "{exp_alpha}", "key": "k", "value": "v"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "{exp_alpha}", "key": "k", "value": "w"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "{exp_alpha}", "key": "bad$key", "value": "w"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "{exp_alpha}", "key": "a//b", "value": "w"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "987654", "key": "k", "value": "w"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "{exp_alpha}", "value": "w"})
    s.get("/experiments/get", {"experiment_id": "{exp_alpha}"})
    s.post("/experiments/delete-experiment-tag", {"experiment_id": "{exp_alpha}", "key": "k"})
    s.post("/experiments/delete-experiment-tag", {"experiment_id": "{exp_alpha}", "key": "k"})
    s.post("/experiments/update", {"experiment_id": "{exp_beta}", "new_name": "beta two"})
    s.post("/experiments/update", {"experiment_id": "{exp_beta}"})
    s.post("/experiments/delete", {"experiment_id": "{exp_gamma}"})
    s.post("/experiments/delete", {"experiment_id": "{exp_gamma}"})
    s.post("/experiments/update", {"experiment_id": "{exp_gamma}", "new_name": "gone"})
    s.post("/experiments/set-experiment-tag", {"experiment_id": "{exp_gamma}", "key": "k", "value": "w"})
    s.get("/experiments/get", {"experiment_id": "{exp_gamma}"})
    for query in (
        {"max_results": 10}, {"max_results": 2}, {"max_results": 0}, {"max_results": 60000}, {"max_results": -1},
        {"max_results": 10, "view_type": "DELETED_ONLY"}, {"max_results": 10, "view_type": "ALL"},
        {"max_results": 10, "filter": "name = 'alpha'"}, {"max_results": 10, "filter": "name LIKE 'al%'"},
        {"max_results": 10, "filter": "name ILIKE 'AL%'"}, {"max_results": 10, "filter": "name != 'alpha'"},
        {"max_results": 10, "filter": "tags.team = 'a'"}, {"max_results": 10, "filter": "tag.team != 'a'"},
        {"max_results": 10, "filter": "tags.team IS NULL"}, {"max_results": 10, "filter": "tags.team IS NOT NULL"},
        {"max_results": 10, "filter": "creation_time > 0"}, {"max_results": 10, "filter": "creation_time > 'x'"},
        {"max_results": 10, "filter": "name > 'a'"}, {"max_results": 10, "filter": "unknown = 'a'"},
        {"max_results": 10, "filter": "params.a = 'b'"}, {"max_results": 10, "filter": "name = alpha"},
        {"max_results": 10, "filter": "name"}, {"max_results": 10, "filter": "name = 'a' OR name = 'b'"},
        {"max_results": 10, "order_by": ["name DESC"]}, {"max_results": 10, "order_by": ["name ASC"]},
        {"max_results": 10, "order_by": ["experiment_id DESC"]}, {"max_results": 10, "order_by": ["unknown"]},
        {"max_results": 10, "order_by": ["name upwards"]}, {"max_results": 10, "order_by": ["tags.team"]},
        {"max_results": 10, "filter": "experiment_id = '0'"}, {"max_results": 10, "filter": "experiment_id IN ('0')"},
        {"max_results": 10, "filter": "name IN ('alpha')"},
    ):
        s.post("/experiments/search", query)
    s.get("/experiments/search", {"max_results": 3, "order_by": "name ASC"})
    s.post("/experiments/restore", {"experiment_id": "{exp_gamma}"})
    s.post("/experiments/restore", {"experiment_id": "{exp_gamma}"})


def runs(s):
    s.post("/runs/create", {"experiment_id": "{exp_alpha}", "run_name": "one", "start_time": 1000, "user_id": "ana",
                            "tags": [{"key": "color", "value": "red"}]}, save={"run1": "run.info.run_id"})
    s.post("/runs/create", {"experiment_id": "{exp_alpha}", "run_name": "two", "start_time": 2000},
           save={"run2": "run.info.run_id"})
    s.post("/runs/create", {"experiment_id": "{exp_alpha}", "start_time": 3000,
                            "tags": [{"key": "mlflow.runName", "value": "three"}]}, save={"run3": "run.info.run_id"})
    s.post("/runs/create", {"experiment_id": "{exp_alpha}", "start_time": 4000, "run_name": "x",
                            "tags": [{"key": "mlflow.runName", "value": "y"}]})
    s.post("/runs/create", {"experiment_id": "987654"})
    s.post("/runs/create", {"experiment_id": "{exp_alpha}", "start_time": "soon"})
    s.post("/runs/create", {"experiment_id": "0", "start_time": "5000", "run_name": "of the default"},
           save={"run4": "run.info.run_id"})
    s.get("/runs/get", {"run_id": "{run1}"})
    s.get("/runs/get", {"run_uuid": "{run1}"})
    s.get("/runs/get", {"run_id": "0" * 32})
    s.get("/runs/get")
    for key, value, step in (("acc", 0.5, 0), ("acc", 0.75, 1), ("acc", 0.25, 2), ("loss", 3, 0), ("nan", "NaN", 0),
                             ("inf", "Infinity", 0), ("neg", "-Infinity", 0), ("a b/c.d-e:f", 1, 0)):
        s.post("/runs/log-metric", {"run_id": "{run1}", "key": key, "value": value, "timestamp": 10 + step, "step": step})
    s.post("/runs/log-metric", {"run_id": "{run1}", "key": "acc", "value": 0.25, "timestamp": 12, "step": 2})
    for body in ({"key": "acc"}, {"key": "acc", "value": 1}, {"key": "", "value": 1, "timestamp": 1},
                 {"key": "bad$", "value": 1, "timestamp": 1}, {"key": "a//b", "value": 1, "timestamp": 1},
                 {"key": "acc", "value": "high", "timestamp": 1}, {"key": "acc", "value": 1, "timestamp": -1},
                 {"key": "k" * 251, "value": 1, "timestamp": 1}):
        s.post("/runs/log-metric", {"run_id": "{run1}", **body})
    s.post("/runs/log-metric", {"run_id": "0" * 32, "key": "acc", "value": 1, "timestamp": 1})
    s.post("/runs/log-metric", {"key": "acc", "value": 1, "timestamp": 1})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "key": "lr", "value": "0.1"})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "key": "lr", "value": "0.1"})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "key": "lr", "value": "0.2"})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "key": "empty", "value": ""})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "key": "long", "value": "x" * 6001})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "key": "../up", "value": "x"})
    s.post("/runs/log-parameter", {"run_id": "{run1}", "value": "x"})
    s.post("/runs/set-tag", {"run_id": "{run1}", "key": "color", "value": "blue"})
    s.post("/runs/set-tag", {"run_id": "{run1}", "key": "note", "value": "ünï → ∎"})
    s.post("/runs/set-tag", {"run_id": "{run1}", "key": "bad\\key", "value": "x"})
    s.post("/runs/set-tag", {"run_id": "{run1}", "key": "mlflow.runName", "value": "renamed"})
    s.post("/runs/set-tag", {"run_id": "{run1}", "value": "x"})
    s.post("/runs/delete-tag", {"run_id": "{run1}", "key": "note"})
    s.post("/runs/delete-tag", {"run_id": "{run1}", "key": "note"})
    s.get("/runs/get", {"run_id": "{run1}"})
    s.post("/runs/log-batch", {
        "run_id": "{run2}", "params": [{"key": "lr", "value": "0.2"}, {"key": "depth", "value": "3"}],
        "metrics": [{"key": "acc", "value": 0.9, "timestamp": 1, "step": 0}, {"key": "loss", "value": 1.5, "timestamp": 2, "step": 0}],
        "tags": [{"key": "color", "value": "green"}],
    })
    for body in ({"run_id": "{run2}", "metrics": [{"key": "a"}]}, {"run_id": "{run2}", "params": [{"value": "a"}]},
                 {"run_id": "{run2}", "tags": [{"value": "a"}]}, {"run_id": "{run2}", "metrics": "none"}, {},
                 {"run_id": "{run2}", "params": [{"key": "p", "value": "1"}, {"key": "p", "value": "2"}]},
                 {"run_id": "{run2}", "params": [{"key": "lr", "value": "9"}]},
                 {"run_id": "{run2}", "params": [{"key": f"p{at}", "value": "1"} for at in range(101)]},
                 {"run_id": "{run2}", "tags": [{"key": f"p{at}", "value": "1"} for at in range(101)]},
                 {"run_id": "{run2}", "metrics": [{"key": f"m{at}", "value": 1, "timestamp": 1} for at in range(1001)]},
                 {"run_id": "{run2}"}):
        s.post("/runs/log-batch", body)
    s.get("/runs/get", {"run_id": "{run2}"})
    for query in ({"run_id": "{run1}", "metric_key": "acc"}, {"run_id": "{run1}", "metric_key": "none"},
                  {"run_id": "{run1}", "metric_key": "acc", "max_results": 2}, {"run_id": "{run1}", "metric_key": "nan"},
                  {"run_id": "{run1}", "metric_key": "acc", "max_results": 0}, {"run_id": "{run1}"}, {"metric_key": "acc"},
                  {"run_id": "0" * 32, "metric_key": "acc"}):
        s.get("/metrics/get-history", query)
    s.get("/metrics/get-history-bulk-interval", {"run_ids": ["{run1}", "{run2}"], "metric_key": "acc", "max_results": 100})
    s.get("/metrics/get-history-bulk-interval", {"run_ids": ["{run1}"], "metric_key": "acc", "start_step": 1, "end_step": 2})
    s.get("/metrics/get-history-bulk-interval", {"run_ids": ["{run1}"], "metric_key": "acc", "start_step": 1})
    s.get("/metrics/get-history-bulk-interval", {"run_ids": ["{run1}"], "metric_key": "acc", "start_step": 3, "end_step": 2})
    s.post("/runs/update", {"run_id": "{run1}", "status": "FINISHED", "end_time": 9000})
    s.post("/runs/update", {"run_id": "{run2}", "status": "FAILED"})
    s.post("/runs/update", {"run_id": "{run2}", "run_name": "second"})
    s.post("/runs/update", {"run_id": "{run2}", "status": "ASLEEP"})
    s.post("/runs/update", {"run_id": "0" * 32, "status": "FINISHED"})
    s.post("/runs/update", {"status": "FINISHED"})
    s.post("/runs/log-inputs", {"run_id": "{run1}", "datasets": [
        {"dataset": {"name": "d", "digest": "abc", "source_type": "local", "source": "{}", "schema": "s", "profile": "p"},
         "tags": [{"key": "mlflow.data.context", "value": "training"}]}]})
    s.post("/runs/log-inputs", {"run_id": "{run1}", "datasets": [
        {"dataset": {"name": "n" * 501, "digest": "abc", "source_type": "local", "source": "{}"}}]})
    s.post("/runs/log-inputs", {"run_id": "{run1}", "datasets": [
        {"dataset": {"name": "n", "digest": "x" * 37, "source_type": "local", "source": "{}"}}]})
    s.post("/runs/log-inputs", {"datasets": []})
    s.get("/runs/get", {"run_id": "{run1}"})
    s.post("/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": ["{exp_alpha}"]})
    s.post("/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": []})
    s.post("/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": [str(at) for at in range(21)]})
    s.post("/runs/log-model", {"run_id": "{run2}", "model_json": "{nonsense"})
    s.post("/runs/log-model", {"run_id": "{run2}"})


def run_searches(s):
    filters = [
        "", "metrics.acc > 0.3", "metrics.acc > 0.3 and metrics.loss < 2", "metrics.acc = 0.25", "metrics.acc != 0.25",
        "metrics.nan > 0", "metrics.nan != 0", "metric.acc >= 0.9", "metrics.`acc` <= 0.9", 'metrics."acc" < 0.5',
        "params.lr = '0.1'", "params.lr != '0.1'", "params.lr LIKE '0._'", "params.lr ILIKE '0.%'", "param.depth = \"3\"",
        "tags.color = 'blue'", "tags.color LIKE 'gr%'", "tags.color LIKE 'GR%'", "tags.color ILIKE 'GR%'",
        "tags.color IS NULL", "tags.color IS NOT NULL", "params.depth IS NULL", "attributes.status = 'FINISHED'",
        "status != 'FINISHED'", "status = 'RUNNING'", "run_name = 'renamed'", "run_name LIKE '%e%'", "attributes.start_time > 1500",
        "start_time <= 2000", "end_time > 0", "Created > 1500", "run_id = '{run1}'", "run_id IN ('{run1}', '{run2}')",
        "run_id NOT IN ('{run1}')", "dataset.name = 'd'", "dataset.digest = 'abc'", "dataset.context = 'training'",
        "datasets.name LIKE 'd%'", "user_id = 'ana'", "artifact_uri LIKE '%artifacts'",
    ]
    for text in filters:
        s.post("/runs/search", {"experiment_ids": ["{exp_alpha}"], "filter": text})
    wrong = [
        "metrics.acc", "metrics.acc > 'x'", "metrics.acc LIKE 5", "params.lr = 0.1", "params.lr > '0.1'", "tags.color < 'a'",
        "foo.bar = 'x'", "status = FINISHED", "status > 'A'", "start_time > 'soon'", "start_time LIKE '1'", "unknown = 'a'",
        "metrics.acc > 1 OR metrics.acc < 2", "(metrics.acc > 1)", "metrics.acc > 1; metrics.acc < 2", "run_id IN ()",
        "run_id IN (1)", "run_name IN ('a')", "dataset.size = 'a'", "run_name IS NULL", "= 5", "metrics.acc >", "'a' = 'b'",
        "params.lr = 'unclosed", "dataset.name = 5",
    ]
    for text in wrong:
        s.post("/runs/search", {"experiment_ids": ["{exp_alpha}"], "filter": text})
    for order in (["metrics.acc DESC"], ["metrics.acc ASC"], ["params.lr"], ["params.depth DESC"], ["tags.color ASC"],
                  ["start_time ASC"], ["attributes.end_time DESC"], ["run_name"], ["attribute.status", "start_time DESC"],
                  ["metrics.acc", "metrics.acc"], ["unknown"], ["metrics.acc up"], ["metrics.acc DESC now"], ["created ASC"],
                  ["metrics.`a b/c.d-e:f` DESC"], [5]):
        s.post("/runs/search", {"experiment_ids": ["{exp_alpha}"], "order_by": order})
    for more in ({"max_results": 1}, {"max_results": 0}, {"max_results": -1}, {"max_results": 50001}, {"max_results": "many"},
                 {"run_view_type": "DELETED_ONLY"}, {"run_view_type": "ALL"}, {"experiment_ids": []},
                 {"experiment_ids": ["0"]}, {"experiment_ids": ["nonsense"]}, {"experiment_ids": "0"}):
        s.post("/runs/search", {"experiment_ids": ["{exp_alpha}"], **more})
    s.post("/runs/delete", {"run_id": "{run3}"})
    s.post("/runs/delete", {"run_id": "0" * 32})
    s.post("/runs/log-metric", {"run_id": "{run3}", "key": "acc", "value": 1, "timestamp": 1})
    s.post("/runs/set-tag", {"run_id": "{run3}", "key": "a", "value": "b"})
    s.post("/runs/search", {"experiment_ids": ["{exp_alpha}"], "run_view_type": "DELETED_ONLY"})
    s.get("/runs/get", {"run_id": "{run3}"})
    s.post("/runs/restore", {"run_id": "{run3}"})
    s.post("/runs/delete", {})


def artifacts(s):
    s.add("PUT", "+/artifacts/{exp_alpha}/{run1}/artifacts/model/MLmodel", data="flavors:\n  sklearn:\n    a: 1\n")
    s.add("PUT", "+/artifacts/{exp_alpha}/{run1}/artifacts/model/data/weights.bin", data="0123456789")
    s.add("PUT", "+/artifacts/{exp_alpha}/{run1}/artifacts/a b%20c.txt", data="space")
    s.add("PUT", "+/artifacts/{exp_alpha}/{run1}/artifacts/empty", data="")
    for path in ("..%2f..%2fetc%2fpasswd", "a/%2e%2e/b", "%252e%252e%252fa", "%2Fetc%2Fpasswd", "a%5c..%5cb", "a%23b"):
        s.add("PUT", f"+/artifacts/{path}", data="x")
        s.add("GET", f"+/artifacts/{path}")
        s.add("DELETE", f"+/artifacts/{path}")
    s.get("+/artifacts/{exp_alpha}/{run1}/artifacts/model/MLmodel")
    s.get("+/artifacts/{exp_alpha}/{run1}/artifacts/nothing")
    for query in ({"path": "{exp_alpha}/{run1}/artifacts"}, {"path": "{exp_alpha}/{run1}/artifacts/model"},
                  {"path": "{exp_alpha}/{run1}/artifacts/nothing"}, {"path": "../.."}, {"path": "/etc"}, {"path": "a/../../b"}):
        s.get("+/artifacts", query)
    for query in ({"run_id": "{run1}"}, {"run_id": "{run1}", "path": "model"}, {"run_id": "{run1}", "path": "model/data"},
                  {"run_id": "{run1}", "path": "nothing"}, {"run_id": "{run1}", "path": "../x"}, {"path": "x"},
                  {"run_id": "0" * 32}, {"run_uuid": "{run1}"}):
        s.get("/artifacts/list", query)
    s.add("DELETE", "+/artifacts/{exp_alpha}/{run1}/artifacts/empty")
    s.get("+/artifacts", {"path": "{exp_alpha}/{run1}/artifacts"})
    s.post("/artifacts/presigned-upload-url", {"path": "a"})
    s.post("/artifacts/presigned-upload-url", {"run_id": "{run1}", "path": "a"})
    s.post("/artifacts/presigned-download-url", {"run_id": "{run1}", "path": "a"})
    s.post("/artifacts/presigned-download-url", {"run_id": "{run1}"})


def logged_models(s):
    s.post("/logged-models", {"experiment_id": "{exp_alpha}", "name": "lm", "source_run_id": "{run1}", "model_type": "t",
                              "params": [{"key": "p", "value": "1"}], "tags": [{"key": "t", "value": "v"}]},
           save={"lm1": "model.info.model_id"})
    s.post("/logged-models", {"experiment_id": "{exp_alpha}", "name": "lm2"}, save={"lm2": "model.info.model_id"})
    s.post("/logged-models", {"experiment_id": "987654", "name": "lm"})
    s.post("/logged-models", {"name": "lm"})
    for name in ("a/b", "a:b", "a.b", "a%b", 'a"b'):
        s.post("/logged-models", {"experiment_id": "{exp_alpha}", "name": name})
    s.get("/logged-models/{lm1}")
    s.get("/logged-models/m-none")
    s.patch("/logged-models/{lm1}/tags", {"tags": [{"key": "a", "value": "b"}, {"key": "a", "value": "c"}]})
    s.delete("/logged-models/{lm1}/tags/t", {})
    s.delete("/logged-models/{lm1}/tags/t", {})
    s.post("/logged-models/{lm1}/params", {"model_id": "{lm1}", "params": [{"key": "q", "value": "2"}]})
    s.post("/logged-models/{lm1}/params", {"params": [{"key": "r", "value": "2"}]})
    s.post("/runs/log-metric", {"run_id": "{run1}", "key": "f1", "value": 0.7, "timestamp": 5, "model_id": "{lm1}"})
    s.post("/runs/log-metric", {"run_id": "{run1}", "key": "f1", "value": 0.9, "timestamp": 5, "model_id": "{lm2}"})
    s.patch("/logged-models/{lm1}", {"model_id": "{lm1}", "status": 2})
    s.patch("/logged-models/{lm2}", {"model_id": "{lm2}", "status": "LOGGED_MODEL_READY"})
    s.patch("/logged-models/{lm2}", {"status": 2})
    s.get("/logged-models/{lm1}")
    for body in ({}, {"filter": "name = 'lm'"}, {"filter": "metrics.f1 > 0.8"}, {"filter": "params.p = '1'"},
                 {"filter": "tags.a = 'c'"}, {"filter": "name LIKE 'lm%'"}, {"filter": "model_type = 't'"},
                 {"order_by": [{"field_name": "metrics.f1", "ascending": True}]},
                 {"order_by": [{"field_name": "metrics.f1", "ascending": False}]}, {"order_by": [{"field_name": "name"}]},
                 {"order_by": [{"field_name": "creation_time"}]}, {"order_by": [{"field_name": "params.p"}]},
                 {"max_results": 1}, {"filter": "name"}, {"datasets": [{"dataset_digest": "x"}]},
                 {"datasets": [{"dataset_name": "none"}]}):
        s.post("/logged-models/search", {"experiment_ids": ["{exp_alpha}"], **body})
    s.post("/logged-models/search", {})
    s.post("/runs/outputs", {"run_id": "{run1}", "models": [{"model_id": "{lm1}", "step": 2}]})
    s.post("/runs/log-inputs", {"run_id": "{run2}", "models": [{"model_id": "{lm1}"}]})
    s.get("/runs/get", {"run_id": "{run1}"})
    s.get("/runs/get", {"run_id": "{run2}"})
    s.add("PUT", "+/artifacts/{exp_alpha}/models/{lm1}/artifacts/MLmodel", data="flavors: {}\n")
    s.get("/logged-models/{lm1}/artifacts/directories")
    s.get("/logged-models/{lm1}/artifacts/directories", {"artifact_directory_path": "../up"})
    s.delete("/logged-models/{lm2}", {})
    s.get("/logged-models/{lm2}")
    s.get("/logged-models/{lm2}", {"allow_deleted": "true"})


def models(s):
    create = "/registered-models/create"
    s.post(create, {"name": "m", "description": "d", "tags": [{"key": "k", "value": "v"}]})
    s.post(create, {"name": "m"})
    s.post(create, {"name": "other"})
    s.post(create, {"name": "third model"})
    for name in ("", " ", "a/b", "a:b", "..", ".", 5, None):
        s.post(create, {"name": name})
    s.post(create, {"name": "bad", "tags": [{"key": "bad$", "value": "v"}]})
    s.post(create, {"name": "bad", "tags": [{"key": "k", "value": "x" * 100_001}]})
    s.post(create, {})
    s.add("POST", create, data="{\"name\": \"x\"}", headers={"content-type": "text/plain"})
    s.add("POST", create, data="not json", headers={"content-type": "application/json"})
    s.get("/registered-models/get", {"name": "m"})
    s.get("/registered-models/get", {"name": "none"})
    s.get("/registered-models/get")
    s.patch("/registered-models/update", {"name": "m", "description": "new"})
    s.patch("/registered-models/update", {"name": "none", "description": "new"})
    s.post("/registered-models/set-tag", {"name": "m", "key": "stage", "value": "x"})
    s.post("/registered-models/set-tag", {"name": "m", "key": "a//b", "value": "x"})
    s.post("/registered-models/set-tag", {"name": "none", "key": "stage", "value": "x"})
    s.delete("/registered-models/delete-tag", {"name": "m", "key": "stage"})
    s.delete("/registered-models/delete-tag", {"name": "m", "key": "stage"})
    s.delete("/registered-models/delete-tag", {"name": "none", "key": "stage"})
    s.post("/registered-models/rename", {"name": "other", "new_name": "renamed"})
    s.post("/registered-models/rename", {"name": "renamed", "new_name": "m"})
    s.post("/registered-models/rename", {"name": "renamed"})
    s.post("/registered-models/rename", {"name": "renamed", "new_name": "a/b"})
    s.post("/registered-models/rename", {"name": "none", "new_name": "x"})


def versions(s):
    create = "/model-versions/create"
    place = "mlflow-artifacts:/{exp_alpha}/{run1}/artifacts/model"
    s.post(create, {"name": "m", "source": place, "run_id": "{run1}", "description": "first",
                    "tags": [{"key": "k", "value": "v"}]})
    s.post(create, {"name": "m", "source": place, "run_id": "{run1}", "run_link": "http://somewhere"})
    s.post(create, {"name": "m", "source": "s3://bucket/model"})
    s.post(create, {"name": "m", "source": "models:/m/1"})
    s.post(create, {"name": "renamed", "source": "models:/{lm1}", "model_id": "{lm1}"})
    for body in ({"name": "none", "source": "s3://a/b"}, {"name": "m"}, {"source": "s3://a/b"}, {"name": "m", "source": ""},
                 {"name": "m", "source": "/etc/passwd"}, {"name": "m", "source": "file:///etc"},
                 {"name": "m", "source": "FILE://localhost/etc"}, {"name": "m", "source": "file://127.0.0.1/etc"},
                 {"name": "m", "source": "C:\\x"}, {"name": "m", "source": "s3:bucket/x"}, {"name": "m", "source": "s3://bucket"},
                 {"name": "m", "source": "file://elsewhere/etc"},
                 {"name": "m", "source": place}, {"name": "m", "source": place, "run_id": "{run2}"},
                 {"name": "m", "source": place, "run_id": "0" * 32}, {"name": "m", "source": "mlflow-artifacts:/a/../b"},
                 {"name": "m", "source": "s3://bucket/a/../../b"}, {"name": "m", "source": "mlflow-artifacts:/a/%2e%2e/b"},
                 {"name": "m", "source": "models:/none/1"}, {"name": "m", "source": "models:/m/99"},
                 {"name": "m", "source": "models:/{lm1}"}, {"name": "m", "source": "runs:/{run2}/model", "run_id": "{run1}"},
                 {"name": "m", "source": "models:/m/1", "run_id": "{run2}"},
                 {"name": "m", "source": "s3://a/b", "tags": [{"key": "bad$", "value": "v"}]}):
        s.post(create, body)
    for query in ({"name": "m", "version": "1"}, {"name": "m", "version": "2"}, {"name": "m", "version": "4"},
                  {"name": "m", "version": "99"}, {"name": "m", "version": "x"}, {"name": "none", "version": "1"}, {"name": "m"},
                  {"version": "1"}, {"name": "renamed", "version": "1"}):
        s.get("/model-versions/get", query)
    for version in ("1", "3", "4", "99"):
        s.get("/model-versions/get-download-uri", {"name": "m", "version": version})
    s.get("/model-versions/get-download-uri", {"name": "renamed", "version": "1"})
    s.patch("/model-versions/update", {"name": "m", "version": "1", "description": "changed"})
    s.patch("/model-versions/update", {"name": "m", "version": "99", "description": "changed"})
    s.patch("/model-versions/update", {"name": "m", "version": "x"})
    s.post("/model-versions/set-tag", {"name": "m", "version": "1", "key": "quality", "value": "good"})
    s.post("/model-versions/set-tag", {"name": "m", "version": "2", "key": "quality", "value": "bad"})
    s.post("/model-versions/set-tag", {"name": "m", "version": "99", "key": "quality", "value": "good"})
    s.post("/model-versions/set-tag", {"name": "m", "version": "1", "key": "big", "value": "x" * 100_001})
    s.post("/model-versions/set-tag", {"name": "m", "version": "1", "value": "good"})
    s.delete("/model-versions/delete-tag", {"name": "m", "version": "1", "key": "k"})
    s.delete("/model-versions/delete-tag", {"name": "m", "version": "1", "key": "k"})
    s.delete("/model-versions/delete-tag", {"name": "m", "version": "99", "key": "k"})


def lifecycle(s):
    alias = "/registered-models/alias"
    s.post(alias, {"name": "m", "alias": "champion", "version": "1"})
    s.post(alias, {"name": "m", "alias": "champion", "version": "2"})
    s.post(alias, {"name": "m", "alias": "second", "version": "2"})
    for name in ("latest", "LATEST", "v1", "V12", "a b", "a/b", "", "x" * 256):
        s.post(alias, {"name": "m", "alias": name, "version": "1"})
    s.post(alias, {"name": "m", "alias": "ghost", "version": "99"})
    s.post(alias, {"name": "none", "alias": "ghost", "version": "1"})
    s.post(alias, {"name": "m", "alias": "ghost", "version": "x"})
    for query in ({"name": "m", "alias": "champion"}, {"name": "m", "alias": "none"}, {"name": "none", "alias": "champion"},
                  {"name": "m", "alias": "latest"}, {"name": "third model", "alias": "latest"}, {"name": "m"}):
        s.get(alias, query)
    s.get("/registered-models/get", {"name": "m"})
    s.get("/model-versions/get", {"name": "m", "version": "2"})
    s.delete(alias, {"name": "m", "alias": "second"})
    s.delete(alias, {"name": "m", "alias": "second"})
    s.delete(alias, {"name": "none", "alias": "second"})
    stage = "/model-versions/transition-stage"
    for version, name, archive in (("1", "Staging", False), ("2", "staging", True), ("3", "PRODUCTION", False),
                                   ("3", "Nowhere", False), ("99", "Staging", False), ("1", "Archived", True), ("1", None, False)):
        s.post(stage, {"name": "m", "version": version, "stage": name, "archive_existing_versions": archive})
    s.post(stage, {"name": "m", "version": "1", "stage": "None", "archive_existing_versions": "yes"})
    for body in ({"name": "m"}, {"name": "m", "stages": ["Production"]}, {"name": "m", "stages": ["production", "Staging"]},
                 {"name": "m", "stages": ["Nowhere"]}, {"name": "none"}, {"name": "m", "stages": "Production"}, {}):
        s.post("/registered-models/get-latest-versions", body)
    s.get("/registered-models/get-latest-versions", {"name": "m", "stages": ["Production", "Staging"]})
    s.get("/registered-models/get", {"name": "m"})


def registry_searches(s):
    for query in ({}, {"max_results": 1}, {"max_results": 1001}, {"max_results": "x"}, {"filter": "name = 'm'"},
                  {"filter": "name LIKE 'r%'"}, {"filter": "name ILIKE 'R%'"}, {"filter": "name != 'm'"},
                  {"filter": "name IN ('m', 'renamed')"}, {"filter": "name NOT IN ('m')"}, {"filter": "tags.k = 'v'"},
                  {"filter": "tag.k != 'v'"}, {"filter": "tags.k LIKE 'v%' AND name = 'm'"},
                  {"filter": "tags.`mlflow.prompt.is_prompt` != 'true'"}, {"filter": "tags.`mlflow.prompt.is_prompt` = 'true'"},
                  {"order_by": ["name DESC"]}, {"order_by": ["timestamp ASC"]}, {"order_by": ["last_updated_timestamp DESC"]},
                  {"order_by": ["name ASC", "name DESC"]}, {"order_by": ["creation_time"]}, {"order_by": ["name sideways"]},
                  {"filter": "name = 5"}, {"filter": "name > 'a'"}, {"filter": "name"}, {"filter": "version = '1'"},
                  {"filter": "params.a = 'b'"}, {"filter": "name = 'a' OR name = 'b'"}, {"filter": "tags.k > 'a'"},
                  {"filter": "tags.k IS NULL"}, {"filter": "name = m"}, {"filter": "tags.k = 5"}, {"filter": "name IN ()"}):
        s.get("/registered-models/search", query)
    for query in ({}, {"max_results": 1}, {"max_results": 200_001}, {"max_results": 0}, {"filter": "name = 'm'"},
                  {"filter": "name LIKE 'ren%'"}, {"filter": "name = 'm' AND version_number > 1"},
                  {"filter": "name = 'm' AND version_number <= 2"}, {"filter": "version_number = '1'"},
                  {"filter": "version_number = 'x'"}, {"filter": "version_number LIKE '1'"}, {"filter": "version_number = 1.5"},
                  {"filter": "run_id = '{run1}'"}, {"filter": "run_id IN ('{run1}', 'x')"}, {"filter": "source_path = 's3://bucket/model'"},
                  {"filter": "source_path LIKE 's3%'"}, {"filter": "source_path IN ('a')"}, {"filter": "tags.quality = 'good'"},
                  {"filter": "tags.quality != 'good'"}, {"filter": "tags.quality = 'good' AND name = 'm'"},
                  {"filter": "name = 'm'", "order_by": ["version_number ASC"]},
                  {"filter": "name = 'm'", "order_by": ["version_number DESC"]}, {"order_by": ["name DESC", "version_number ASC"]},
                  {"order_by": ["creation_timestamp ASC"]}, {"order_by": ["unknown"]}, {"order_by": ["tags.quality"]},
                  {"order_by": ["name", "name"]}, {"filter": "stage = 'Production'"}, {"filter": "name = 5"}, {"filter": "run_id = 5"},
                  {"filter": "params.a = 'b'"}, {"filter": "name"}, {"filter": "name = 'm' OR name = 'x'"}):
        s.get("/model-versions/search", query)


def ordered(s):
    """The order of last changes: tags and aliases are none, a description is, a new name is one of all."""
    s.post("/registered-models/create", {"name": "ordered"})
    for number in ("1", "2", "3"):
        s.post("/model-versions/create", {"name": "ordered", "source": f"s3://bucket/{number}"})
        s.patch("/model-versions/update", {"name": "ordered", "version": number, "description": "d" + number})
    search = ("/model-versions/search", {"filter": "name = 'ordered'"})
    tag = {"name": "ordered", "version": "1", "key": "k", "value": "v"}
    s.post("/model-versions/set-tag", tag)
    s.get(*search)
    s.delete("/model-versions/delete-tag", {"name": "ordered", "version": "1", "key": "k"})
    s.post("/registered-models/alias", {"name": "ordered", "alias": "20240115", "version": "1"})
    s.get(*search)
    s.get("/registered-models/alias", {"name": "ordered", "alias": "20240115"})
    s.post("/registered-models/set-tag", {"name": "ordered", "key": "k", "value": "v"})
    s.post("/registered-models/alias", {"name": "ordered", "alias": "\u00fc" * 255, "version": "2"})
    s.post("/registered-models/alias", {"name": "ordered", "alias": "\u00fc" * 256, "version": "2"})
    s.delete("/registered-models/alias", {"name": "ordered", "alias": "20240115"})
    s.get(*search)
    s.patch("/model-versions/update", {"name": "ordered", "version": "1", "description": "new"})
    s.get(*search)
    s.post("/registered-models/rename", {"name": "ordered", "new_name": "\u00e9" * 200})
    s.get("/model-versions/search", {"filter": "name = '" + "\u00e9" * 200 + "'"})
    s.delete("/registered-models/delete", {"name": "\u00e9" * 200})


def webhooks(s):
    made = {"name": "ci", "url": "https://93.184.215.14/hook", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]}
    s.post("/webhooks", made, save={"hook": "webhook.webhook_id"})
    s.post("/webhooks", {**made, "name": "prompts", "events": [{"entity": "PROMPT", "action": "CREATED"}]},
           save={"hook2": "webhook.webhook_id"})
    for body in ({**made, "name": ""}, {**made, "name": "Not a name"}, {**made, "name": "x" * 64}, {"name": "a"},
                 {**made, "events": [{"entity": "MODEL_VERSION", "action": "SET"}]},
                 {**made, "events": [{"entity": "PROMPT_TAG", "action": "CREATED"}]}):
        s.post("/webhooks", body)
    s.get("/webhooks/{hook}")
    s.get("/webhooks/none")
    s.patch("/webhooks/{hook}", {"status": "DISABLED", "description": "d"})
    s.patch("/webhooks/{hook}", {"events": [{"entity": "PROMPT_ALIAS", "action": "DELETED"}], "name": "other"})
    s.patch("/webhooks/{hook}", {"name": "Not a name"})
    s.get("/webhooks", {"max_results": 1001})
    s.post("/webhooks/none/test", {})
    s.delete("/webhooks/{hook2}", {})
    s.get("/webhooks")
    s.delete("/webhooks/{hook2}", {})
    s.delete("/webhooks/{hook}", {})


def endings(s):
    s.delete("/model-versions/delete", {"name": "m", "version": "2"})
    s.delete("/model-versions/delete", {"name": "m", "version": "2"})
    s.delete("/model-versions/delete", {"name": "m", "version": "x"})
    s.delete("/model-versions/delete", {"name": "none", "version": "1"})
    s.get("/model-versions/get", {"name": "m", "version": "2"})
    s.get("/registered-models/alias", {"name": "m", "alias": "champion"})
    s.get("/registered-models/get", {"name": "m"})
    s.post("/model-versions/create", {"name": "m", "source": "s3://bucket/again"})
    s.get("/model-versions/search", {"filter": "name = 'm'", "order_by": ["version_number ASC"]})
    s.delete("/registered-models/delete", {"name": "m"})
    s.delete("/registered-models/delete", {"name": "m"})
    s.delete("/registered-models/delete", {})
    s.get("/registered-models/get", {"name": "m"})
    s.get("/model-versions/search", {"filter": "name = 'm'"})
    s.post("/registered-models/create", {"name": "m"})
    s.get("/health")
    s.get("/api/2.0/mlflow/nothing")
    s.add("PUT", "/registered-models/get", body={})
    s.get("/api/3.0/mlflow/nothing")
    s.post("/runs/create", {"start_time": "5000", "run_name": "of none"})


def steps():
    s = Steps()
    for part in (experiments, runs, run_searches, artifacts, logged_models, models, versions, lifecycle,
                 registry_searches, ordered, webhooks, endings):
        part(s)
    return s.all
