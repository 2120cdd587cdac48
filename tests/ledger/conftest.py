"""The API for what a client does."""

import pytest

from tests.support.rest import Api
from tests.support.stack import Env


@pytest.fixture(scope="session")
def operator(env: Env) -> Api:
    """The API with the service_role key."""
    key = env.service_role_key
    return Api(env.api_url, {"apikey": key, "Authorization": f"Bearer {key}"})
