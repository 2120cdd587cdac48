"""Supabase on this machine without Docker, for development and tests only.

How it differs from a hosted project: scripts/README.md.

stack = Stack(root, name="mine", port=55000)
stack.start()
stack.status().api_url
stack.stop()
"""

from .errors import StackError
from .stack import Stack, Status

__all__ = ["Stack", "StackError", "Status"]
