"""The local providers in a process of their own: clients of them, and one ordinary request to each."""

import base64
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.provider_answers import png_in

KEYS = {
    "OPENAI_API_KEY": "sk-o", "GEMINI_API_KEY": "g-key",
    "STABILITY_API_KEY": "sk-s", "RUNWAY_API_KEY": "key_r",
}  # fmt: skip


@dataclass(frozen=True)
class Providers:
    """Where they are, and plain clients with the right keys."""

    base: str
    openai: httpx.Client
    gemini: httpx.Client
    stability: httpx.Client
    runway: httpx.Client

    def of(self, provider: str) -> httpx.Client:
        """The client of one provider."""
        client = getattr(self, provider)
        assert isinstance(client, httpx.Client)
        return client


GENERATE = "/v2beta/stable-image/generate"


IMAGE_MODEL = "/v1beta/models/gemini-nano-banana-2.1:generateContent"


VIDEO = {"model": "gen4.5", "ratio": "1280:720", "duration": 2}


def create(providers: Providers, provider: str, prompt: str = "a fox", **more: Any) -> httpx.Response:
    """Ask for one output. `more` changes the request."""
    match provider:
        case "openai":
            return providers.openai.post("/images/generations", json={"prompt": prompt, **more})
        case "gemini":
            body = {"contents": [{"parts": [{"text": prompt}]}], **more}
            return providers.gemini.post(IMAGE_MODEL, json=body)
        case "stability":
            form = {name: (None, str(value)) for name, value in {"prompt": prompt, **more}.items()}
            return providers.stability.post(f"{GENERATE}/core", files=form, headers={"Accept": "image/*"})
    return providers.runway.post("/v1/text_to_video", json={"promptText": prompt, **VIDEO, **more})


def task_of(providers: Providers, answer: httpx.Response, polls: int = 3) -> Any:
    """The task after so many polls."""
    task: Any = None
    for _ in range(polls):
        task = providers.runway.get(f"/v1/tasks/{answer.json()['id']}").raise_for_status().json()
    return task


def files(providers: Providers, provider: str, answer: httpx.Response) -> list[bytes]:
    """The files that a request ended in."""
    answer.raise_for_status()
    match provider:
        case "openai":
            return [base64.b64decode(item["b64_json"], validate=True) for item in answer.json()["data"]]
        case "gemini":
            return [png_in(answer.json())]
        case "stability":
            return [answer.content]
    urls = task_of(providers, answer)["output"]
    return [httpx.get(url, trust_env=False).raise_for_status().content for url in urls]
