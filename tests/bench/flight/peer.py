"""The peer: pyarrow's own Flight server, which keeps tables in memory and nothing more."""

import pyarrow.flight as flight


class Peer(flight.FlightServerBase):
    """`path → table`."""

    def __init__(self, location):
        super().__init__(location)
        self.tables = {}

    def do_put(self, context, descriptor, reader, writer):
        self.tables = {tuple(descriptor.path): reader.read_all()}

    def get_flight_info(self, context, descriptor):
        table = self.tables[tuple(descriptor.path)]
        ticket = flight.Ticket(b"/".join(descriptor.path))
        endpoint = flight.FlightEndpoint(ticket, [])
        return flight.FlightInfo(table.schema, descriptor, [endpoint], len(table), table.nbytes)

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.tables[tuple(ticket.ticket.split(b"/"))])


if __name__ == "__main__":
    with Peer("grpc://127.0.0.1:0") as peer:
        print(f"grpc://127.0.0.1:{peer.port}", flush=True)
        peer.serve()
