"""Supabase Storage in the embedded stack, and the bucket of the generations."""
