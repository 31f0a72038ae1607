"""Servers on loopback: an S3 server, and a web server with a log of its requests."""

import logging

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.remote.servers import RangeServer

BUCKET = "photographs"


@pytest.fixture(scope="session")
def moto_server():
    """A running S3 server; returns its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it logs each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_server, monkeypatch):
    """A client of an empty bucket, whose address and keys are in the environment."""
    for name, value in {
        "AWS_ENDPOINT_URL": moto_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=moto_server)
    client.create_bucket(Bucket=BUCKET)
    yield client
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def web(tmp_path):
    """A web server of the folder ``web``."""
    (tmp_path / "web").mkdir()
    with RangeServer(tmp_path / "web").running() as server:
        yield server
