"""A script of supabase-js beside a test."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def run_node(script: Path, settings: Mapping[str, str]) -> Any:
    """What the script prints, read as JSON. Of the environment it gets PATH and these settings."""
    node = shutil.which("node")
    assert node
    done = subprocess.run(
        [node, str(script)],
        env={"PATH": os.environ["PATH"], **settings}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
