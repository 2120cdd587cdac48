"""The function generate with one provider more, whose adapter is a file elsewhere. For tests only."""

import os

from _shared import providers
from tests.generate import mounted

providers.__path__.append(os.environ["MORE_PROVIDERS"])
app = mounted.load().app
