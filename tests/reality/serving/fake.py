"""A server of the OpenAI API without a model, in this process: every kind of answer that a client can meet."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

FIRST_S, GAP_S = 0.03, 0.005


class Fake:
    """Answers after FIRST_S, a token every GAP_S; ``faults``: what happens to request number n."""

    def __init__(self, **faults: Any) -> None:
        self.faults = {int(name.removeprefix("n")): fault for name, fault in faults.items()}
        self.bodies: list[dict[str, Any]] = []
        self.url = ""
        self.list_of_models = b'{"data": [{"id": "tiny"}]}'

    async def models(self, _: web.Request) -> web.Response:
        """The list of models."""
        return web.Response(body=self.list_of_models, content_type="application/json")

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """A completion, streamed, or the fault of this request."""
        body = await request.json()
        number = len(self.bodies)
        self.bodies.append(body)
        fault = self.faults.get(number, "")
        if fault == "refused":
            return web.Response(status=503)
        if fault == "no stream":
            return web.json_response({"choices": [{"text": "all at once"}]})
        answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await answer.prepare(request)
        await asyncio.sleep(30 if fault == "slow" else FIRST_S)
        for token in range(body["max_tokens"]):
            if fault == "cut off" and token == 2:
                request.transport.close()  # type: ignore[union-attr]
                return answer
            await answer.write(b"data: " + json.dumps({"choices": [{"text": ""}]}).encode() + b"\n\n")
            await asyncio.sleep(GAP_S)
        if fault == "garbage":
            await answer.write(b"data: {nonsense\n\n")
        if fault == "deep":
            await answer.write(b"data: " + b"[" * 100_000 + b"\n\n")
        if fault.startswith("count"):
            wrong = json.dumps({"usage": {"completion_tokens": json.loads(fault.removeprefix("count "))}})
            await answer.write(f"data: {wrong}\n\ndata: [DONE]\n\n".encode())
        elif fault != "no end":
            usage = {"choices": [], "usage": {"completion_tokens": body["max_tokens"]}}
            await answer.write(b"data: " + json.dumps(usage).encode() + b"\n\ndata: [DONE]\n\n")
        return answer


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Inside, the fake listens on a port of its own, and ``url`` says where."""
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def begin() -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v1/models", fake.models)
        app.router.add_post("/v1/completions", fake.complete)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(begin())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
