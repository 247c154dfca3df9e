"""The broker of the gateway's tests."""

from tests.cloud_gateway.conftest import broker

__all__ = ["broker"]
