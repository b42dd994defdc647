"""What people ask of an index of files: each question of the file indexer's own document, and a few more, compared with
what `os` says of the same tree."""

import collections
import os
import struct
import time
import wave
import zlib

import pytest
from grpc import StatusCode
from reflected import Reflected, refused

FILES = "quarry.files.v1.FilesService"
MARKS = "quarry.files.v1.MarksService"
LOCATIONS = "quarry.files.v1.LocationsService"
MIB = 1 << 20


def pixel(grey):
    """A picture of one pixel."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes([0, grey]))) + chunk(b"IEND", b"")
    )


def box(kind, body, wide=False):
    """A box of an MP4; `wide`: with a size of 64 bits."""
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body
    return struct.pack(">I4s", len(body) + 8, kind) + body


def clip(seconds, width, height):
    """An MP4 whose header stands behind 300 KB of pictures, as cameras write it."""
    header = struct.pack(">IIIII", 0, 0, 0, 600, seconds * 600) + bytes(80)
    track = bytes(76) + struct.pack(">II", width << 16, height << 16)
    return (
        box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", bytes(300_000), wide=True)
        + box(b"moov", box(b"mvhd", header) + box(b"trak", box(b"tkhd", track)))
    )


TREE = {
    "papers/one.pdf": b"%PDF-1.7 one",
    "papers/two.PDF": b"%PDF-1.7 two",
    "papers/pdf.txt": b"about a pdf",
    "photos/a.png": pixel(1),
    "photos/copy of a.png": pixel(1),
    "photos/2024/b.png": pixel(2),
    "photos/2024/deep/a.png": pixel(1),
    "clips/holiday.mp4": clip(75, 640, 360),
    "notes": b"words",
}
# Sizes in MiB without a byte on the disk.
LARGE = {"video/raw/1.bin": 300, "video/raw/2.bin": 150, "video/3.bin": 120, "iso/4.iso": 700, "iso/small": 99}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("use")
    for name, content in TREE.items():
        path = root / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with wave.open(str(root / "small/clips/tone.wav"), "wb") as tone:
        tone.setnchannels(2), tone.setsampwidth(2), tone.setframerate(8_000)
        tone.writeframes(bytes(4 * 8_000 * 3))
    for name, size in LARGE.items():
        path = root / "large" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(size * MIB)
    return root


@pytest.fixture
def asked(ground, tree):
    """The platform, asked by reflection, with the tree as two locations."""
    for name, mode in [("small", "content"), ("large", "metadata")]:
        if not [one for one in ground.json("files", "location", "list")["locations"] if one["path"] == str(tree / name)]:
            ground.cli("files", "location", "add", tree / name, "--mode", mode)
            ground.cli("files", "scan", tree / name, "--wait")
    with Reflected(ground.address, ground.token) as asked:
        yield asked


def paths(answer):
    return sorted(entry["path"] for entry in answer["entries"])


def on_disk(root, keep=lambda path: True):
    found = [os.path.join(dir, name) for dir, _, names in os.walk(root) for name in names]
    return sorted(path for path in found if keep(path))


def test_find_files_by_name_pattern(asked, tree):
    by_extension = asked(f"{FILES}/SearchFiles", query={"extensions": ["pdf"], "path": str(tree / "small")})
    expected = on_disk(tree / "small", lambda path: path.lower().endswith(".pdf"))
    assert paths(by_extension) == expected and len(expected) == 2
    by_glob = asked(f"{FILES}/SearchFiles", query={"glob": "*.pdf", "path": str(tree / "small")})
    assert paths(by_glob) == on_disk(tree / "small", lambda path: path.endswith(".pdf"))
    by_text = asked(f"{FILES}/SearchFiles", query={"text": "pdf", "path": str(tree / "small")})
    assert paths(by_text) == on_disk(tree / "small", lambda path: "pdf" in os.path.basename(path).lower())


def test_find_files_with_specific_tag(asked, tree):
    photo, copy = str(tree / "small/photos/a.png"), str(tree / "small/photos/copy of a.png")
    asked(f"{MARKS}/TagFiles", tag="Important", paths=[str(tree / "small/notes")])
    asked(f"{MARKS}/TagFiles", tag="Portrait", paths=[photo], scope="MARK_SCOPE_CONTENT")
    asked(f"{MARKS}/SetTag", name="Portrait", implies=["Important"])
    found = asked(f"{FILES}/SearchFiles", query={"tags": ["Important"], "path": str(tree / "small")})
    same = str(tree / "small/photos/2024/deep/a.png")
    assert paths(found) == sorted([str(tree / "small/notes"), photo, copy, same]), "implied, wherever the bytes are"
    assert not asked(f"{FILES}/SearchFiles", query={"tags": ["important"]})["entries"]


def test_find_duplicate_content_and_wasted_bytes(asked, tree):
    [location] = asked(f"{LOCATIONS}/ListLocations", holding=str(tree / "small"))["locations"]
    answer = asked(f"{FILES}/ListDuplicates", location_id=location["id"], verify=True)
    by_bytes = collections.defaultdict(list)
    for path in on_disk(tree / "small"):
        by_bytes[open(path, "rb").read()].append(path)
    expected = {tuple(same): len(content) for content, same in by_bytes.items() if len(same) > 1}
    assert {tuple(paths(group)): int(group["size"]) for group in answer["groups"]} == expected
    wasted = sum(size * (len(same) - 1) for same, size in expected.items())
    assert int(answer["wasted_bytes"]) == wasted > 0
    only = asked(f"{FILES}/SearchFiles", query={"duplicates_only": True, "path": str(tree / "small")})
    assert paths(only) == sorted(path for same in expected for path in same)


def test_reconstruct_full_path(asked, tree):
    found, token = [], ""
    while True:
        page = asked(
            f"{FILES}/SearchFiles", query={"path": str(tree / "small"), "kinds": ["ENTRY_KIND_FILE"]},
            page_size=3, page_token=token, sort_by="SORT_BY_NAME",
        )
        found += page["entries"]
        token = page["next_page_token"]
        if not token:
            break
    assert sorted(entry["path"] for entry in found) == on_disk(tree / "small"), "in pages of three, none twice"
    for entry in found:
        by_id = asked(f"{FILES}/GetFile", id=entry["id"])["entry"]
        by_path = asked(f"{FILES}/GetFile", path=entry["path"])["entry"]
        assert by_id == by_path and by_id["path"] == entry["path"]
        assert os.path.getsize(by_id["path"]) == int(by_id["size"])
    location = found[0]["location_id"]
    refused(lambda: asked(f"{FILES}/GetFile", path=str(tree / "small/nothing")), StatusCode.NOT_FOUND, "nothing")
    refused(lambda: asked(f"{FILES}/GetFile", id=f"{location}.999999999"), StatusCode.NOT_FOUND, "file")
    refused(lambda: asked(f"{FILES}/GetFile", id="7"), StatusCode.INVALID_ARGUMENT, "id")
    refused(lambda: asked(f"{FILES}/GetFile"), StatusCode.INVALID_ARGUMENT, "path")


def test_find_large_files_by_directory(asked, tree):
    answer = asked(
        f"{FILES}/CountFiles", by=["FACET_BY_DIRECTORY"],
        query={"kinds": ["ENTRY_KIND_FILE"], "size_min": 100 * MIB + 1, "path": str(tree / "large")},
    )
    sums = collections.Counter()
    counts = collections.Counter()
    for path in on_disk(tree / "large", lambda path: os.path.getsize(path) > 100 * MIB):
        sums[os.path.dirname(path)] += os.path.getsize(path)
        counts[os.path.dirname(path)] += 1
    got = [(row["value"], int(row["bytes"]), int(row["count"])) for row in answer["directories"]]
    assert got == [(dir, size, counts[dir]) for dir, size in sums.most_common()] and len(got) == 3
    assert int(answer["bytes"]) == sum(sums.values())
    refused(
        lambda: asked(f"{FILES}/CountFiles", limit=1_001), StatusCode.INVALID_ARGUMENT, "limit",
    )


def test_usage_below_each_directory(asked, tree):
    answer = asked(f"{FILES}/GetUsage", path=str(tree / "large"))
    assert int(answer["total"]["byte_count"]) == sum(LARGE.values()) * MIB
    assert int(answer["total"]["file_count"]) == len(LARGE)
    rows = {os.path.basename(row["path"]): int(row["byte_count"]) // MIB for row in answer["directories"]}
    assert list(rows.items()) == [("iso", 799), ("video", 570)]


def test_tag_usage_statistics(asked, tree):
    for name, count in [("used twice", 2), ("used once", 1)]:
        asked(f"{MARKS}/TagFiles", tag=name, paths=on_disk(tree / "large")[:count])
    asked(f"{MARKS}/SetTag", name="never used")
    tags, token = [], ""
    while True:
        page = asked(f"{MARKS}/ListTags", by_count=True, page_size=2, page_token=token)
        tags += [(tag["name"], int(tag["count"])) for tag in page["tags"]]
        token = page["next_page_token"]
        if not token:
            break
    counts = [count for _, count in tags]
    assert counts == sorted(counts, reverse=True) and len(set(tags)) == len(tags)
    assert {("used twice", 2), ("used once", 1), ("never used", 0)} <= set(tags)
    # What a search of them finds, and the facet of them.
    for name, count in tags:
        tagged = {"with_hidden": True, "tags": [name], "path": str(tree / "large")}
        if name.startswith("used"):
            assert int(asked(f"{FILES}/CountFiles", query=tagged)["count"]) == count
    facet = asked(f"{FILES}/CountFiles", by=["FACET_BY_TAG"], query={"path": str(tree / "large")})
    assert [(row["value"], int(row["count"])) for row in facet["tags"]] == [("used twice", 2), ("used once", 1)]


def test_location_totals(asked, tree):
    [location] = asked(f"{LOCATIONS}/ListLocations", holding=str(tree / "large"))["locations"]
    assert int(location["file_count"]) == len(on_disk(tree / "large"))
    assert int(location["byte_count"]) == sum(LARGE.values()) * MIB


def test_counts_by_kind_extension_and_type(asked, tree):
    by = [f"FACET_BY_{word}" for word in ("KIND", "EXTENSION", "LOCATION", "CONTENT_KIND")]
    answer = asked(f"{FILES}/CountFiles", by=by, query={"path": str(tree / "small")})
    extensions = collections.Counter(
        os.path.splitext(path)[1].lower().lstrip(".") for path in on_disk(tree / "small")
    )
    counted = {row["value"]: int(row["count"]) for row in answer["extensions"]}
    assert counted | {"": extensions[""]} == extensions
    kinds = {row["value"]: int(row["count"]) for row in answer["kinds"]}
    dirs = sum(len(dirs) for _, dirs, _ in os.walk(tree / "small"))
    assert kinds == {"file": sum(extensions.values()), "directory": dirs}
    types = {row["value"]: int(row["count"]) for row in answer["content_kinds"]}
    assert (types["image"], types["video"], types["audio"], types["document"]) == (4, 1, 1, 2)
    assert [row["value"] for row in answer["locations"]] == [str(tree / "small")]
    assert not answer["tags"] and not answer["directories"], "only what was asked for"
    refused(lambda: asked(f"{FILES}/CountFiles", by=[99]), StatusCode.INVALID_ARGUMENT, "by")


def test_what_lies_in_a_directory_itself(asked, tree):
    here = asked(f"{FILES}/SearchFiles", query={"path": str(tree / "small/photos"), "directly": True})
    assert [os.path.basename(path) for path in paths(here)] == sorted(os.listdir(tree / "small/photos"))
    roots = asked(f"{FILES}/SearchFiles", query={"path": str(tree / "small"), "directly": True})
    assert [os.path.basename(path) for path in paths(roots)] == sorted(os.listdir(tree / "small"))
    refused(
        lambda: asked(f"{FILES}/SearchFiles", query={"directly": True}),
        StatusCode.INVALID_ARGUMENT, "query.directly",
    )


def test_media_data(asked, tree):
    film = asked(f"{FILES}/GetFile", path=str(tree / "small/clips/holiday.mp4"))["entry"]
    assert film["content_kind"] == "video"
    media = film["media"]
    assert (int(media["duration_ms"]), int(media["width"]), int(media["height"])) == (75_000, 640, 360)
    tone = asked(f"{FILES}/GetFile", path=str(tree / "small/clips/tone.wav"))["entry"]
    assert (tone["content_kind"], int(tone["media"]["duration_ms"])) == ("audio", 3_000)
    photo = asked(f"{FILES}/GetFile", path=str(tree / "small/photos/a.png"))["entry"]
    assert (int(photo["media"]["width"]), int(photo["media"]["duration_ms"])) == (1, 0)


def test_labels_notes_and_properties_are_read_back(asked, tree):
    path = str(tree / "small/photos/2024/b.png")
    asked(f"{MARKS}/LabelFiles", label="animal/cat", paths=[path], confidence=0.75, source="model-7")
    asked(f"{MARKS}/LabelFiles", label="animal/cat", paths=[path])
    asked(
        f"{MARKS}/AnnotateFile", path=path, note="blurred", favorite=True,
        properties={"project": "x", "stage": "raw"}, scope="MARK_SCOPE_CONTENT",
    )
    asked(f"{MARKS}/AnnotateFile", path=path, properties={"stage": ""}, scope="MARK_SCOPE_CONTENT")
    entry = asked(f"{FILES}/GetFile", path=path)["entry"]
    labels = [(row["label"], row["confidence"], row["source"]) for row in entry["labels"]]
    assert sorted(labels) == [("animal/cat", 0.75, "model-7"), ("animal/cat", 1.0, "")]
    assert (entry["note"], entry["favorite"], entry["properties"]) == ("blurred", True, {"project": "x"})
    for query, count in [
        ({"labels": ["animal"]}, 1), ({"labels": ["anim"]}, 0),
        ({"properties": {"project": "x"}}, 1), ({"properties": {"project": "y"}}, 0),
        ({"properties": {"project": "x", "stage": "raw"}}, 0), ({"favorites_only": True}, 1),
    ]:
        query = query | {"path": str(tree / "small")}
        assert len(asked(f"{FILES}/SearchFiles", query=query)["entries"]) == count, query
    facet = asked(f"{FILES}/CountFiles", by=["FACET_BY_LABEL"], query={"path": str(tree / "small")})
    assert [(row["value"], int(row["count"])) for row in facet["labels"]] == [("animal/cat", 1)]
    refused(
        lambda: asked(f"{MARKS}/AnnotateFile", path=path, properties={"x" * 201: "1"}),
        StatusCode.INVALID_ARGUMENT, "properties",
    )
    refused(
        lambda: asked(f"{FILES}/SearchFiles", query={"properties": {str(n): "1" for n in range(101)}}),
        StatusCode.INVALID_ARGUMENT, "query.properties",
    )


def test_marks_for_oneself(ground, asked, tree, namespace):
    name = f"user-{namespace[3:15]}"
    ground.cli("users", "create", name)
    secret = ground.json("tokens", "create", "--user", name)["secret"]
    location = str(tree / "large")
    grant = ground.json("grants", "add", name, location, "read")["grant"]
    for listed in [("grants", "list", location), ("grants", "list", "--user", name)]:
        [on] = [found["resource"] for found in ground.json(*listed)["grants"] if found["user"] == name]
        assert on["name"] == location and on["id"] == grant["resource"]["id"]
    inside = ground.cli("grants", "add", name, f"{location}/iso", "read", check=False)
    assert inside.returncode != 0 and "grants are on whole locations" in inside.stderr
    path = str(tree / "large/iso/small")
    with Reflected(ground.address, secret) as reader:
        deadline = time.monotonic() + 5
        while not reader(f"{LOCATIONS}/ListLocations")["locations"]:
            assert time.monotonic() < deadline, "the grant is known within a second"
        # Who may only read says something for himself, and nothing for others.
        for method, fields in [
            ("TagFiles", {"tag": name, "paths": [path]}),
            ("LabelFiles", {"label": name, "paths": [path]}),
            ("AnnotateFile", {"path": path, "note": name}),
        ]:
            refused(lambda: reader(f"{MARKS}/{method}", **fields), StatusCode.PERMISSION_DENIED, "")
            reader(f"{MARKS}/{method}", **fields, personal=True)
        mine = reader(f"{FILES}/GetFile", path=path)["entry"]
        assert name in mine["tags"] and mine["note"] == name and mine["labels"][0]["label"] == name
        theirs = asked(f"{FILES}/GetFile", path=path)["entry"]
        assert name not in theirs["tags"] and theirs["note"] == "" and not theirs["labels"]
        tagged = {"tags": [name]}
        assert paths(reader(f"{FILES}/SearchFiles", query=tagged)) == [path]
        assert paths(asked(f"{FILES}/SearchFiles", query=tagged)) == []
        names = lambda who: [tag["name"] for tag in who(f"{MARKS}/ListTags", page_size=1_000)["tags"]]
        assert name in names(reader) and name not in names(asked)
        hide = {"path": path, "hidden": True, "personal": True}
        reader(f"{MARKS}/AnnotateFile", **hide)
        below = {"path": location, "text": "small"}
        assert paths(reader(f"{FILES}/SearchFiles", query=below)) == []
        assert paths(asked(f"{FILES}/SearchFiles", query=below)) == [path]
        reader(f"{MARKS}/TagFiles", tag=name, paths=[path], personal=True, remove=True)
        assert name not in reader(f"{FILES}/GetFile", path=path)["entry"]["tags"]
        ground.cli("grants", "remove", name, location)
        deadline = time.monotonic() + 5
        while reader(f"{LOCATIONS}/ListLocations")["locations"]:
            assert time.monotonic() < deadline, "what was taken back is known within a second"


def test_database_statistics_and_optimization(asked, tree):
    ops = "quarry.ops.v1.Ops"
    before = asked(f"{FILES}/SearchFiles", query={"path": str(tree / "small"), "text": "png"})
    [service] = asked(f"{ops}/GetDatabaseStatistics", service="file-indexer", exact=True)["services"]
    tables = {table["name"]: table for table in service["tables"]}
    assert int(tables["location"]["row_count"]) >= 2
    assert all(int(table["byte_count"]) > 0 for table in tables.values())
    for vacuum in (False, True):
        [done] = asked(f"{ops}/OptimizeDatabase", service="file-indexer", vacuum=vacuum)["services"]
        assert done["service"] == "file-indexer" and int(done["byte_count"]) > 0
    after = asked(f"{FILES}/SearchFiles", query={"path": str(tree / "small"), "text": "png"})
    assert after == before and len(after["entries"]) == 4
    refused(
        lambda: asked(f"{ops}/OptimizeDatabase", service="nobody"), StatusCode.INVALID_ARGUMENT, "nobody",
    )


def test_the_command_line_says_the_same(ground, asked, tree):
    counted = ground.json("files", "count", "--path", tree / "large", "--size-min", 100 * MIB, "--by", "directory,extension")
    assert [row["value"] for row in counted["directories"]] == [
        str(tree / "large" / name) for name in ("iso", "video/raw", "video")
    ]
    assert {row["value"]: row["count"] for row in counted["extensions"]} == {"bin": 3, "iso": 1}
    people = ground.cli("files", "count", "--path", tree / "large").stdout
    assert f"{sum(LARGE.values()) * MIB} bytes" in people
    entry = ground.json("files", "show", tree / "small/clips/tone.wav")["entry"]
    assert entry["media"]["duration_ms"] == 3_000
    listed = ground.json("files", "search", "--path", tree / "small/photos", "--directly")["entries"]
    assert len(listed) == len(os.listdir(tree / "small/photos"))
    done = ground.json("ops", "optimize", "--service", "file-indexer", "--vacuum")["services"]
    assert done[0]["byte_count"] > 0
    wrong = ground.cli("files", "tag", "alone", check=False)
    assert wrong.returncode == 2 and "--implies" in wrong.stderr, "nothing is cleared unasked"
