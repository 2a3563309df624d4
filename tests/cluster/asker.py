"""``python -m tests.cluster.asker JSON``: send requests together, print a line for each answer.

A streamed request prints ``{"begun": true}`` first, at its first text.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PATIENCE_SECONDS = 240


def ask(url: str, request: dict[str, Any]) -> dict[str, Any]:
    begin = time.time()
    host = url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_SECONDS)
    status, text = None, ""
    try:
        body = request.get("body")
        connection.request(
            "POST" if body else "GET",
            request["path"],
            json.dumps(body) if body else None,
            {"content-type": "application/json"},
        )
        response = connection.getresponse()
        status = response.status
        while line := response.readline():
            if body and body.get("stream") and line.startswith(b"data:") and not text:
                print(json.dumps({"begun": True}), flush=True)
            text += line.decode()
    except (OSError, http.client.HTTPException) as error:
        text += f"\n{type(error).__name__}: {error}"
    return {"status": status, "text": text, "at": time.time(), "seconds": time.time() - begin}


def main(told: str) -> None:
    asked = json.loads(told)
    with ThreadPoolExecutor(len(asked["requests"])) as pool:
        for answer in pool.map(lambda request: ask(asked["url"], request), asked["requests"]):
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
