"""Files that other programs wrote, through the command line."""

import csv
import glob
import pathlib
import shutil
import struct
import subprocess

import duckdb
import pyarrow.parquet as pq
import pytest
import tables

MILLION = 1_000_000
# Debian packages of PNG icons; one is enough.
ICON_PACKAGES = ["gnome-icon-theme", "oxygen-icon-theme", "adwaita-icon-theme"]
IMAGES_MIN = 1_000


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "million.parquet"
    pq.write_table(tables.table(MILLION), path)
    return path


def count(server, dataset, filter=None):
    wish = ["--filter", filter] if filter else []
    return server.json("items", "count", dataset, *wish)["count"]


def test_a_million_rows_of_parquet_by_pyarrow(server, namespace, parquet, tmp_path):
    server.cli("namespaces", "create", namespace)
    dataset = f"{namespace}/million"
    server.cli("import", parquet, dataset, "--message", "from pyarrow")
    assert count(server, dataset) == MILLION
    condition = "width > 3000 AND is_favorite = true"
    expected = duckdb.sql(f"SELECT count(*) FROM '{parquet}' WHERE {condition}").fetchall()[0][0]
    assert count(server, dataset, condition) == expected > 0
    out = tmp_path / "out.parquet"
    server.cli("export", dataset, out)
    assert pq.read_table(out).sort_by("id").cast(tables.SCHEMA).equals(pq.read_table(parquet))


def test_a_million_rows_of_csv_by_duckdb(server, namespace, tmp_path):
    path = tmp_path / "million.csv"
    duckdb.sql(
        f"""COPY (SELECT i AS id, 'name ' || i AS name, (i * 7919) % 5000 AS width, i / 8.0 AS score,
                         i % 3 = 0 AS is_favorite, DATE '2020-01-01' + CAST(i % 1000 AS INTEGER) AS day,
                         CASE WHEN i % 7 = 0 THEN NULL ELSE 'say "hi", ' || i END AS note
                  FROM range({MILLION}) t(i)) TO '{path}' (HEADER)"""
    )
    server.cli("namespaces", "create", namespace)
    dataset = f"{namespace}/csv"
    server.cli("import", path, dataset)
    assert count(server, dataset) == MILLION
    for condition, sql in [
        ("width > 3000 AND is_favorite = true", "width > 3000 AND is_favorite"),
        ("score < 10.5", "score < 10.5"),
        ('day >= "2022-06-01"', "day >= DATE '2022-06-01'"),
    ]:
        expected = duckdb.sql(f"SELECT count(*) FROM '{path}' WHERE {sql}").fetchall()[0][0]
        assert count(server, dataset, condition) == expected > 0, condition
    page = server.json("items", "list", dataset, "--filter", "id = 15", "--limit", "5")["items"]
    assert page[0]["note"] == 'say "hi", 15' and page[0]["is_favorite"] is True


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    """A folder of at least a thousand real PNG files, unpacked and not installed."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        pytest.fail("the images come from a Debian package: this needs apt-get and dpkg-deb")
    home = tmp_path_factory.mktemp("icons")
    tried = []
    for package in ICON_PACKAGES:
        fetched = subprocess.run(
            ["apt-get", "download", "-qq", package], cwd=home, capture_output=True, text=True,
            stdin=subprocess.DEVNULL,
        )
        if fetched.returncode != 0 and package == ICON_PACKAGES[0]:
            # A fresh machine has no package lists yet.
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, stdin=subprocess.DEVNULL)
            fetched = subprocess.run(
                ["apt-get", "download", "-qq", package], cwd=home, capture_output=True, text=True,
                stdin=subprocess.DEVNULL,
            )
        debs = glob.glob(str(home / f"{package}_*.deb"))
        if not debs:
            tried.append(f"{package}: {fetched.stderr.strip()}")
            continue
        unpacked = home / package
        subprocess.run(["dpkg-deb", "-x", debs[0], unpacked], check=True)
        files = [file for file in unpacked.rglob("*.png") if not file.is_symlink()]
        if len(files) >= IMAGES_MIN:
            return flat(files, home / "images")
        tried.append(f"{package}: {len(files)} images")
    pytest.fail("no package gave a thousand images: " + "; ".join(tried))


def flat(files, folder):
    folder.mkdir()
    for number, file in enumerate(sorted(files)):
        shutil.copyfile(file, folder / f"{number:05}-{file.name}")
    return folder


def png_size(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_a_folder_of_real_images(server, namespace, icons):
    files = sorted(icons.glob("*.png"))
    captions = {file.name: f"icon {at}" for at, file in enumerate(files[:50])}
    with open(icons / "metadata.csv", "w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["file_name", "caption"])
        writer.writerows(captions.items())
    (icons / f"{files[60].stem}.txt").write_text("beside the image\n")
    broken = icons / "99999-broken.png"
    broken.write_bytes(files[0].read_bytes()[:40])
    server.cli("namespaces", "create", namespace)
    dataset = f"{namespace}/icons"
    done = server.cli("import", icons, dataset, "--format", "images")
    assert broken.name in done.stdout + done.stderr, "a broken file is reported with its path"
    assert count(server, dataset) == len(files)
    rows, token = [], None
    while True:
        more = ["--page-token", token] if token else []
        page = server.json("items", "list", dataset, "--limit", "1000", *more)
        rows += page["items"]
        token = page.get("next_page_token")
        if not token:
            break
    by_name = {pathlib.PurePath(row["file_path"]).name: row for row in rows}
    assert len(by_name) == len(files)
    for file in files:
        row = by_name[file.name]
        assert (row["width"], row["height"]) == png_size(file), file.name
        assert row["mime_type"] == "image/png"
        assert row["file_size_bytes"] == file.stat().st_size
    assert by_name[files[7].name]["caption"] == "icon 7"
    assert by_name[files[60].name]["caption"] == "beside the image"
