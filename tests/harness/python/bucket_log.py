"""What a bucket's server was asked, from its own log."""

import logging

LOGGER = logging.getLogger("werkzeug")


class Requests(logging.Handler):
    """Lines of the log while it is heard; those of failures and of ranges are coloured."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def hear(self):
        LOGGER.setLevel(logging.INFO)
        LOGGER.addHandler(self)
        return self

    def leave(self):
        LOGGER.setLevel(logging.ERROR)
        LOGGER.removeHandler(self)

    def gets(self, bucket):
        """Objects that were read, each time."""
        return [line for line in self.lines if f"GET /{bucket}/" in line and "list-type" not in line]
