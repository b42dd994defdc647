"""The data of the benchmark: the same rows as Parquet shards for every peer.

Made piece by piece, so that it fits in memory at any number of rows, and kept between runs
when a directory is named.
"""

import pathlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

import tables

BATCH_ROWS = 65_536
SHARD_ROWS = 1_000_000
ROW_GROUP_ROWS = 131_072


class Shelf:
    def __init__(self, home: pathlib.Path, rows: int):
        self.home, self.rows = home, rows
        self.parquet = home / f"parquet-{rows}"

    @staticmethod
    def columns():
        return tables.SCHEMA.names

    def batches(self):
        for begin in range(0, self.rows, BATCH_ROWS):
            yield tables.rows(begin, min(begin + BATCH_ROWS, self.rows))

    def reader(self):
        """The rows as every engine loads them: from the shards when they were made, so that no
        load pays for making the rows."""
        stored = self.stored() if (self.parquet / "complete").exists() else self.batches()
        return pa.RecordBatchReader.from_batches(tables.SCHEMA, stored)

    def stored(self):
        shards = sorted(self.parquet.glob("*.parquet"))
        for shard in shards:
            yield from pq.ParquetFile(shard).iter_batches(batch_size=BATCH_ROWS)

    def make(self):
        if (self.parquet / "complete").exists():
            return
        self.parquet.mkdir(parents=True, exist_ok=True)
        writer, written, shard = None, 0, 0
        for batch in self.batches():
            if writer is None:
                path = self.parquet / f"shard-{shard:04d}.parquet"
                writer = pq.ParquetWriter(path, tables.SCHEMA, compression="zstd",
                                          compression_level=1, write_page_index=True)
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
            written += len(batch)
            if written >= SHARD_ROWS:
                writer.close()
                writer, written, shard = None, 0, shard + 1
        if writer:
            writer.close()
        (self.parquet / "complete").touch()

    def forget_edited(self):
        """Takes away what peers changed, so that a next run begins with the same rows."""
        (self.home / f"native-{self.rows}.duckdb").unlink(missing_ok=True)
        shutil.rmtree(self.home / f"lance-{self.rows}", ignore_errors=True)

    @property
    def glob(self):
        return str(self.parquet / "*.parquet")
