"""The function generate with one provider more, whose adapter is a file elsewhere. For tests only."""

import os

from _shared.generation import providers
from tests.support import function_module

providers.__path__.append(os.environ["MORE_PROVIDERS"])
app = function_module.load("generate").app
