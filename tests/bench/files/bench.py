"""The file indexer beside updatedb, plocate, b3sum, jdupes, fclones, czkawka and du, in one run.

All read the same frozen tree, in turns, warm; medians of the rounds are compared. What a search, a count of files and the
groups of duplicates answer must be what the peers and a walk of the benchmark's own say, or the run fails.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parents[1] / "harness/python")]
import many  # noqa: E402
import peers  # noqa: E402
import trees  # noqa: E402
from ours import Ours  # noqa: E402
from report import Report  # noqa: E402

NEEDLES = ["numpy", "config", "test_", "main", ".json", "readme"]
PAGE = 100
# Beside the many small files, whose rows cost more than their bytes: files whose bytes are all that counts.
LARGE, LARGE_BYTES = 64, 32 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True, help="the release binary")
    parser.add_argument("--tree", help="a tree to copy and freeze [default: this machine's toolchains and sources]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--entries", type=int, default=0,
                        help="nothing but so many entries, told by an agent's stream; e.g. 10000000")
    parser.add_argument("--install-peers", action="store_true", help="builds fclones and czkawka first; minutes")
    parser.add_argument("--copy", help="where the copy of the tree is kept for the next run [default: nowhere]")
    parser.add_argument("--scratch", help="where the copy and the databases are [default: the system's]")
    parser.add_argument("--quick", action="store_true", help="small numbers, to see that it runs")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds = min(chosen.rounds, 2)
    return chosen


def timed(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def expect(what, is_so):
    if not is_so:
        raise SystemExit(f"WRONG: {what}")


def main():
    chosen = arguments()
    if chosen.install_peers:
        peers.install()
    names = [*peers.PACKAGES, *peers.CRATES]
    print("peers: " + ", ".join(f"{name} {peers.version(name)}" for name in names), flush=True)
    kinds = ["sqlite", "postgres"] if chosen.database == "both" else [chosen.database]
    with tempfile.TemporaryDirectory(prefix="quarry-bench", dir=chosen.scratch) as scratch:
        scratch = pathlib.Path(scratch)
        postgres = None
        if "postgres" in kinds:
            from postgres_server import Postgres

            # Names are found by trigrams.
            postgres = Postgres(scratch / "postgres", "pg_trgm")
        databases = {kind: postgres if kind == "postgres" else None for kind in kinds}
        place = pathlib.Path(chosen.copy) if chosen.copy and not chosen.quick else scratch / "tree"
        tree = place if place.exists() else trees.frozen(place, chosen.tree, chosen.quick)
        if chosen.entries:
            for kind, database in databases.items():
                repeated(chosen, tree, kind, database)
        else:
            measured(chosen, tree, scratch, databases)


def measured(chosen, tree, scratch, databases):
    truth, report = trees.Truth(tree), Report()
    groups = truth.groups()
    large = trees.large(scratch / "large", LARGE, 1 << 20 if chosen.quick else LARGE_BYTES)
    print(f"{truth.entries:,} entries, {len(truth.files):,} files, {truth.bytes / 1e9:.2f} GB, "
          f"{len(groups):,} groups of equal files by b3sum", flush=True)
    try:
        for at in range(chosen.rounds):
            others(report, tree, truth, scratch, set(groups.values()), at == 0)
            for kind, database in databases.items():
                indexed(chosen, report, kind, database, tree, truth, scratch, groups)
                from_nothing(chosen, report, kind, database, tree, groups)
                from_disk(chosen, report, kind, tree, groups)
            hashed(chosen, report, databases, large)
            print(f"round {at + 1} of {chosen.rounds}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("\nEnded before its last round: what was measured until then.")
    table(report, databases, truth)


def others(report, tree, truth, scratch, wanted, is_first):
    """A round of the peers; what they find is looked at once."""
    database = scratch / "locate.db"
    if peers.find("updatedb"):
        database.unlink(missing_ok=True)
        for name in ("updatedb", "updatedb again"):
            run = peers.updatedb(tree, database)
            report.add(name, run.seconds, run.memory)
    if peers.find("plocate") and database.exists():
        report.add("plocate's start", peers.Run(peers.find("plocate"), "--version").seconds)
        for needle in NEEDLES * 3:
            run = peers.plocate(database, needle, "-l", str(PAGE))
            report.add("plocate", run.seconds)
    if peers.find("b3sum"):
        report.add("b3sum", peers.b3sum(truth.files))
    report.add("du", peers.du(tree / "all").seconds)
    for name, find in (("jdupes", peers.jdupes), ("fclones", lambda tree: peers.fclones(tree, scratch)),
                       ("czkawka_cli", lambda tree: peers.czkawka(tree, scratch))):
        if peers.find(name):
            run, found = find(tree)
            report.add(name, run.seconds, run.memory)
            if is_first:
                same = len(wanted & set(found))
                print(f"{name}: {len(found):,} groups, {same:,} of them b3sum's {len(wanted):,}", flush=True)


def indexed(chosen, report, kind, database, tree, truth, scratch, groups):
    """Scan, again, search, hash, groups, totals, a move."""
    ours = Ours(chosen.binary, database)
    name = lambda what: f"{kind} {what}"  # noqa: E731
    try:
        ours.add(tree)
        seconds, numbers, memory = ours.scan("METADATA")
        expect(f"a scan finds {truth.entries} entries: {numbers}", numbers["added"] == truth.entries)
        report.add(name("first"), seconds, memory)
        seconds, numbers, memory = ours.scan("METADATA")
        expect(f"nothing changed: {numbers}", numbers["added"] == numbers["changed"] == numbers["missing"] == 0)
        report.add(name("again"), seconds, memory)
        searches(ours, report, name, scratch / "locate.db", chosen.binary)
        seconds, numbers, memory = ours.scan("CONTENT")
        full = sum(os.path.getsize(path) > 0 for path in truth.files)
        expect(f"{full} files are hashed: {numbers}", numbers["hashed"] in (full, len(truth.files)))
        report.add(name("hash"), seconds, memory)
        seconds, numbers, memory = ours.verify()
        expect(f"{full} files are as they were: {numbers}", numbers["sound"] in (full, len(truth.files)))
        report.add(name("verify"), seconds, memory)
        duplicates(ours, report, name, groups)
        totals(ours, report, name, tree, truth)
        moved(ours, report, name, tree, truth)
    finally:
        ours.stop()


def searches(ours, report, name, database, binary):
    kind, search = ours.files("SearchFiles")
    kind_of_count, count = ours.files("CountFiles")
    empty = ours.channel.unary_unary("/grpc.health.v1.Health/Check")
    shown = []
    for needle in NEEDLES:
        if peers.find("plocate") and database.exists():
            theirs = int(peers.plocate(database, needle, "-c").out)
            asked = kind_of_count()
            asked.query.text = needle
            found = count(asked).count
            expect(f"{needle}: plocate counts {theirs} names, ours {found}", theirs == found)
        asked = kind(page_size=PAGE)
        asked.query.text = needle
        body = {"query": {"text": needle}, "page_size": PAGE}
        for _ in range(20):
            seconds, answer = timed(lambda: search(asked))
            report.add(name("search"), seconds)
            report.add(name("empty"), timed(lambda: empty(b""))[0])
            report.add(name("search, HTTP"), timed(lambda: ours.http("POST", "/v1/files:search", body))[0])
        shown += [len(answer.entries)] * 20
    for (seconds, found), wanted in zip(ours.searches(binary, PAGE, 20, NEEDLES), shown):
        expect(f"the compiled client finds {wanted} files, not {found}", found == wanted)
        report.add(name("search, compiled"), seconds)


def duplicates(ours, report, name, groups):
    kind, call = ours.files("ListDuplicates")
    for _ in range(5):
        report.add(name("page"), timed(lambda: call(kind(location_id=ours.location, page_size=PAGE)))[0])
    seconds, (found, _) = timed(ours.groups)
    report.add(name("groups"), seconds)
    same_groups(found, groups)


def same_groups(found, groups):
    """Every group is there, once, with every file; those of more than a page tell how many they are."""
    mine = {group.content: group for group in found}
    expect("no group comes twice", len(mine) == len(found))
    expect(f"{len(mine)} groups, b3sum has {len(groups)}", len(mine) == len(groups))
    by_paths = {frozenset(entry.path for entry in group.entries): group for group in found}
    for paths in groups.values():
        if len(paths) <= 1_000:
            expect(f"the group of {min(paths)}", paths in by_paths)
        else:
            expect("a large group", any(group.entry_count == len(paths) for group in found))


def totals(ours, report, name, tree, truth):
    kind, call = ours.files("GetUsage")
    for _ in range(20):
        seconds, answer = timed(lambda: call(kind(path=str(tree / "all"))))
        report.add(name("totals"), seconds)
    total = answer.total
    expect(f"totals are the tree's: {total}",
           (total.file_count, total.byte_count) == (len(truth.files), truth.bytes))


def moved(ours, report, name, tree, truth):
    """A subtree is renamed on the disk; a rescan makes the index right."""
    kind, count = ours.files("CountFiles")

    def below(path):
        asked = kind()
        asked.query.path = str(path)
        return count(asked).count

    unmoved, _, _ = ours.scan("METADATA")
    os.rename(tree / "all", tree / "renamed")
    try:
        seconds, numbers, memory = ours.scan("METADATA")
        expect(f"one directory was moved: {numbers}",
               numbers["moved"] == 1 and numbers["added"] == numbers["removed"] == 0)
        expect("all is below its new name", below(tree / "renamed") == truth.entries - 1)
        report.add(name("move"), seconds, memory)
        report.add(name("move alone"), max(seconds - unmoved, 1e-9))
    finally:
        os.rename(tree / "renamed", tree / "all")


def from_nothing(chosen, report, kind, database, tree, groups):
    """A server that knows nothing: scan, hash and all groups."""
    ours = Ours(chosen.binary, database)
    try:
        ours.add(tree, mode="SCAN_MODE_CONTENT")
        begin = time.perf_counter()
        ours.scan("CONTENT")
        found, _ = ours.groups()
        report.add(f"{kind} nothing", time.perf_counter() - begin, ours.memory())
        same_groups(found, groups)
    finally:
        ours.stop()


def from_disk(chosen, report, kind, tree, groups):
    """The same without a server and an index: what the peers do."""
    run = peers.Run(chosen.binary, "files", "duplicates", "--from-disk", tree, "-o", "json")
    report.add(f"{kind} disk", run.seconds, run.memory)
    found = {group["content"]: frozenset(entry["path"] for entry in group["entries"])
             for group in json.loads(run.out)["groups"]}
    expect(f"{len(found)} groups on the disk, b3sum has {len(groups)}", found == groups)


def hashed(chosen, report, databases, large):
    """Large files: what reading and hashing takes, and hardly a row."""
    if peers.find("b3sum"):
        report.add("b3sum of large files", peers.b3sum(large))
    for kind, database in databases.items():
        ours = Ours(chosen.binary, database)
        try:
            ours.add(large[0].parent)
            ours.scan("METADATA")
            seconds, numbers, memory = ours.scan("CONTENT")
            expect(f"{len(large)} files are hashed: {numbers}", numbers["hashed"] == len(large))
            report.add(f"{kind} hash large", seconds, memory)
        finally:
            ours.stop()


def table(report, databases, truth):
    report.head()
    for kind in databases:
        sqlite = kind == "sqlite"
        def there(name):
            program = name.split()[0].removesuffix("'s")
            return name if peers.find(program) else f"{program} {peers.version(program)}"

        def row(work, peer, ours, target, rate=None, kind=kind, there=there):
            shown = peer if peer in report.times else there(peer) if peer else ""
            report.row(work, peer, shown, kind, f"{kind} {ours}", target, rate)

        row("first scan with stat", "updatedb", "first", f"≤ 3×, ≥ {150 if sqlite else 80}k/s", truth.entries)
        row("unchanged rescan", "updatedb again", "again", "≤ 1.5×, ≥ 300k/s", truth.entries)
        row("substring, 100 names, p50 over gRPC", "plocate", "search", "< 1 ms")
        row("… by a compiled client", "plocate", "search, compiled", "< 1 ms")
        row("… over HTTP", "plocate", "search, HTTP", "")
        row("… a call that does nothing, gRPC", "plocate's start", "empty", "")
        row("hash all files, compare with the index", "b3sum", "verify", "≤ 1.11×")
        row("hash all files into the index", "b3sum", "hash", "≤ 1.11×")
        row("… 64 files of 32 MiB", "b3sum of large files", "hash large", "≤ 1.11×")
        for peer in ("jdupes", "fclones", "czkawka_cli"):
            row("duplicates from nothing, no index", peer, "disk", "≤ 0.8× the best, ≤ 100 MB")
            row("… into the index, all groups", peer, "nothing", "")
        row("all groups from the index", None, "groups", "")
        row(f"the {PAGE} most wasteful groups, with totals", None, "page", "< 50 ms")
        row(f"totals of a subtree of {truth.entries:,}", "du", "totals", "≤ 5 ms")
        row("its move, from the rescan to the index", None, "move", "")
        row("… beyond an unchanged rescan", None, "move alone", "≤ 200 ms")


def repeated(chosen, tree, kind, database):
    """Many entries by repetition: how long they take, how large they are, and how fast one is found."""
    ours = Ours(chosen.binary, database)
    try:
        location = ours.add("/many", device="bench", mode="SCAN_MODE_METADATA")
        teller = many.Teller(ours, tree, chosen.entries)
        stored, found, done = teller.run(location, "bench")
        expect(f"{teller.told} entries were told: {done}", done.added == teller.told)
        size = ours.stored() / teller.told if kind == "sqlite" else None
        report, name = Report(), lambda what: f"{kind} {what}"
        kind_of, search = ours.files("SearchFiles")
        empty = ours.channel.unary_unary("/grpc.health.v1.Health/Check")
        print(f"\n{kind}: {teller.told:,} entries stored in {stored:,.1f} s ({teller.told / stored:,.0f}/s), with names "
              f"found by trigrams in {found:,.1f} s; peak {ours.memory():,.0f} MB"
              + (f"; {size:,.1f} bytes an entry with all indexes (target ≤ 150)" if size else ""), flush=True)
        for needle in [*NEEDLES, many.NEEDLE]:
            asked = kind_of(page_size=PAGE)
            asked.query.text = needle
            for _ in range(20):
                seconds, answer = timed(lambda: search(asked))
                report.add(name(needle), seconds)
                report.add(name("all needles"), seconds)
                report.add(name("empty"), timed(lambda: empty(b""))[0])
            if needle == many.NEEDLE:
                expect("the one file is found", len(answer.entries) == 1)
        report.head()
        for needle in [*NEEDLES, many.NEEDLE, "all needles"]:
            report.row(f"substring {needle!r}, p50 over gRPC", None, "", kind, name(needle), "< 5 ms")
        report.row("a call that does nothing", None, "", kind, name("empty"), "")
    finally:
        ours.stop()


if __name__ == "__main__":
    main()
