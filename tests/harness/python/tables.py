"""A table of 15 columns and about 348 bytes a row, as image datasets have it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SCHEMA = pa.schema([
    pa.field("id", pa.string(), nullable=False),
    ("dataset_id", pa.string()),
    ("external_id", pa.string()),
    ("title", pa.string()),
    ("description", pa.string()),
    ("image_url", pa.string()),
    ("thumbnail_url", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("aspect_ratio", pa.float64()),
    ("tags_json", pa.string()),
    ("is_favorite", pa.bool_()),
    ("metadata_json", pa.string()),
    ("created_at", pa.timestamp("us", tz="UTC")),
    ("updated_at", pa.timestamp("us", tz="UTC")),
])

WORDS = ["harbour", "meadow", "station", "library", "mountain", "kitchen", "market", "bridge"]
TAGS = ['["sea","boat"]', '["grass"]', '["train","night","city"]', '[]']


def text(*parts):
    """Joins constants and columns row by row."""
    return pc.binary_join_element_wise(*parts, "")


def pick(values, numbers):
    return pa.DictionaryArray.from_arrays(
        pa.array(numbers % len(values), pa.int32()), pa.array(values)
    ).cast(pa.string())


def rows(begin, end):
    """Rows `begin` to `end`, the same values every time."""
    number = np.arange(begin, end, dtype=np.int64)
    mixed = (number * 2_654_435_761) % 4_294_967_296
    digits = pc.utf8_lpad(pa.array(number).cast(pa.string()), 12, "0")
    noise = pc.utf8_lpad(pa.array(mixed).cast(pa.string()), 10, "0")
    width = (640 + mixed % 3_400).astype(np.int32)
    height = (480 + (mixed >> 7) % 2_100).astype(np.int32)
    word, other = pick(WORDS, mixed >> 3), pick(WORDS, mixed >> 9)
    created = 1_700_000_000_000_000 + number * 1_000_003
    columns = [
        text("00000000-0000-7000-8000-", digits),
        pick(["018f0000-0000-7000-8000-0000000000aa"], number),
        text("ext-", noise),
        text(word, " ", noise),
        text("A ", word, " seen from the ", other, ", ", noise),
        text("https://images.example.org/full/", digits, ".jpg"),
        text("https://images.example.org/s/", digits, ".jpg"),
        pa.array(width),
        pa.array(height),
        pa.array(width / height),
        pick(TAGS, mixed >> 5),
        pa.array((mixed >> 11) % 10 == 0),
        text('{"camera":"', other, '","iso":', pa.array(100 + mixed % 6400).cast(pa.string()), "}"),
        pa.array(created, pa.timestamp("us", tz="UTC")),
        pa.array(created + mixed % 86_400_000_000, pa.timestamp("us", tz="UTC")),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def table(count, batch_rows=65_536):
    """A table of `count` rows."""
    starts = range(0, count, batch_rows)
    return pa.Table.from_batches([rows(b, min(b + batch_rows, count)) for b in starts], SCHEMA)
