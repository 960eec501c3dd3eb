"""What the tests of the formats share."""

import pytest

from facelib.errors import UserError
from tests.formats.mxnet_reader import import_mxnet


@pytest.fixture(scope="session")
def recordio():
    """mxnet's own reader and writer, or a skip that says why it is not there."""
    try:
        return import_mxnet().recordio
    except UserError as error:
        pytest.skip(str(error))
