"""A stand-in for Supabase Auth, FOR DEVELOPMENT ONLY, compatible with supabase-py and supabase-js.

E-mail with password, code or link, anonymous users, refresh tokens with rotation, the signed-in user,
logout, and the admin's users. supabase/config.toml says what is allowed and whether addresses have to be
confirmed. No mail is sent: messages are in auth.local_mails and at /mail. Answers and errors have the shapes
of the real server; what it has beyond these endpoints answers 404.
"""

from .app import Auth

__all__ = ["Auth"]
