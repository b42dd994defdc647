"""Scan, rescan, search and duplicates beside updatedb, plocate, b3sum and jdupes, in one run.

All read the same frozen tree, in turns, warm; the medians of the rounds are compared. The groups
of duplicates must be those of b3sum and of jdupes. Prints one Markdown table.
"""

import argparse
import collections
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "harness/python"))
import quarry_server  # noqa: E402

PEERS = ["updatedb", "plocate", "b3sum", "jdupes"]
NEEDLES = ["numpy", "config", "test_", "main", ".json", "readme"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--tree", help="a tree to copy and freeze [default: the Rust toolchain's]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds = 2
    return chosen


def frozen(chosen, into):
    """A copy that nobody changes; hard links become files of their own."""
    tree = into / "tree"
    if chosen.quick:
        for n in range(3_000):
            path = tree / f"d{n % 41}" / f"e{n % 7}" / f"test_{n}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([n % 251]) * (n % 900))
        return tree
    source = chosen.tree or str(pathlib.Path.home() / ".rustup")
    shutil.copytree(source, tree, symlinks=True, ignore_dangling_symlinks=True)
    return tree


def files_of(tree):
    found = []
    for parent, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path) and os.path.isfile(path):
                found.append(path)
    return found


def timed(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def run(*args, **more):
    return subprocess.run([str(arg) for arg in args], check=True, capture_output=True, **more).stdout


class Ours:
    """A Quarry with an empty data directory."""

    def __init__(self, binary, tree):
        self.server = quarry_server.Server(executable=binary)
        self.tree = tree
        self.door = http.client.HTTPConnection(self.server.address)
        self.headers = {"authorization": f"Bearer {self.server.token}", "content-type": "application/json"}
        self.location = self.call("POST", "/v1/files/locations", {"path": str(tree)})["location"]["id"]

    def call(self, method, path, body=None):
        self.door.request(method, path, json.dumps(body) if body is not None else None, self.headers)
        answer = self.door.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {text}")
        return json.loads(text)

    def scan(self, mode):
        """Seconds of the job itself, from its first start to its end, with its numbers."""
        job = self.call("POST", f"/v1/files/locations/{self.location}:scan", {"mode": f"SCAN_MODE_{mode}"})["job"]
        begin = time.perf_counter()
        while True:
            now = self.call("GET", f"/v1/jobs/{job}")["job"]
            if now["state"] in ("JOB_STATE_COMPLETED", "JOB_STATE_FAILED"):
                break
            time.sleep(0.002)
        if now["state"] != "JOB_STATE_COMPLETED":
            raise RuntimeError(now)
        return time.perf_counter() - begin, {name: int(n) for name, n in now["result"].items()}

    def search(self, text):
        return self.call("POST", "/v1/files:search", {"query": {"text": text}, "page_size": 100})["entries"]

    def duplicates(self):
        groups, token = [], ""
        while True:
            page = self.call("GET", f"/v1/files:duplicates?page_size=1000&page_token={token}")
            groups += page["groups"]
            token = page["next_page_token"]
            if not token:
                return groups, page

    def rss(self):
        status = pathlib.Path(f"/proc/{self.server.pid()}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024

    def stop(self):
        self.door.close()
        self.server.stop()


def oracle(tree):
    """Groups by b3sum."""
    groups = collections.defaultdict(set)
    files = [path for path in files_of(tree) if os.path.getsize(path) > 0]
    for at in range(0, len(files), 2_000):
        for line in run("b3sum", "--", *files[at : at + 2_000]).decode(errors="surrogateescape").splitlines():
            if not line.startswith("\\"):
                digest, path = line.split("  ", 1)
                groups[digest].add(path)
    return {digest: paths for digest, paths in groups.items() if len(paths) > 1}


def hash_all(tree):
    files = [path for path in files_of(tree)]
    half = len(files) // 2
    command = ["xargs", "-0", "-n", "2000", "b3sum", "--no-names", "--num-threads", "1", "--"]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
    for process, part in zip(both, (files[:half], files[half:])):
        process.stdin.write(b"\0".join(os.fsencode(path) for path in part))
        process.stdin.close()
    for process in both:
        process.wait()


def main():
    chosen = arguments()
    missing = [peer for peer in PEERS if shutil.which(peer) is None]
    if missing:
        print(f"peers that are not installed: {', '.join(missing)} (Debian: plocate b3sum jdupes)")
        if not chosen.quick:
            sys.exit(1)
    with tempfile.TemporaryDirectory(prefix="quarry-bench") as scratch:
        scratch = pathlib.Path(scratch)
        measure(chosen, frozen(chosen, scratch), scratch, set(missing))


def measure(chosen, tree, scratch, missing):
    times = collections.defaultdict(list)
    database = scratch / "locate.db"
    update = ["updatedb", "-U", tree, "-o", database, "--require-visibility", "0", "--prunepaths", ""]
    has = lambda *names: not missing.intersection(names)  # noqa: E731
    groups, entries = None, 0
    for _ in range(chosen.rounds):
        if has("updatedb"):
            database.unlink(missing_ok=True)
            times["updatedb first"].append(timed(lambda: run(*update))[0])
            times["updatedb again"].append(timed(lambda: run(*update))[0])
        if has("b3sum"):
            times["b3sum"].append(timed(lambda: hash_all(tree))[0])
        if has("jdupes"):
            times["jdupes"].append(timed(lambda: run("jdupes", "-r", "-q", "-m", tree))[0])
        ours = Ours(chosen.binary, tree)
        try:
            seconds, numbers = ours.scan("METADATA")
            entries = numbers["entries"]
            times["first"].append(seconds)
            seconds, numbers = ours.scan("METADATA")
            assert numbers["added"] == numbers["changed"] == 0, numbers
            times["again"].append(seconds)
            times["content"].append(ours.scan("CONTENT")[0])
            seconds, (groups, _) = timed(ours.duplicates)
            times["groups"].append(seconds)
            times["page"].append(timed(lambda: ours.call("GET", "/v1/files:duplicates?page_size=100"))[0])
            for needle in NEEDLES * 20:
                times["search"].append(timed(lambda needle=needle: ours.search(needle))[0])
                if has("plocate", "updatedb") and len(times["plocate"]) < 100:
                    times["plocate"].append(
                        timed(lambda needle=needle: subprocess.run(
                            ["plocate", "-d", database, "-l", "100", needle], capture_output=True))[0])
            memory = ours.rss()
        finally:
            ours.stop()
    if has("b3sum"):
        wanted = oracle(tree)
        found = {group["content"]: {entry["path"] for entry in group["entries"]} for group in groups}
        assert set(found) == set(wanted), f"{len(found)} groups, b3sum has {len(wanted)}"
        small = {digest for digest, paths in wanted.items() if len(paths) <= 1_000}
        assert all(found[digest] == wanted[digest] for digest in small), "groups differ"
        print(f"{len(wanted)} groups, equal to b3sum's")
    report(times, entries, memory)


def report(times, entries, memory):
    median = {name: statistics.median(values) for name, values in times.items()}

    def row(what, ours, peer, name):
        mine, other = median[ours], median.get(peer)
        ratio = f"{mine / other:.2f}" if other else "-"
        shown = f"{other * 1e3:.1f} ms" if other else "-"
        print(f"| {what} | {name} {shown} | {mine * 1e3:.1f} ms | {ratio} |")

    print(f"\n{entries} entries; {len(times['first'])} rounds; load {os.getloadavg()[0]:.1f}; peak {memory} MB\n")
    print("| work | peer | ours | ours / peer |\n|---|---|---|---|")
    row(f"first scan, {entries / median['first']:,.0f} entries/s", "first", "updatedb first", "updatedb")
    row(f"unchanged rescan, {entries / median['again']:,.0f} entries/s", "again", "updatedb again", "updatedb")
    row("hash everything into the index", "content", "b3sum", "b3sum, 2 processes")
    row("a search, p50 over HTTP", "search", "plocate", "plocate")
    row("100 groups from the index", "page", None, "")
    median["nothing"] = median["first"] + median["content"] + median["page"]
    row("duplicates from nothing", "nothing", "jdupes", "jdupes")


if __name__ == "__main__":
    main()
