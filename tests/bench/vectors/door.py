"""Quarry's vectors over gRPC, by what the server says of itself; also from processes of their own."""

import time

K = 10


class Door:
    """One connection to a platform's space."""

    def __init__(self, address, token, space):
        import grpc
        from google.protobuf import descriptor_pool, message_factory
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
            ProtoReflectionDescriptorDatabase,
        )

        self.space = dict(zip(("namespace", "dataset", "space"), space))
        self.metadata = [("authorization", f"Bearer {token}")]
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.max_receive_message_length", 1 << 28)]
        )
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))
        self.methods = {}
        for name in ("SearchService", "PointsService", "SpacesService"):
            service = pool.FindServiceByName(f"quarry.vectors.v1.{name}")
            for method in service.methods:
                if method.client_streaming or method.server_streaming:
                    continue
                call = self.channel.unary_unary(
                    f"/{service.full_name}/{method.name}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
                )
                kind = message_factory.GetMessageClass(method.input_type)
                self.methods[method.name] = (kind, call)

    def request(self, method, **fields):
        return self.methods[method][0](**self.space, **fields)

    def call(self, method, request):
        return self.methods[method][1](request, metadata=self.metadata, timeout=120)

    def search(self, query, width=0, where="", k=K):
        return self.found(self.prepared(query), width, where, k)

    def answer(self, query, width=0, where="", k=K):
        return self.asked("Search", self.prepared(query), width, where, k)

    def prepared(self, query):
        """A request that lacks only what `found` sets."""
        request = self.request("Search")
        request.query.vector.values.extend(query)
        return request

    def prepared_batch(self, queries):
        request = self.request("SearchBatch")
        for query in queries:
            request.queries.add().vector.values.extend(query)
        return request

    def asked(self, method, request, width, where, k):
        request.k, request.ef, request.filter = k, width, where
        return self.call(method, request)

    def found(self, request, width=0, where="", k=K):
        return [int(hit.item_id) for hit in self.asked("Search", request, width, where, k).hits]

    def found_batch(self, request, width=0, where="", k=K):
        results = self.asked("SearchBatch", request, width, where, k).results
        return [[int(hit.item_id) for hit in result.hits] for result in results]

    def nothing(self):
        """A call that does nothing, for what a call costs."""
        if not hasattr(self, "health"):
            self.health = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        return self.health(b"", metadata=self.metadata, timeout=120)

    def upsert(self, ids, vectors):
        request = self.request("UpsertPoints")
        for item, vector in zip(ids, vectors):
            point = request.points.add(item_id=str(item))
            point.vector.values.extend(vector)
        return self.call("UpsertPoints", request)

    def delete(self, ids):
        return self.call("DeletePoints", self.request("DeletePoints", item_ids=map(str, ids)))

    def stats(self):
        return self.call("GetSpaceStats", self.request("GetSpaceStats")).index

    def close(self):
        self.channel.close()


def search_for(address, token, space, queries, width, seconds, result):
    """What one client gets done in some seconds: for a process of its own."""
    door = Door(address, token, space)
    queries = [query.tolist() for query in queries]
    door.search(queries[0], width)
    took, begin = [], time.perf_counter()
    while time.perf_counter() - begin < seconds:
        sent = time.perf_counter()
        door.search(queries[len(took) % len(queries)], width)
        took.append(time.perf_counter() - sent)
    result.put((len(took) / (time.perf_counter() - begin), sorted(took)[int(len(took) * 0.99)]))
    door.close()


def upsert_for(address, token, space, first, vectors, batch, seconds, result):
    """Writes batches for some seconds; how many points a second."""
    door = Door(address, token, space)
    vectors = [vector.tolist() for vector in vectors]
    written, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        at = written % (len(vectors) - batch + 1)
        door.upsert(range(first + written, first + written + batch), vectors[at : at + batch])
        written += batch
    result.put(written / (time.perf_counter() - begin))
    door.close()
