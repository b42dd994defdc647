"""The programs that ours is measured beside, each as its manual says to get the same answer."""

import json
import os
import pathlib
import shutil
import subprocess
import threading
import time

CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "quarry/bench-peers"
# Built by `--install-peers`; the others are packages of Debian.
CRATES = {"fclones": ("fclones", "0.35.0"), "czkawka_cli": ("czkawka_cli", "12.0.2")}
PACKAGES = {"updatedb": "plocate", "plocate": "plocate", "b3sum": "b3sum", "jdupes": "jdupes"}


def install():
    """Builds what is missing into a cache of the benchmarks' own."""
    for name, (crate, version) in CRATES.items():
        if find(name) is None:
            own = {"CARGO_HOME": str(CACHE / "cargo"), "CARGO_TARGET_DIR": str(CACHE / "target")}
            command = ["cargo", "install", crate, "--version", version, "--locked", "--root", str(CACHE)]
            subprocess.run(command, check=True, env={**os.environ, **own})
    shutil.rmtree(CACHE / "target", ignore_errors=True)


def find(name):
    found = CACHE / "bin" / name
    return str(found) if found.exists() else shutil.which(name)


def version(name):
    """As it says itself; what there is to do if it is not there."""
    if find(name) is None:
        return f"not installed ({'--install-peers' if name in CRATES else 'Debian: ' + PACKAGES[name]})"
    for flag in ("--version", "-v"):
        done = subprocess.run([find(name), flag], capture_output=True, text=True)
        words = (done.stdout or done.stderr).split("\n")[0].split()
        if done.returncode == 0 and words:
            return next((word for word in words if word[0].isdigit()), words[-1])
    return "?"


class Peak:
    """The most memory that a program held, looked at while it runs: what the kernel tells at its end is also that of
    the process that it was forked from."""

    def __init__(self, process):
        self.path, self.megabytes, self.is_over = f"/proc/{process.pid}/status", 0, threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.is_over.wait(0.005):
            try:
                text = pathlib.Path(self.path).read_text()
            except OSError:
                return
            if "VmHWM:" in text:
                self.megabytes = int(text.split("VmHWM:")[1].split()[0]) / 1024

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.is_over.set()
        self.thread.join()


class Run:
    """One run to its end: seconds, peak memory in MB, and what it printed."""

    def __init__(self, *command, fine=(0,)):
        begin = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with Peak(process) as peak:
            self.out = process.stdout.read()
            process.wait()
        process.stdout.close()
        self.seconds = time.perf_counter() - begin
        self.memory = peak.megabytes
        if process.returncode not in fine:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}")


def updatedb(tree, database):
    return Run(find("updatedb"), "-U", tree, "-o", database, "--require-visibility", "0", "--prunepaths", "")


def plocate(database, needle, *more):
    """Names alone, in any case: what ours looks at."""
    return Run(find("plocate"), "-d", database, "-b", "-i", *more, needle, fine=(0, 1))


def jdupes(tree):
    run = Run(find("jdupes"), "-r", "-q", tree)
    groups = run.out.decode(errors="surrogateescape").split("\n\n")
    return run, [frozenset(group.strip("\n").split("\n")) for group in groups if group.strip("\n")]


def fclones(tree, scratch):
    run = Run(find("fclones"), "group", tree, "--hidden", "--no-ignore", "-s", "1", "--hash-fn", "blake3",
              "--threads", "2", "-f", "json")
    return run, [frozenset(group["files"]) for group in json.loads(run.out)["groups"]]


def czkawka(tree, scratch):
    answer = scratch / "czkawka.json"
    run = Run(find("czkawka_cli"), "dup", "-d", tree, "-m", "1", "-s", "HASH", "-t", "BLAKE3", "-T", "2", "-H", "-W",
              "-C", answer, fine=(0, 11))
    sizes = json.loads(answer.read_text())
    return run, [frozenset(file["path"] for file in group) for groups in sizes.values() for group in groups]


def b3sum(files):
    """Seconds of two processes with a thread each, half of the files for each."""
    command = ["xargs", "-0", "-n", "2000", find("b3sum"), "--no-names", "--num-threads", "1", "--"]
    half = len(files) // 2
    begin = time.perf_counter()
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in range(2)]
    threads = [threading.Thread(target=process.communicate, args=(b"\0".join(map(os.fsencode, part)),))
               for process, part in zip(both, (files[:half], files[half:]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if any(process.returncode for process in both):
        raise RuntimeError("b3sum failed")
    return time.perf_counter() - begin


def du(place):
    return Run("du", "-sb", place)
