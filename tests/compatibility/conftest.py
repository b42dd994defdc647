"""Platforms for the foreign clients: one of each ground, kept for the whole run."""

import pathlib
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "harness/python"))
import quarry_server  # noqa: E402

GROUNDS = [(split, database) for split in (False, True) for database in ("sqlite", "postgres")]


def start(split, database):
    url = quarry_server.new_postgres_database() if database == "postgres" else None
    return quarry_server.Server(split=split, database_url=url)


@pytest.fixture(
    scope="session", params=GROUNDS,
    ids=lambda ground: f"{'split' if ground[0] else 'one_process'}-{ground[1]}",
)
def ground(request):
    """A platform on each ground in turn."""
    with start(*request.param) as server:
        yield server


@pytest.fixture(scope="session")
def server():
    """A platform in one process on SQLite, for what does not depend on the ground."""
    with start(False, "sqlite") as one:
        yield one


@pytest.fixture
def namespace():
    """A name that nobody else uses."""
    return f"ns-{uuid.uuid4().hex}"
