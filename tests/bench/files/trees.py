"""The tree that all read: a copy that nobody changes, and what is true of it."""

import collections
import os
import pathlib
import shutil
import stat
import subprocess

FILES_MIN = 100_000
BYTES_MAX = 3 << 30
HOME = pathlib.Path.home()
# Real trees that a machine which builds this has, taken until they are enough.
SOURCES = [HOME / ".rustup/toolchains", HOME / ".cargo/registry/src", HOME / ".cache/quarry",
           pathlib.Path("/usr/lib"), pathlib.Path("/usr/share")]


def frozen(tree, given, quick):
    """The copy, all of it below one directory; hard links become files of their own."""
    (tree / "all").mkdir(parents=True)
    if quick:
        small(tree / "all")
        return tree
    left = [FILES_MIN, BYTES_MAX]
    for at, source in enumerate([pathlib.Path(given)] if given else SOURCES):
        if left[0] > 0 and source.is_dir():
            copy(source, tree / "all" / f"{at}-{source.name.lstrip('.')}", left, whole=bool(given))
    if left[0] > 0 and not given:
        raise SystemExit(f"{FILES_MIN - left[0]:,} files were found; name a tree of {FILES_MIN:,} with --tree")
    return tree


def small(into):
    for n in range(3_000):
        path = into / f"d{n % 41}" / f"e{n % 7}" / f"test_{n}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([n % 3]) * (n % 900))


def large(into, count, size):
    """So many files, no two of them equal."""
    into.mkdir()
    block = os.urandom(size)
    paths = [into / f"large {n}" for n in range(count)]
    for n, path in enumerate(paths):
        path.write_bytes(n.to_bytes(8, "little") + block[8:])
    return paths


def copy(source, into, left, whole):
    """Directories one after the other, until there is enough or it becomes too much."""
    for parent, directories, names in os.walk(source):
        directories.sort()
        place = into / pathlib.Path(parent).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            path = pathlib.Path(parent) / name
            if path.is_symlink():
                os.symlink(os.readlink(path), place / name)
                continue
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or (not whole and status.st_size > left[1]):
                continue
            shutil.copy2(path, place / name)
            left[0] -= 1
            left[1] -= status.st_size
        if left[0] <= 0 and not whole:
            return


class Truth:
    """What a walk of the benchmark's own finds."""

    def __init__(self, tree):
        self.entries, self.files, self.bytes, self.directories = 0, [], 0, 0
        for parent, directories, names in os.walk(tree):
            self.entries += len(directories) + len(names)
            self.directories += 1
            for name in names:
                status = os.lstat(path := os.path.join(parent, name))
                if stat.S_ISREG(status.st_mode):
                    self.files.append(path)
                    self.bytes += status.st_size

    def groups(self):
        """Paths of equal bytes, by b3sum; without it by this process."""
        found = collections.defaultdict(set)
        full = [path for path in self.files if os.path.getsize(path) > 0]
        for digest, path in digests(full):
            found[digest].add(path)
        return {digest: frozenset(paths) for digest, paths in found.items() if len(paths) > 1}


def digests(files):
    if shutil.which("b3sum") is None:
        import hashlib

        for path in files:
            yield hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(), path
        return
    for at in range(0, len(files), 2_000):
        part = files[at : at + 2_000]
        out = subprocess.run(["b3sum", "--no-names", "--", *part], check=True, capture_output=True).stdout
        yield from zip(out.decode().split(), part, strict=True)
