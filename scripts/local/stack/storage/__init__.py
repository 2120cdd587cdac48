"""A stand-in for Supabase Storage, FOR DEVELOPMENT ONLY, compatible with supabase-py and supabase-js.

Buckets; upload, download, info, list, move, copy and remove; signed URLs for downloads and for uploads.
Answers and errors have the shapes of the real server; what it has beyond these endpoints (image
transformations, resumable uploads, S3) answers 404.

Who may do what is not decided here: each request runs its statements as the role of its token, and the
policies on storage.objects and storage.buckets decide. Bytes lie in files of their own (disk.py), rows in
schema storage (store.py).
"""

from .app import Storage

__all__ = ["Storage"]
