"""Differences that are meant, each with its reason. A rule that explains nothing is a failure too."""

from dataclasses import dataclass
from typing import Callable


@dataclass
class Rule:
    reason: str
    holds: Callable


ALLOWED = []


def rule(reason):
    def keep(function):
        ALLOWED.append(Rule(reason, function))
        return function
    return keep


def refused(answer):
    return 400 <= answer[0] < 500 and isinstance(answer[1], dict) and "error_code" in answer[1]


@rule("MLflow tells the statement that its database refused")
def _(step, path, was, now, peer, ours):
    return path == "message" and "already exists" in was and "(sqlite3." in was and was.startswith(now.removesuffix("."))


@rule("MLflow's parser takes some names for words of SQL; here they are names, and refused too")
def _(step, path, was, now, peer, ours):
    unparsed = ("Invalid clause(s) in filter string", "Invalid order_by clause")
    return path == "message" and was.startswith(unparsed) and now.startswith("Invalid attribute key")


@rule("a run that names no experiment is one of the default experiment; MLflow fails at its foreign key")
def _(step, path, was, now, peer, ours):
    body = step["body"] or {}
    return step["path"].endswith("/runs/create") and "experiment_id" not in body and (peer[0], ours[0]) == (400, 200)


@rule("a run that is not there has no history to answer; MLflow answers an empty one")
def _(step, path, was, now, peer, ours):
    return step["path"].endswith("/metrics/get-history") and (peer[0], ours[0]) == (200, 404)


@rule("a path that leads elsewhere is refused, however it is written")
def _(step, path, was, now, peer, ours):
    leads = any(part in step["path"].lower() for part in ("%2fetc", "%5c"))
    return leads and peer[0] == 200 and ours[0] == 400 and refused(ours)


@rule("files of another machine are the request's fault, and no failure of the server")
def _(step, path, was, now, peer, ours):
    elsewhere = str((step["body"] or {}).get("source", "")).startswith("file://elsewhere/")
    return elsewhere and peer[0] == 500 and ours[0] == 400 and refused(ours)


@rule("a version tells its aliases in lists too")
def _(step, path, was, now, peer, ours):
    return path.endswith("].aliases") and was == "<absent>" and isinstance(now, list)


@rule("a version is loaded from its own files, which are those that were registered, scanned and signed; what lies "
      "where it was logged may have been written anew")
def _(step, path, was, now, peer, ours):
    of_uri = step["path"].endswith("/model-versions/get-download-uri") and path == "artifact_uri"
    return of_uri and was.startswith("mlflow-artifacts:/") and now.startswith("mlflow-artifacts:/quarry-versions/")


@rule("MLflow's server fails at a comparison that its parser lets through")
def _(step, path, was, now, peer, ours):
    return peer[0] == 500 and refused(ours)


@rule("what is not served is refused in MLflow's shape, where MLflow answers a page")
def _(step, path, was, now, peer, ours):
    return path == "" and peer[0] == ours[0] in (404, 405) and was is None and refused(ours)
