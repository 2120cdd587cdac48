"""A stand-in for Supabase Realtime, FOR DEVELOPMENT ONLY, compatible with supabase-py and supabase-js.

Changes of published tables, broadcasts (public and private, also from SQL and by HTTP) and presences, in
both versions of the protocol. A subscriber gets only rows that its token may select, when they are sent.
What it lacks (replaying broadcasts, joining without `config`, long polling) it refuses in a sentence.
"""

from .app import Realtime

__all__ = ["Realtime"]
