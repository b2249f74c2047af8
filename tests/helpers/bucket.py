"""A real S3 server on loopback, and vendors who publish to it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.helpers.vendor import Vendor
from updater.publish import repository
from updater.publish.storage import Bucket

NAME = "releases"
SECRET = "a-secret-that-nobody-may-see"


@contextmanager
def s3_server() -> Iterator[str]:
    """Runs the server with one bucket; its address."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    try:
        with pytest.MonkeyPatch.context() as patch:
            credentials(patch)
            client(address).create_bucket(Bucket=NAME)
        yield address
    finally:
        server.stop()


def credentials(patch: pytest.MonkeyPatch) -> None:
    """As CI has them: in the environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "publisher", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        patch.setenv(name, value)


def client(address: str) -> Any:
    return boto3.client("s3", endpoint_url=address)


def publish_to(vendor: Vendor, address: str, prefix: str) -> Bucket:
    """Lets a vendor's public files be in the bucket; nothing is there yet."""
    bucket = Bucket(f"s3://{NAME}/{prefix}", address)
    config = repository.load(vendor.repository)
    repository.save(vendor.repository, config._replace(public=bucket))
    return bucket


def objects(address: str, prefix: str) -> dict[str, tuple[int, str]]:
    """Names of all objects below a prefix with size and tag."""
    pages = client(address).get_paginator("list_objects_v2").paginate(Bucket=NAME, Prefix=f"{prefix}/")
    found = [item for page in pages for item in page.get("Contents", ())]
    return {item["Key"].removeprefix(f"{prefix}/"): (item["Size"], item["ETag"]) for item in found}
