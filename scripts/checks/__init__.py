"""Checks that find mistakes before users do (scripts/lint), and the writer of migrations."""
