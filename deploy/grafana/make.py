"""Writes `quarry.json`, the dashboard, from the panels below."""

import json
from pathlib import Path

PANELS = [
    ("Calls a second, by role", "reqps", [("sum by (role) (rate(quarry_rpc_requests_total[$__rate_interval]))", "{{role}}")]),
    ("Failed calls, by outcome", "reqps", [('sum by (code) (rate(quarry_rpc_requests_total{code!="OK"}[$__rate_interval]))', "{{code}}")]),
    ("Time of a call, 50th and 99th in a hundred", "s", [
        ("histogram_quantile(0.5, sum by (role, le) (rate(quarry_rpc_duration_seconds_bucket[$__rate_interval])))", "{{role}} p50"),
        ("histogram_quantile(0.99, sum by (role, le) (rate(quarry_rpc_duration_seconds_bucket[$__rate_interval])))", "{{role}} p99"),
    ]),
    ("Slowest methods, 99th in a hundred", "s", [("topk(10, histogram_quantile(0.99, sum by (service, method, le) (rate(quarry_rpc_duration_seconds_bucket[$__rate_interval]))))", "{{service}}/{{method}}")]),
    ("Calls under way", "short", [("sum by (role) (quarry_rpc_in_flight)", "{{role}}")]),
    ("HTTP that is no gRPC, by status", "reqps", [("sum by (code) (rate(quarry_http_requests_total[$__rate_interval]))", "{{code}}")]),
    ("Resident memory", "bytes", [("process_resident_memory_bytes", "{{instance}}")]),
    ("Threads", "short", [("process_threads", "{{instance}}")]),
    ("Time since the start", "s", [("process_uptime_seconds", "{{instance}}")]),
]


def dashboard():
    panels = []
    for at, (title, unit, targets) in enumerate(PANELS):
        panels.append({
            "id": at + 1,
            "type": "timeseries",
            "title": title,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "gridPos": {"h": 8, "w": 12, "x": 12 * (at % 2), "y": 8 * (at // 2)},
            "targets": [
                {"refId": chr(ord("A") + n), "expr": expr, "legendFormat": legend}
                for n, (expr, legend) in enumerate(targets)
            ],
        })
    return {
        "uid": "quarry",
        "title": "Quarry",
        "tags": ["quarry"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


if __name__ == "__main__":
    path = Path(__file__).with_name("quarry.json")
    path.write_text(json.dumps(dashboard(), indent=1) + "\n")
