"""grpcio with nothing but reflection, as grpcurl does it."""

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def call(channel, pool, service, method, token, **fields):
    found = pool.FindServiceByName(service).FindMethodByName(method)
    request = message_factory.GetMessageClass(found.input_type)(**fields)
    answer = message_factory.GetMessageClass(found.output_type)
    metadata = [("authorization", f"Bearer {token}")] if token else []
    unary = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=answer.FromString,
    )
    return unary(request, metadata=metadata, timeout=10)


def test_a_client_without_proto_files_calls_by_reflection(ground, namespace):
    with grpc.insecure_channel(ground.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "quarry.items.v1.ItemsService" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        service = "quarry.catalog.v1.NamespacesService"
        made = call(channel, pool, service, "CreateNamespace", ground.token, name=namespace)
        assert made.namespace.name == namespace
        read = call(channel, pool, service, "GetNamespace", ground.token, name=namespace)
        assert read.namespace.id == made.namespace.id
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, pool, service, "GetNamespace", None, name=namespace)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, pool, service, "GetNamespace", ground.token, name="no-such-namespace")
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        trailers = {key for key, _ in refused.value.trailing_metadata()}
        assert "grpc-status-details-bin" in trailers


def test_health(ground):
    with grpc.insecure_channel(ground.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
