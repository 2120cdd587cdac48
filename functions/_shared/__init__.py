"""What the functions share. Each function's folder holds an index.py with `app`; the rules are SQL."""
