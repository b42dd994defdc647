"""Archives that other programs wrote, found and hashed as directories of files."""

import io
import tarfile
import time
import zipfile

import pyarrow as pa
import pytest
import quarry_server
import requests
from test_files_bucket import pixel

FILES = {
    "photos/cat.png": b"\x89PNG\r\n\x1a\n" + bytes(2_000),
    "photos/deep/notes.txt": "naïve notes".encode(),
    "photos/ünïcode/ß.txt": b"umlauts",
    "large.bin": bytes(range(256)) * 4_096,
    "empty": b"",
}


def as_zip(path, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)


def as_tar(path, mode):
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1_700_000_000
            archive.addfile(info, io.BytesIO(content))


def as_zst(path):
    plain = path.with_suffix("")
    as_tar(plain, "w")
    # pyarrow has the codec; the format's own program may not be there.
    with pa.OSFile(str(path), "wb") as raw, pa.CompressedOutputStream(raw, "zstd") as out:
        out.write(plain.read_bytes())
    plain.unlink()


WRITERS = {
    "stored.zip": lambda path: as_zip(path, zipfile.ZIP_STORED),
    "deflated.zip": as_zip,
    "plain.tar": lambda path: as_tar(path, "w"),
    "packed.tar.gz": lambda path: as_tar(path, "w:gz"),
    "packed.tgz": lambda path: as_tar(path, "w:gz"),
    "packed.tar.zst": as_zst,
}


def entries(server, *args):
    found, token = [], None
    while True:
        page = ["--page-token", token] if token else []
        answer = server.json("files", "search", *args, "--limit", "1000", *page)
        found += answer["entries"]
        token = answer.get("next_page_token")
        if not token:
            return found


def scan(server, path, *args):
    return server.json("files", "scan", path, "--wait", *args)["job"]


def item_errors(server, job):
    bearer = {"authorization": f"Bearer {server.token}"}
    answer = requests.get(f"{server.url}/v1/jobs/{job['name']}", headers=bearer, timeout=30)
    return {error["item"]: error["message"] for error in answer.json()["item_errors"]}


@pytest.fixture
def tree(ground, tmp_path):
    (tmp_path / "cat.png").write_bytes(FILES["photos/cat.png"])
    for name, write in WRITERS.items():
        write(tmp_path / name)
    # As fresh as the scan they would be looked at twice.
    time.sleep(0.1)
    ground.cli("files", "location", "add", tmp_path, "--mode", "content", "--archives")
    scan(ground, tmp_path)
    yield tmp_path
    ground.cli("files", "location", "remove", tmp_path)


def test_every_member_is_an_entry_with_its_bytes(ground, tree):
    found = {entry["path"]: entry for entry in entries(ground, "--path", tree, "--kind", "file")}
    expected = {str(tree / "cat.png")} | {str(tree / name) for name in WRITERS}
    for archive in WRITERS:
        for name, content in FILES.items():
            path = str(tree / archive / name)
            expected.add(path)
            entry = found[path]
            assert entry["size"] == len(content), path
            assert entry["archive"] == str(tree / archive)
            assert len(entry["content"]) == 64
    assert set(found) == expected
    assert found[str(tree / "cat.png")]["archive"] == ""
    contents = {found[str(tree / archive / "large.bin")]["content"] for archive in WRITERS}
    assert len(contents) == 1, "the same bytes in every format"
    cats = {found[str(tree / archive / "photos/cat.png")]["content"] for archive in WRITERS}
    assert cats == {found[str(tree / "cat.png")]["content"]}, "and those of the plain file"
    assert found[str(tree / "plain.tar/photos/cat.png")]["content_kind"] == "image"
    # Members bear the times of their archive: 2023 in the tars, today in the zips.
    old = entries(ground, "--path", tree, "--kind", "file", "--modified-before", "2023-12-01")
    assert {entry["archive"] for entry in old} == {str(tree / name) for name in WRITERS if ".t" in name}
    new = entries(ground, "--path", tree, "--kind", "file", "--modified-after", "2023-12-01T00:00:00Z")
    assert len(old) + len(new) == len(found)


def test_duplicates_are_those_of_the_members(ground, tree):
    answer = ground.json("files", "duplicates", "--location", tree, "--verify")
    groups = {group["size"]: group for group in answer["groups"]}
    copies = {len(content): len(WRITERS) for content in FILES.values() if content}
    copies[len(FILES["photos/cat.png"])] += 1
    assert {size: group["entry_count"] for size, group in groups.items() if size in copies} == copies
    assert all(group["verified"] for group in groups.values())
    usage = ground.json("files", "du", tree / "deflated.zip")["total"]
    assert usage["byte_count"] == sum(map(len, FILES.values()))
    assert usage["file_count"] == len(FILES)
    [location] = [
        location for location in ground.json("files", "location", "list")["locations"]
        if location["path"] == str(tree)
    ]
    assert location["file_count"] == len(WRITERS) + 1
    assert location["member_count"] == len(WRITERS) * len(FILES)


def test_unchanged_archives_are_not_opened_and_changed_ones_are(ground, tree):
    result = scan(ground, tree)["result"]
    assert (result["archives"], result["archives_read"], result["hashed"]) == (len(WRITERS), 0, 0)
    with zipfile.ZipFile(tree / "deflated.zip", "a") as archive:
        archive.writestr("photos/new.txt", "new")
    result = scan(ground, tree)["result"]
    assert result["archives_read"] == 1 and result["added"] == 0, "members are no files of the disk"
    [new] = entries(ground, "new.txt", "--path", tree)
    assert new["path"] == str(tree / "deflated.zip/photos/new.txt")
    ground.cli("files", "tag", "kept", new["path"])
    assert [entry["path"] for entry in entries(ground, "--tag", "kept", "--path", tree)] == [new["path"]]
    (tree / "deflated.zip").unlink()
    scan(ground, tree)
    found = {entry["path"] for entry in entries(ground, "--path", tree)}
    assert not [path for path in found if "deflated.zip" in path]


def test_bombs_and_lies_are_told_and_the_rest_is_scanned(server, tmp_path):
    (tmp_path / "fine.txt").write_text("fine")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        with archive.open("zeros", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("zeros")
        info.size = 300 << 20
        archive.addfile(info, open("/dev/zero", "rb"))
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        archive.writestr("../../outside", "x")
        archive.writestr("/etc/passwd", "x")
        archive.writestr("inside", "inside")
    as_tar(tmp_path / "whole.tar.gz", "w:gz")
    packed = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(packed[: len(packed) // 2])
    server.cli("files", "location", "add", tmp_path, "--mode", "content", "--archives")
    quarry_server.reset_memory_peak(server.pid())
    began = time.monotonic()
    job = scan(server, tmp_path)
    took = time.monotonic() - began
    errors = item_errors(server, job)
    assert "unpacks to more than" in errors["bomb.zip"], errors
    assert "unpacks to more than" in errors["bomb.tar.gz"], errors
    assert "refused" in errors["out.zip"], errors
    assert any(item.startswith("cut.tar.gz") for item in errors), errors
    found = {entry["path"]: entry for entry in entries(server, "--path", tmp_path)}
    assert str(tmp_path / "out.zip/inside") in found
    assert str(tmp_path / "fine.txt") in found
    assert not [path for path in found if "outside" in path or "passwd" in path]
    # A zip tells before its members, a tar while they are read.
    assert str(tmp_path / "bomb.zip/zeros") not in found
    assert found[str(tmp_path / "bomb.tar.gz/zeros")]["content"] == ""
    assert quarry_server.memory_peak_bytes(server.pid()) < 1_000 << 20
    assert took < 60
    server.cli("files", "location", "remove", tmp_path)


def test_archives_are_looked_into_only_where_they_can_be(server, tmp_path):
    refused = server.cli(
        "files", "location", "add", "/far/away", "--device", "other", "--archives", check=False,
    )
    assert refused.returncode == 7 and "archives" in refused.stderr, refused
    as_zip(tmp_path / "a.zip")
    server.cli("files", "location", "add", tmp_path)
    scan(server, tmp_path)
    assert [entry["name"] for entry in entries(server, "--path", tmp_path)] == ["a.zip"]
    scan(server, tmp_path, "--archives")
    assert len(entries(server, "--path", tmp_path / "a.zip", "--kind", "file")) == len(FILES)
    scan(server, tmp_path, "--archives=false")
    assert [entry["name"] for entry in entries(server, "--path", tmp_path)] == ["a.zip"]


def test_images_in_archives_become_items(ground, tmp_path, namespace):
    def items(dataset):
        found = ground.json("items", "list", f"{namespace}/{dataset}", "--limit", "100")["items"]
        return {item["file_path"]: item.get("caption") for item in found}

    def imported(path, dataset, *args):
        return ground.json("files", "import", path, f"{namespace}/{dataset}", "--wait", *args)["job"]["result"]

    (tmp_path / "plain.png").write_bytes(pixel(1))
    (tmp_path / "plain.txt").write_text("a plain one")
    with zipfile.ZipFile(tmp_path / "old.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("2019/zipped.png", pixel(2))
        archive.writestr("2019/zipped.txt", "one in a zip")
    with tarfile.open(tmp_path / "older.tar.gz", "w:gz") as archive:
        for name, content in {"x/packed.png": pixel(3), "x/packed.txt": "naïve".encode(), "x/plain.png": pixel(1)}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    time.sleep(0.1)
    ground.cli("namespaces", "create", namespace)
    ground.cli("files", "location", "add", tmp_path, "--mode", "content")
    assert imported(tmp_path, "without")["added"] == 1
    result = imported(tmp_path, "all", "--archives", "--format", "captions")
    assert (result["added"], result["unreadable"]) == (4, 0), result
    assert {path: caption for path, caption in items("all").items() if caption} == {
        "plain.png": "a plain one", "old.zip/2019/zipped.png": "one in a zip",
        "older.tar.gz/x/packed.png": "naïve",
    }
    # Again: nothing to do. An archive that changed brings what is new in it.
    assert imported(tmp_path, "all", "--archives", "--format", "captions").get("unchanged") == 1
    with zipfile.ZipFile(tmp_path / "old.zip", "a") as archive:
        archive.writestr("2020/new.png", pixel(4))
    result = imported(tmp_path, "all", "--archives", "--format", "captions")
    assert (result["added"], result["removed"]) == (1, 0), result
    # One archive alone is a directory like others.
    result = imported(tmp_path / "older.tar.gz", "one", "--format", "captions")
    assert result["added"] == 2, result
    refused = ground.cli(
        "files", "import", tmp_path / "old.zip", f"{namespace}/x", "--by-reference", check=False,
    )
    assert refused.returncode == 7 and "by_reference" in refused.stderr, refused
    ground.cli("files", "location", "remove", tmp_path)
