r"""Local AI providers for development and tests: OpenAI, Gemini, Stability and Runway, on loopback.

    OPENAI_API_KEY=a GEMINI_API_KEY=b STABILITY_API_KEY=c RUNWAY_API_KEY=d \\
        python -m scripts.local.providers --port 12112

    OPENAI_BASE_URL=http://127.0.0.1:12112/openai/v1      GEMINI_BASE_URL=http://127.0.0.1:12112/gemini
    STABILITY_BASE_URL=http://127.0.0.1:12112/stability   RUNWAY_BASE_URL=http://127.0.0.1:12112/runway

They make real PNGs and MP4s, each call different ones, and check what they are sent as strictly as the
providers do: an unknown, missing or wrong parameter is refused in the provider's own shape. Faults come on
demand (control.py). State lies in memory only. `scripts/stack start --providers` runs them.

    app        paths, keys, faults, the log of calls, around the providers
    openai     images/generations and images/edits
    gemini     models/MODEL:generateContent with images out
    stability  v2beta/stable-image/generate
    runway     text_to_video, image_to_video, tasks, and the files they end in
    aimock     all else of OpenAI and Gemini (text, vision, embeddings): the npm package @copilotkit/aimock,
               which has no sizes, number of images, usage or images from generateContent
    png, mp4   the files
    checks     JSON Schema and media checks of what is asked
    faults     what goes wrong on demand
    calls      the log
    control    POST /_control/VERB: the client and its reference; controls.py is the server's side

What it does not do: JPEG and WebP output, streaming of images, OpenAI's file ids and image URLs, webhooks.
"""
