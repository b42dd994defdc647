"""The scanner beside the scanners that others use, on one corpus of hostile and clean files."""

import contextlib
import importlib.util
import io
import logging

import pytest
import requests

import hostile_models

# `modelscan` is not offered for Python 3.13 and later.
NAMES = [name for name in ("quarry", "picklescan", "modelscan", "fickling")
         if name == "quarry" or importlib.util.find_spec(name)]


def by_picklescan(path):
    from picklescan.scanner import scan_file_path
    found = scan_file_path(str(path))
    return found.issues_count > 0 or found.infected_files > 0


def by_modelscan(path):
    from modelscan.modelscan import ModelScan
    from modelscan.settings import DEFAULT_SETTINGS
    with contextlib.redirect_stdout(io.StringIO()):
        found = ModelScan(settings=DEFAULT_SETTINGS).scan(str(path))
    return bool(found["issues"])


def by_fickling(path):
    import fickling
    return not fickling.is_likely_safe(str(path))


def flagged(scanner, path):
    """Whether a scanner speaks up; one that fails at a file says nothing of it."""
    try:
        return scanner(path)
    except BaseException:  # noqa: BLE001 — whatever a hostile file does to it
        return False


def by_ours(server, namespace, folder):
    """What each file of a folder is worth, through the public door."""
    server.cli("namespaces", "create", namespace)
    server.json("models", "register", f"{namespace}/corpus", folder)
    server.json("models", "scan", f"{namespace}/corpus")
    verdicts, token = {}, ""
    url = f"{server.url}/v1/namespaces/{namespace}/models/corpus/versions/1/scan"
    while True:
        headers = {"authorization": f"Bearer {server.token}"}
        answer = requests.get(url, params={"page_token": token}, headers=headers, timeout=60)
        answer.raise_for_status()
        page = answer.json()
        for file in page["files"]:
            verdicts[file["path"]] = file["verdict"].removeprefix("SCAN_VERDICT_")
        if not (token := page.get("next_page_token")):
            return verdicts


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The folder, the names of what is hostile and of what is clean."""
    folder = tmp_path_factory.mktemp("corpus")
    hostile = []
    for name, content in hostile_models.hostile():
        (folder / name).write_bytes(content)
        hostile.append(name)
    assert len(set(hostile)) == len(hostile)
    return folder, hostile, hostile_models.clean(folder)


def test_nothing_that_others_find_is_missed(server, namespace, corpus):
    logging.disable(logging.CRITICAL)
    folder, hostile, clean = corpus
    try:
        scanners = {"picklescan": by_picklescan, "modelscan": by_modelscan, "fickling": by_fickling}
        found = {name: {file for file in hostile + clean if flagged(scanners[name], folder / file)}
                 for name in NAMES[1:]}
    finally:
        logging.disable(logging.NOTSET)
    verdicts = by_ours(server, namespace, folder)
    found["quarry"] = {file for file, verdict in verdicts.items() if verdict != "CLEAN"}
    dangerous = [file for file in hostile if verdicts[file] == "DANGEROUS"]
    print(f"\n| scanner | found of {len(hostile)} hostile | missed | flagged of {len(clean)} clean |\n|---|---|---|---|")
    for name in NAMES:
        of_hostile = len(found[name] & set(hostile))
        print(f"| {name} | {of_hostile} | {len(hostile) - of_hostile} | {len(found[name] & set(clean))} |")
    print(f"quarry calls {len(dangerous)} dangerous; the rest is unknown, suspicious or unreadable")
    assert {"picklescan", "fickling"} <= set(found)
    for name in NAMES[1:]:
        assert len(found[name] & set(hostile)) > len(hostile) // 4, f"{name} did not run"
        missed = sorted(file for file in hostile if file in found[name] - found["quarry"])
        assert not missed, f"{name} finds what we miss: {missed}"
    assert set(hostile) <= found["quarry"], sorted(set(hostile) - found["quarry"])
    wrong = {file: verdicts[file] for file in clean if verdicts[file] != "CLEAN"}
    assert not wrong, wrong
