"""Quarry's file indexer as a client sees it: jobs over HTTP, single answers over both."""

import http.client
import json
import pathlib
import subprocess
import sys
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import quarry_server

MEGABYTE = 1 << 20
# A Postgres of the machine's packages may lack pgvector, without which vectors are not served there.
ON_POSTGRES = {
    "roles": "identity,catalog,item-store,model-registry,file-indexer,gateway",
    "variables": {"QUARRY_NEIGHBOURS__VECTOR_SEARCH": "http://127.0.0.1:9"},
}


class Ours:
    """A platform with an empty data directory."""

    def __init__(self, binary, postgres=None):
        where = {"database_url": postgres.url(), **ON_POSTGRES} if postgres else {}
        self.server = quarry_server.Server(executable=binary, **where)
        self.wire = http.client.HTTPConnection(self.server.address)
        self.headers = {"authorization": f"Bearer {self.server.token}", "content-type": "application/json"}
        self.channel = grpc.insecure_channel(
            self.server.address, options=[("grpc.max_receive_message_length", 1 << 28)])
        self.metadata = [("authorization", f"Bearer {self.server.token}")]
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.location = None

    def http(self, method, path, body=None):
        text = json.dumps(body) if body is not None else None
        try:
            self.wire.request(method, path, text, self.headers)
            answer = self.wire.getresponse()
        except (ConnectionError, http.client.HTTPException):
            # It was idle for so long that the server closed it.
            self.wire.close()
            self.wire.request(method, path, text, self.headers)
            answer = self.wire.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {text}")
        return json.loads(text)

    def method(self, service, name):
        """The request's class, and a call that takes one."""
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        make = self.channel.stream_stream if found.client_streaming else self.channel.unary_unary
        call = make(f"/{service}/{name}", request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=message_factory.GetMessageClass(found.output_type).FromString)
        return message_factory.GetMessageClass(found.input_type), call

    def files(self, name):
        kind, call = self.method("quarry.files.v1.FilesService", name)
        return kind, lambda request: call(request, metadata=self.metadata, timeout=120)

    def searches(self, binary, page_size, rounds, texts):
        """Seconds and files found of each search by a compiled client, the example `find-client`, on one connection;
        none where it was not built beside the binary."""
        program = pathlib.Path(binary).parent / "examples/find-client"
        if not program.exists():
            print(f"no compiled client: {program}; cargo xtask bench builds it", file=sys.stderr)
            return []
        command = [program, self.server.address, self.server.token, str(page_size), str(rounds), *texts]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return [(int(took) / 1e9, int(found)) for took, found in (line.split() for line in said.splitlines())]

    def add(self, path, **more):
        made = self.http("POST", "/v1/files/locations", {"path": str(path), **more})
        self.location = made["location"]["id"]
        return self.location

    def scan(self, mode):
        """Seconds from the wish to its end, the job's numbers, and the peak of memory in MB."""
        return self.job("scan", {"mode": f"SCAN_MODE_{mode}"})

    def verify(self):
        """As `scan`, of every hashed file read and hashed again and compared with the index."""
        return self.job("verify", {})

    def job(self, verb, body):
        quarry_server.reset_memory_peak(self.server.pid())
        begin = time.perf_counter()
        job = self.http("POST", f"/v1/files/locations/{self.location}:{verb}", body)["job"]
        while True:
            now = self.http("GET", f"/v1/jobs/{job}")["job"]
            if now["state"] in ("JOB_STATE_COMPLETED", "JOB_STATE_FAILED"):
                break
            # Looking costs the server something too.
            time.sleep(0.01)
        seconds = time.perf_counter() - begin
        if now["state"] != "JOB_STATE_COMPLETED":
            raise RuntimeError(now)
        return seconds, {name: int(n) for name, n in now["result"].items()}, self.memory()

    def groups(self, page_size=1_000):
        """All groups of equal bytes, page after page; and how often was asked."""
        kind, call = self.files("ListDuplicates")
        found, token, pages = [], "", 0
        while True:
            page = call(kind(location_id=self.location, page_size=page_size, page_token=token))
            found += page.groups
            token, pages = page.next_page_token, pages + 1
            if not token:
                return found, pages

    def memory(self):
        return quarry_server.memory_peak_bytes(self.server.pid()) / MEGABYTE

    def stored(self):
        """Bytes of the file index on SQLite."""
        return sum(path.stat().st_size for path in self.server.dir.rglob("files.sqlite*"))

    def stop(self):
        self.channel.close()
        self.wire.close()
        self.server.stop()
