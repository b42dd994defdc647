"""Calls by reflection, without proto files."""

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


class Reflected:
    """A platform as somebody who knows nothing of it but its address and a token."""

    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.token = token
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.channel.close()

    def __call__(self, method, **fields):
        """`quarry.files.v1.FilesService/GetFile` with fields as JSON has them; answers a dict."""
        service, name = method.split("/")
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        request = json_format.ParseDict(fields, message_factory.GetMessageClass(found.input_type)())
        answer = message_factory.GetMessageClass(found.output_type)
        call = self.channel.unary_unary(
            f"/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        said = call(request, metadata=[("authorization", f"Bearer {self.token}")], timeout=60)
        return json_format.MessageToDict(
            said, preserving_proto_field_name=True, always_print_fields_with_no_presence=True,
        )


def refused(call, code, words):
    """The call fails with this code, and its message has these words."""
    try:
        answer = call()
    except grpc.RpcError as error:
        assert error.code() == code and words in error.details(), error
    else:
        raise AssertionError(f"not refused: {answer}")
