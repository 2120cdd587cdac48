"""`python -m scripts.local.stack`, which scripts/stack calls."""

from .cli import main

raise SystemExit(main())
