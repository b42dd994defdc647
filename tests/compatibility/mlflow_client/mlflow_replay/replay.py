"""Sends every step to both servers and compares what they answer."""

import json
import re

import requests

from .allowed import ALLOWED

TIMES = {
    "creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp", "creation_timestamp_ms",
    "last_updated_timestamp_ms",
}
UNORDERED = {"tags": "key", "params": "key", "metrics": "key", "aliases": "alias", "latest_versions": "version"}


class Side:
    """One server, and the values that it gave out."""

    def __init__(self, url, token=None):
        self.url, self.known = url, {}
        self.session = requests.Session()
        if token:
            self.session.headers["authorization"] = f"Bearer {token}"

    def filled(self, value):
        if isinstance(value, str):
            for name, known in self.known.items():
                value = value.replace("{" + name + "}", known)
            return value
        if isinstance(value, dict):
            return {self.filled(key): self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return value

    def send(self, step):
        url = self.url + self.filled(step["path"])
        arguments = {"headers": dict(step["headers"]), "timeout": 60}
        if step["query"]:
            arguments["params"] = self.filled(step["query"])
        if step["data"] is not None:
            arguments["data"] = step["data"].encode()
        elif step["body"] is not None:
            arguments["json"] = self.filled(step["body"])
        request = requests.Request(step["method"], url, **{k: v for k, v in arguments.items() if k != "timeout"})
        prepared = self.session.prepare_request(request)
        # As it is written: `requests` would undo escapes.
        prepared.url = prepared.url.replace(requests.utils.requote_uri(url), url) if "%" in url else prepared.url
        answer = self.session.send(prepared, timeout=60)
        try:
            body = answer.json()
        except ValueError:
            body = answer.text if answer.ok else None
        for name, path in step["save"].items():
            found = body
            for part in path.split("."):
                found = found[part]
            self.known[name] = str(found)
        return answer.status_code, self.normal(body)

    def normal(self, value, key=None):
        if isinstance(value, dict):
            return {name: self.normal(item, name) for name, item in sorted(value.items())}
        if isinstance(value, list):
            items = [self.normal(item, key) for item in value]
            if key in UNORDERED and all(isinstance(item, dict) for item in items):
                items.sort(key=lambda item: str(item.get(UNORDERED[key], "")))
            return items
        if key in TIMES and isinstance(value, int):
            return "<time>"
        if key == "next_page_token" and value:
            return "<token>"
        if isinstance(value, str):
            for name, known in sorted(self.known.items(), key=lambda pair: -len(pair[1])):
                if len(known) > 8:
                    value = value.replace(known, f"<{name}>")
            if key == "message":
                # Python prints its sets in no order.
                value = re.sub(r"\{('[^{}]*')\}", lambda found: "{" + ", ".join(sorted(found[1].split(", "))) + "}", value)
        return value


def differences(mine, theirs):
    """The paths at which two answers differ, with both values."""
    found = []

    def walk(path, a, b):
        if isinstance(a, dict) and isinstance(b, dict):
            for name in sorted(set(a) | set(b)):
                walk(f"{path}.{name}" if path else name, a.get(name, "<absent>"), b.get(name, "<absent>"))
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            for at, (x, y) in enumerate(zip(a, b, strict=True)):
                walk(f"{path}[{at}]", x, y)
        elif a != b or type(a) is not type(b) and not {type(a), type(b)} <= {int, float}:
            found.append((path, a, b))

    walk("status", theirs[0], mine[0])
    walk("", theirs[1], mine[1])
    return found


def compare(steps, theirs, mine):
    """Replays all steps; answers what differs without a reason, and how often each reason held."""
    unexplained, reasons = [], {}
    for step in steps:
        peer, ours = theirs.send(step), mine.send(step)
        for path, was, now in differences(ours, peer):
            rule = next((rule for rule in ALLOWED if rule.holds(step, path, was, now, peer, ours)), None)
            if rule is None:
                shown = json.dumps(step["body"] or step["query"] or step["data"] or "", ensure_ascii=False)[:160]
                unexplained.append(f"{step['method']} {step['path']} {shown}\n    {path}: mlflow {was!r}, quarry {now!r}"[:900])
            else:
                reasons[rule.reason] = reasons.get(rule.reason, 0) + 1
    return unexplained, reasons
