"""Fill holes between passages that stay as they are.

    make serve  # in another terminal
    python examples/infill.py "class lemon:\n    def __init__(self, cup, star):\n@@\n"

``@@`` is a hole; there may be several. Escapes like ``\\n`` are read.
"""

from __future__ import annotations

import httpx
from served import client_of, parser_of

HOLE = "@@"
PROGRAM = "# fields: cup, star, lemon\\n@@\\ndef get_lemon(self):\\n    return self.lemon"


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("text", nargs="?", default=PROGRAM)
    arguments = parser.parse_args()
    client_of(arguments)
    passages = arguments.text.encode().decode("unicode_escape").split(HOLE)
    segments: list[str | None] = [passages[0]]
    for passage in passages[1:]:
        segments += [None, passage]
    response = httpx.post(
        f"{arguments.base_url}/fim/completions",
        headers={"authorization": f"Bearer {arguments.api_key}"},
        json={"model": arguments.model, "segments": segments, "temperature": 0},
        timeout=120,
    )
    if response.is_error:
        raise SystemExit(response.text)
    choice = response.json()["choices"][0]
    print(choice["text"])
    for number, fill in enumerate(choice["holes"], 1):
        print(f"hole {number}: {fill!r}")


if __name__ == "__main__":
    main()
