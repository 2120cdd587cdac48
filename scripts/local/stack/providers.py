"""Addresses and keys of the local AI providers, by the names of the variables that the functions read."""

import hashlib

# Where each provider is below the stand-in's address, and what its keys begin with.
PROVIDERS = {
    "OPENAI": ("/openai/v1", "sk-"),
    "GEMINI": ("/gemini", "AIza"),
    "STABILITY": ("/stability", "sk-"),
    "RUNWAY": ("/runway", "key_"),
}


def keys(secret: str) -> dict[str, str]:
    """NAME_API_KEY of each provider, made from the stack's own secret."""
    return {
        f"{name}_API_KEY": prefix + hashlib.sha512(f"{name} {secret}".encode()).hexdigest()
        for name, (_, prefix) in PROVIDERS.items()
    }


def environment(secret: str, base: str) -> dict[str, str]:
    """NAME_BASE_URL and NAME_API_KEY of each provider; PROVIDERS_URL for the controls."""
    addresses = {f"{name}_BASE_URL": base + path for name, (path, _) in PROVIDERS.items()}
    return {"PROVIDERS_URL": base, **addresses, **keys(secret)}
