"""A stand-in for Supabase Auth, FOR DEVELOPMENT ONLY, compatible with supabase-py and supabase-js.

E-mail and password, refresh tokens with rotation, the signed-in user, logout, and the admin's users.
Sign-ups are confirmed at once, no mail is sent and nothing is rate limited. Answers and errors have the
shapes of the real server; what it has beyond these endpoints answers 404.
"""

from .app import Auth

__all__ = ["Auth"]
