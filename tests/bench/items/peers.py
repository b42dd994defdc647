"""The engines that people use instead, each at its best: in process, with its own indexes."""

import datetime
import time

import pyarrow as pa
import pyarrow.dataset as dataset

from ours import SCANNED, ids


def at(number):
    """A point in time as the engines take it."""
    micros = 1_700_000_000_000_000 + number * 1_000_003
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + \
        datetime.timedelta(microseconds=micros)


def groups(rows):
    return sorted((tags, count, round(mean, 6), int(top)) for tags, count, mean, top in rows)


class Sql:
    """Everything in SQL; `rows` answers a table, `value` one number."""

    table = "items"
    text = "LIKE"

    def page_after(self, id):
        return ids(self.rows(f"SELECT * FROM {self.table} WHERE id > '{id}' ORDER BY id LIMIT 100"))

    def page_at(self, position):
        return ids(self.rows(f"SELECT * FROM {self.table} LIMIT 100 OFFSET {position}"))

    def by_id(self, id):
        return ids(self.rows(f"SELECT * FROM {self.table} WHERE id = '{id}'"))

    def by_external_id(self, external_id):
        return ids(self.rows(f"SELECT * FROM {self.table} WHERE external_id = '{external_id}'"))

    def count_all(self):
        return self.value(f"SELECT count(*) FROM {self.table}")

    def count_two(self, width):
        return self.value(f"SELECT count(*) FROM {self.table} WHERE width = {width} AND is_favorite")

    def count_range(self, width, ratio):
        return self.value(
            f"SELECT count(*) FROM {self.table} WHERE width > {width} AND aspect_ratio < {ratio}")

    def count_time(self, height, number):
        return self.value(f"SELECT count(*) FROM {self.table} WHERE height > {height} "
                          f"AND created_at < {self.moment(number)}")

    def count_text(self, text):
        return self.value(
            f"SELECT count(*) FROM {self.table} WHERE description LIKE '%{text}%'")

    def scan(self, width):
        return len(self.rows(f"SELECT {', '.join(SCANNED)} FROM {self.table} "
                             f"WHERE width >= {width} AND width < {width + 51}"))

    def group(self, where=""):
        table = self.rows(f"SELECT tags_json, count(*) AS n, avg(width) AS mean, max(height) AS top "
                          f"FROM {self.table} {where} GROUP BY tags_json")
        return groups(zip(*(column.to_pylist() for column in table.columns)))

    def group_where(self, width):
        return self.group(f"WHERE width > {width}")

    def statistics(self):
        found = self.rows(f"SELECT count(*) - count(width), min(width), max(width) FROM {self.table}")
        return tuple(column[0].as_py() for column in found.columns)

    @staticmethod
    def moment(number):
        return f"TIMESTAMPTZ '{at(number).isoformat()}'"


class DuckParquet(Sql):
    def __init__(self, shelf):
        import duckdb
        self.version = duckdb.__version__
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.connection.execute("SET parquet_metadata_cache = true") if self._knows() else None
        self.table = f"read_parquet('{shelf.glob}')"

    def _knows(self):
        return self.connection.execute("SELECT count(*) FROM duckdb_settings() WHERE name = "
                                       "'parquet_metadata_cache'").fetchall()[0][0] > 0

    def rows(self, sql):
        return self.connection.sql(sql).to_arrow_table()

    def value(self, sql):
        return self.connection.execute(sql).fetchall()[0][0]

    def stream(self):
        reader = self.connection.sql(f"SELECT * FROM {self.table}").to_arrow_reader(65_536)
        return sum(len(batch) for batch in reader)


class DuckNative(DuckParquet):
    def __init__(self, shelf):
        super().__init__(shelf)
        path = shelf.home / f"native-{shelf.rows}.duckdb"
        fresh = not path.exists()
        import duckdb
        self.connection = duckdb.connect(str(path))
        self.connection.execute("SET TimeZone = 'UTC'")
        if fresh:
            begin = time.perf_counter()
            self.connection.execute(f"CREATE TABLE items AS SELECT * FROM {self.table}")
            self.connection.execute("CHECKPOINT")
            self.loaded_seconds = time.perf_counter() - begin
        self.table = "items"

    def update_by_key(self, keys, title):
        wanted = ", ".join(f"'{key}'" for key in keys)
        self.connection.execute(f"UPDATE items SET title = '{title}' WHERE id IN ({wanted})")

    def delete_width(self, width):
        self.connection.execute(f"DELETE FROM items WHERE width = {width}")

    def take(self, positions):
        wanted = ", ".join(map(str, positions))
        return ids(self.rows(f"SELECT * FROM items WHERE rowid IN ({wanted}) ORDER BY rowid"))


class DataFusion(Sql):
    # Without an order it answers any rows at an offset.
    page_at = None

    def __init__(self, shelf):
        import datafusion
        self.version = datafusion.__version__
        config = datafusion.SessionConfig({
            "datafusion.execution.parquet.pushdown_filters": "true",
            "datafusion.execution.parquet.reorder_filters": "true",
        })
        self.context = datafusion.SessionContext(config)
        self.context.register_parquet("items", str(shelf.parquet), file_extension=".parquet")

    def rows(self, sql):
        return self.context.sql(sql).to_arrow_table()

    def value(self, sql):
        return self.context.sql(sql).to_arrow_table().column(0)[0].as_py()

    @staticmethod
    def moment(number):
        return f"arrow_cast('{at(number).strftime('%Y-%m-%dT%H:%M:%S.%fZ')}', " \
               "'Timestamp(Microsecond, Some(\"UTC\"))')"


class Polars:
    def __init__(self, shelf):
        import polars
        self.pl, self.version = polars, polars.__version__
        self.frame = polars.scan_parquet(shelf.glob)

    def page_after(self, id):
        found = self.frame.filter(self.pl.col("id") > id).head(100).collect()
        return found["id"].to_list()

    def page_at(self, position):
        return self.frame.slice(position, 100).collect()["id"].to_list()

    def by_id(self, id):
        return self.frame.filter(self.pl.col("id") == id).collect()["id"].to_list()

    def by_external_id(self, external_id):
        found = self.frame.filter(self.pl.col("external_id") == external_id).collect()
        return found["id"].to_list()

    def count(self, condition):
        return self.frame.filter(condition).select(self.pl.len()).collect().item()

    def count_all(self):
        return self.frame.select(self.pl.len()).collect().item()

    def count_two(self, width):
        return self.count((self.pl.col("width") == width) & self.pl.col("is_favorite"))

    def count_range(self, width, ratio):
        return self.count((self.pl.col("width") > width) & (self.pl.col("aspect_ratio") < ratio))

    def count_time(self, height, number):
        return self.count((self.pl.col("height") > height) & (self.pl.col("created_at") < at(number)))

    def count_text(self, text):
        return self.count(self.pl.col("description").str.contains(text, literal=True))

    def scan(self, width):
        condition = (self.pl.col("width") >= width) & (self.pl.col("width") < width + 51)
        return len(self.frame.filter(condition).select(SCANNED).collect())

    def group(self, frame=None):
        frame = self.frame if frame is None else frame
        found = frame.group_by("tags_json").agg(
            self.pl.len(), self.pl.col("width").mean(), self.pl.col("height").max()).collect()
        return groups(found.rows())

    def group_where(self, width):
        return self.group(self.frame.filter(self.pl.col("width") > width))


class Lance:
    def __init__(self, shelf):
        import lancedb
        self.version = lancedb.__version__
        path = shelf.home / f"lance-{shelf.rows}"
        database = lancedb.connect(str(path))
        if (path / "complete").exists():
            self.table = database.open_table("items")
            return
        begin = time.perf_counter()
        self.table = database.create_table("items", shelf.reader(), mode="overwrite")
        self.loaded_seconds = time.perf_counter() - begin
        self.table.create_scalar_index("id", index_type="BTREE")
        self.table.create_scalar_index("external_id", index_type="BTREE")
        self.table.create_scalar_index("width", index_type="BITMAP")
        self.table.create_scalar_index("is_favorite", index_type="BITMAP")
        (path / "complete").touch()

    def find(self, where, limit, columns=None):
        query = self.table.search().where(where).limit(limit)
        return (query.select(columns) if columns else query).to_arrow()

    def page_after(self, id):
        return sorted(ids(self.find(f"id > '{id}'", 100)))

    def page_at(self, position):
        return ids(self.table.search().offset(position).limit(100).to_arrow())

    def by_id(self, id):
        return ids(self.find(f"id = '{id}'", 10))

    def by_external_id(self, external_id):
        return ids(self.find(f"external_id = '{external_id}'", 10))

    def take(self, positions):
        return ids(self.table.take_offsets(positions).to_arrow())

    def count_all(self):
        return self.table.count_rows()

    def count_two(self, width):
        return self.table.count_rows(f"width = {width} AND is_favorite = true")

    def count_range(self, width, ratio):
        return self.table.count_rows(f"width > {width} AND aspect_ratio < {ratio}")

    def count_text(self, text):
        return self.table.count_rows(f"description LIKE '%{text}%'")

    def scan(self, width):
        return len(self.find(f"width >= {width} AND width < {width + 51}", 10_000_000, SCANNED))

    def update_by_key(self, keys, title):
        wanted = ", ".join(f"'{key}'" for key in keys)
        self.table.update(where=f"id IN ({wanted})", values={"title": title})

    def delete_width(self, width):
        self.table.delete(f"width = {width}")


class Delta:
    page_at = None

    def __init__(self, shelf):
        import deltalake
        self.version = deltalake.__version__
        path = shelf.home / f"delta-{shelf.rows}"
        if not (path / "complete").exists():
            begin = time.perf_counter()
            deltalake.write_deltalake(str(path), shelf.reader(), mode="overwrite")
            self.loaded_seconds = time.perf_counter() - begin
            (path / "complete").touch()
        self.builder = deltalake.QueryBuilder().register("items", deltalake.DeltaTable(str(path)))

    def rows(self, sql):
        found = self.builder.execute(sql)
        return pa.table(found.read_all() if hasattr(found, "read_all") else found)

    def value(self, sql):
        return self.rows(sql).column(0)[0].as_py()


Delta = type("Delta", (Delta, Sql), {"moment": staticmethod(DataFusion.moment)})


class ArrowDataset:
    """pyarrow's own dataset: what a script without an engine does."""

    def __init__(self, shelf):
        self.version = pa.__version__
        self.data = dataset.dataset(str(shelf.parquet), format="parquet", exclude_invalid_files=True)

    def count_two(self, width):
        field = dataset.field
        return self.data.count_rows(filter=(field("width") == width) & field("is_favorite"))

    def stream(self):
        return sum(len(batch) for batch in self.data.to_batches())

    def scan(self, width):
        field = dataset.field
        condition = (field("width") >= width) & (field("width") < width + 51)
        return len(self.data.to_table(columns=SCANNED, filter=condition))


ALL = {
    "duckdb": DuckNative,
    "duckdb-parquet": DuckParquet,
    "datafusion": DataFusion,
    "polars": Polars,
    "lancedb": Lance,
    "delta-rs": Delta,
    "pyarrow": ArrowDataset,
}
