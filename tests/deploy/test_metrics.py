"""Dashboards and alerts name only metrics and labels that a running server has."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml

from conftest import ROOT

EXPRESSION_WORDS = {
    "sum", "by", "rate", "resets", "histogram_quantile", "topk", "le", "up", "job", "instance",
}
START_SECONDS_MAX = 120


def expressions():
    rules = yaml.safe_load((ROOT / "helm/quarry/files/rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    board = json.loads((ROOT / "deploy/grafana/quarry.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def words(expression):
    """Names of metrics and labels: no strings, no variables, no numbers with units."""
    bare = re.sub(r'"[^"]*"|\$\w+|\[[^\]]*\]', " ", expression)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", bare))


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """The text of `/metrics` of a server that has answered a call."""
    binary = os.environ.get("QUARRY_TEST_BINARY")
    if not binary:
        pytest.fail("QUARRY_TEST_BINARY is not set: run `cargo xtask test --only chart`")
    home = tmp_path_factory.mktemp("platform")
    ready = home / "ready.json"
    data = home / "data"
    arguments = ["serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0",
                 "--ready-file", ready]
    server = subprocess.Popen([binary, *map(str, arguments)], stdout=sys.stderr, cwd=home)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not ready.exists() and time.monotonic() < deadline:
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        doors = json.loads(ready.read_text())
        token = (data / "admin-token").read_text().strip()
        call = urllib.request.Request(
            f"http://{doors['listen']}/v1/namespaces", headers={"authorization": f"Bearer {token}"}
        )
        urllib.request.urlopen(call).read()
        healthy = subprocess.run(
            [binary, "health", "--ops-listen", doors["ops_listen"]], capture_output=True, text=True
        )
        assert healthy.returncode == 0, healthy.stderr
        yield urllib.request.urlopen(f"http://{doors['ops_listen']}/metrics").read().decode()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)
    gone = subprocess.run(
        [binary, "health", "--ops-listen", doors["ops_listen"]], capture_output=True, text=True
    )
    assert gone.returncode == 6, gone.stderr


def test_every_name_exists(metrics):
    samples = re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{([^}]*)\})? ", metrics, re.M)
    known = {name for name, _ in samples}
    known |= {label for _, labels in samples for label in re.findall(r"(\w+)=", labels)}
    checked = 0
    for where, expression in expressions():
        unknown = words(expression) - known - EXPRESSION_WORDS
        assert not unknown, f"{where}: {unknown} is not in /metrics"
        checked += 1
    assert checked > 10


def test_the_dashboard_is_as_its_source_makes_it():
    sys.path.insert(0, str(ROOT / "deploy/grafana"))
    try:
        from make import dashboard
    finally:
        sys.path.pop(0)
    assert json.loads((ROOT / "deploy/grafana/quarry.json").read_text()) == dashboard()
