"""Quarry as a client sees it: gRPC for single answers, Flight for rows."""

import importlib
import pathlib
import sys
import tempfile
import time

import grpc
import pyarrow as pa
import pyarrow.flight as flight

import quarry_server
import tables

ROOT = pathlib.Path(__file__).parents[3]
SERVICE = "/quarry.items.v1."
PART_ROWS = 20_000
SCANNED = ["id", "title", "width", "height", "created_at"]


def contract():
    """The messages of `quarry.items.v1`, generated from the contract itself."""
    from grpc_tools import protoc

    out = tempfile.mkdtemp(prefix="items-proto")
    proto = ROOT / "proto"
    files = [p.relative_to(proto) for p in proto.rglob("*.proto")
             if "arrow" not in p.parts and "protobuf" not in p.parts]
    include = pathlib.Path(protoc.__file__).parent / "_proto"
    done = protoc.main(["protoc", f"-I{proto}", f"-I{include}", f"--python_out={out}", *map(str, files)])
    if done != 0:
        raise RuntimeError("the contract does not compile")
    sys.path.insert(0, out)
    # `google` is a package of several places; the generated one joins it.
    import google
    google.__path__.append(f"{out}/google")
    items = importlib.import_module("quarry.items.v1.items_pb2")
    analysis = importlib.import_module("quarry.items.v1.analysis_pb2")
    edits = importlib.import_module("quarry.items.v1.edits_pb2")
    return items, analysis, edits


class Ours:
    version = "at this commit"

    def __init__(self, binary, shelf):
        self.shelf = shelf
        self.server = quarry_server.Server(
            executable=binary, variables={"QUARRY_ITEMS__COMPACTION__SECONDS": "1"})
        self.server.cli("namespaces", "create", "bench")
        self.items, self.analysis, self.edits = contract()
        options = [("grpc.max_receive_message_length", 64 << 20)]
        self.channel = grpc.insecure_channel(self.server.address, options=options)
        self.metadata = [("authorization", f"Bearer {self.server.token}")]
        self.calls = {}
        self.client = flight.connect(self.server.flight)
        header = (b"authorization", f"Bearer {self.server.token}".encode())
        self.options = flight.FlightCallOptions(headers=[header])
        self.name = {"namespace": "bench", "dataset": "items"}
        self.loaded_seconds = 0.0

    def load(self):
        begin = time.perf_counter()
        self.put("items", self.shelf.reader())
        self.loaded_seconds = time.perf_counter() - begin

    def put(self, dataset, batches):
        descriptor = flight.FlightDescriptor.for_path("bench", dataset)
        writer, reader = self.client.do_put(descriptor, tables.SCHEMA, self.options)
        for batch in batches:
            writer.write_batch(batch)
        writer.done_writing()
        while reader.read() is not None:
            pass
        writer.close()

    def append_part(self, number):
        self.put("parts", [tables.rows(number * PART_ROWS, (number + 1) * PART_ROWS)])

    def part_blocks(self):
        return self.look("DescribeItems", dataset="parts").block_count

    def pid(self):
        return self.server.pid("all")

    def stop(self):
        self.channel.close()
        self.server.stop()

    def call(self, service, method, module, **fields):
        key = (service, method)
        if key not in self.calls:
            request = getattr(module, f"{method}Request")
            response = getattr(module, f"{method}Response")
            stub = self.channel.unary_unary(
                f"{SERVICE}{service}/{method}", request_serializer=request.SerializeToString,
                response_deserializer=response.FromString)
            self.calls[key] = (request, stub)
        request, stub = self.calls[key]
        return stub(request(**{**self.name, **fields}), metadata=self.metadata)

    def ask(self, method, **fields):
        return self.call("ItemsService", method, self.items, **fields)

    def look(self, method, **fields):
        return self.call("AnalysisService", method, self.analysis, **fields)

    def empty_call(self):
        """Seconds of a call without work: what every answer over a socket pays."""
        check = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        begin = time.perf_counter()
        check(b"")
        return time.perf_counter() - begin

    # --- operations ---------------------------------------------------------

    def prepare_page_after(self, id):
        """A client that pages holds a token of the page before."""
        number = int(id.split("-")[-1])
        return (self.ask("ListItems", skip=number, page_size=1).next_page_token,)

    def page_after(self, token):
        return self.ask("ListItems", page_token=token, page_size=100)

    def page_at(self, position):
        return self.ask("ListItems", skip=position, page_size=100)

    def by_id(self, id):
        return self.ask("GetItem", key=id)

    def by_external_id(self, external_id):
        return self.ask("ListItems", filter=f'external_id = "{external_id}"', page_size=10)

    def take(self, positions):
        return self.look("GetItemsAt", positions=positions)

    def count(self, filter=""):
        return self.ask("CountItems", filter=filter).count

    def count_all(self):
        return self.count()

    def count_two(self, width):
        return self.count(f"width = {width} AND is_favorite = true")

    def count_range(self, width, ratio):
        return self.count(f"width > {width} AND aspect_ratio < {ratio}")

    def count_time(self, height, number):
        return self.count(f"height > {height} AND created_at < {moment(number)}")

    def count_text(self, text):
        return self.count(f'description = "*{text}*"')

    def scan(self, width):
        command = {"dataset": "bench/items", "columns": SCANNED,
                   "filter": f"width >= {width} AND width < {width + 51}"}
        import json
        descriptor = flight.FlightDescriptor.for_command(json.dumps(command).encode())
        info = self.client.get_flight_info(descriptor, self.options)
        return sum(len(self.client.do_get(endpoint.ticket, self.options).read_all())
                   for endpoint in info.endpoints)

    def stream(self):
        descriptor = flight.FlightDescriptor.for_path("bench", "items")
        info = self.client.get_flight_info(descriptor, self.options)
        rows = 0
        for endpoint in info.endpoints:
            for chunk in self.client.do_get(endpoint.ticket, self.options):
                rows += len(chunk.data)
        return rows

    def statistics(self):
        found = self.ask("GetStatistics").columns
        width = next(column for column in found if column.column == "width")
        return width.null_count, width.min.int_value, width.max.int_value

    # --- edits --------------------------------------------------------------

    def edit(self, method, **fields):
        return self.call("EditsService", method, self.edits, **fields)

    def update_by_key(self, keys, title):
        cells = {"title": {"string_value": title}}
        self.edit("BatchPatchItems", patches=[{"key": key, "cells": cells} for key in keys])

    def delete_width(self, width):
        self.edit("BulkEditItems", filter=f"width = {width}", delete=True)

    def group(self, filter=""):
        return self.look("GetFacets", column="tags_json", measures=["width", "height"], filter=filter)

    def group_where(self, width):
        return self.group(f"width > {width}")

    @staticmethod
    def shown(answer):
        """An answer as all engines show it: ids, a number, or groups."""
        if isinstance(answer, (int, tuple)):
            return answer
        if hasattr(answer, "groups"):
            return sorted((group.value.string_value, group.row_count,
                           round(group.measures[0].mean, 6), int(group.measures[1].max))
                          for group in answer.groups)
        rows = [answer.item] if hasattr(answer, "item") else answer.items
        return [row.values[0].string_value for row in rows]


def moment(number):
    micros = 1_700_000_000_000_000 + number * 1_000_003
    seconds, rest = divmod(micros, 1_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{rest:06d}Z"


def ids(table: pa.Table):
    return table.column("id").to_pylist()
