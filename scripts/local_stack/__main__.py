"""`python -m scripts.local_stack`, which scripts/stack calls."""

from .cli import main

raise SystemExit(main())
