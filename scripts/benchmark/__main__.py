"""Lets `python -m scripts.benchmark` run it."""

from .cli import main

raise SystemExit(main())
