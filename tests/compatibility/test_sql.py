"""Unmodified ADBC over Flight SQL, with pandas and Polars, on every ground and in a bucket."""

import adbc_driver_flightsql
import adbc_driver_flightsql.dbapi as dbapi
import polars
import pyarrow as pa
import pytest
import tables
from adbc_driver_manager import OperationalError, ProgrammingError

AUTHORIZATION = adbc_driver_flightsql.DatabaseOptions.AUTHORIZATION_HEADER.value


def connect(server, **options):
    options = options or {AUTHORIZATION: f"Bearer {server.token}"}
    return dbapi.connect(server.flight, db_kwargs=options, autocommit=True)


@pytest.fixture
def filled(ground, namespace):
    """A namespace with 10,000 rows in `items`, put by ADBC itself."""
    ground.cli("namespaces", "create", namespace)
    table = tables.table(10_000)
    with connect(ground) as connection, connection.cursor() as cursor:
        count = cursor.adbc_ingest("items", table, mode="create", db_schema_name=namespace)
    assert count == 10_000
    return ground, namespace, table


def test_a_connection_queries_binds_lists_and_closes(filled):
    server, namespace, table = filled
    name = f'quarry."{namespace}".items'
    wide = table.filter(pa.compute.field("width") > 3000)
    with connect(server) as connection:
        assert connection.adbc_get_info()["vendor_name"] == "Quarry"
        with connection.cursor() as cursor:
            cursor.execute(f"select count(*) from {name} where width > 3000")
            assert cursor.fetchone() == (len(wide),)
            cursor.execute(f"select id, width from {name} where width > ? order by id", (3000,))
            read = cursor.fetch_arrow_table()
            assert read.equals(wide.select(["id", "width"]).sort_by("id"))
            frame = cursor.execute(f"select * from {name} limit 10").fetch_df()
            assert frame.shape == (10, len(table.column_names))
        objects = connection.adbc_get_objects(
            depth="columns", db_schema_filter=namespace
        ).read_all().to_pylist()
        [catalog] = [found for found in objects if found["catalog_name"] == "quarry"]
        [schema] = catalog["catalog_db_schemas"]
        [listed] = schema["db_schema_tables"]
        assert listed["table_name"] == "items" and listed["table_type"] == "TABLE"
        columns = [column["column_name"] for column in listed["table_columns"]]
        assert columns == table.column_names
        read = connection.adbc_get_table_schema("items", db_schema_filter=namespace)
        assert read.names == table.column_names
        assert connection.adbc_get_table_types() == ["TABLE"]


def test_ingest_creates_appends_and_replaces(ground, namespace):
    ground.cli("namespaces", "create", namespace)
    one, two = tables.table(300), tables.table(600).slice(300)
    with connect(ground) as connection, connection.cursor() as cursor:
        into = {"db_schema_name": namespace}
        cursor.adbc_ingest("rows", one, mode="create", **into)
        with pytest.raises(Exception, match="exists"):
            cursor.adbc_ingest("rows", two, mode="create", **into)
        cursor.adbc_ingest("rows", two, mode="append", **into)
        cursor.execute(f'select count(*) from quarry."{namespace}".rows')
        assert cursor.fetchone() == (600,)
        cursor.adbc_ingest("rows", one, mode="replace", **into)
        cursor.execute(f'select count(*) from quarry."{namespace}".rows')
        assert cursor.fetchone() == (300,)
        cursor.execute(f'select count(*) from quarry."{namespace}"."rows@2"')
        assert cursor.fetchone() == (600,)


def test_name_and_token_are_a_login_too(filled):
    server, namespace, _ = filled
    with connect(server, username="admin", password=server.token) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f'select count(*) from quarry."{namespace}".items')
            assert cursor.fetchone() == (10_000,)
    with pytest.raises(Exception, match="(?i)token|password|unauth"):
        connect(server, username="admin", password="wrong").cursor().execute("select 1")


def test_polars_reads_through_adbc(filled):
    server, namespace, table = filled
    with connect(server) as connection:
        sql = f'select id, width from quarry."{namespace}".items order by id'
        frame = polars.read_database(sql, connection)
    assert frame.to_arrow().column("width").to_pylist() == (
        table.sort_by("id").column("width").to_pylist()
    )


def test_errors_say_what_is_wrong(filled):
    server, namespace, _ = filled
    with connect(server) as connection, connection.cursor() as cursor:
        for sql, words in [
            ("selec 1", "selec"),
            (f'select nothing from quarry."{namespace}".items', "nothing"),
            (f'select * from quarry."{namespace}".missing', "missing"),
            (f'delete from quarry."{namespace}".items', "only SELECT"),
            ("create external table x stored as csv location '/etc/passwd'", "only SELECT"),
            ("copy (select 1) to '/tmp/out.csv'", "only SELECT"),
        ]:
            with pytest.raises((OperationalError, ProgrammingError, Exception), match=words):
                cursor.execute(sql)
                cursor.fetchall()


def test_every_type_goes_through_put_get_and_sql(server, namespace):
    import datetime
    import decimal

    server.cli("namespaces", "create", namespace)
    table = pa.table({
        "id": pa.array([1, 2, 3], pa.int64()),
        "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("-9.99")], pa.decimal128(9, 2)),
        "utc": pa.array([1, None, 3], pa.timestamp("us", tz="UTC")),
        "berlin": pa.array([1, None, 3], pa.timestamp("ms", tz="Europe/Berlin")),
        "ns": pa.array([1, None, 3], pa.timestamp("ns")),
        "date": pa.array([datetime.date(2024, 2, 29), None, datetime.date(1969, 1, 1)]),
        "vector": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
        "list": pa.array([[1, None], None, []], pa.list_(pa.int32())),
        "struct": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}]),
        "nested": pa.array([[{"k": ["a"]}], None, []], pa.list_(pa.struct({"k": pa.list_(pa.string())}))),
        "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
        "bytes": pa.array([b"\0", None, b""], pa.binary()),
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "large": pa.array(["a", None, "ü"], pa.large_string()),
    })
    with connect(server) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("types", table, mode="create", db_schema_name=namespace)
        cursor.execute(f'select * from quarry."{namespace}".types order by id')
        read = cursor.fetch_arrow_table()
    assert read.schema.remove_metadata() == table.schema
    assert read.combine_chunks().equals(table.combine_chunks())


def test_the_command_line_prints_a_table_json_and_csv(filled):
    server, namespace, _ = filled
    sql = f"select count(*) as n from quarry.{namespace}.items"
    assert server.cli("sql", sql).stdout.split() == ["N", "10000"]
    assert server.json("sql", sql) == [{"n": 10_000}]
    assert server.cli("sql", "-o", "csv", sql).stdout == "n\n10000\n"
    plan = server.cli("sql", f"explain select id from quarry.{namespace}.items where width > 3000")
    assert "blocks read=1 skipped=0" in plan.stdout
