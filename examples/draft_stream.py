"""A text that sharpens: every chunk of the stream has the whole text so far (``diffusing``).

make serve  # in another terminal
python examples/draft_stream.py "Spell the digits of 96, 70, 15, 38."
"""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.text import Text
from served import client_of, parser_of

PROMPT = "Write a thank letter: sender ben, to mia, item lamp, city oslo, day friday."


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT)
    parser.add_argument("--threshold", type=float, help="lower: fewer and bolder steps")
    parser.add_argument("--max-tokens", type=int, default=160)
    arguments = parser.parse_args()
    client, console = client_of(arguments), Console()
    xargs = {} if arguments.threshold is None else {"diffusion_threshold": arguments.threshold}
    stream = client.chat.completions.create(
        model=arguments.model,
        messages=[{"role": "user", "content": arguments.prompt}],
        max_tokens=arguments.max_tokens,
        temperature=0,
        stream=True,
        extra_body={"diffusing": True, "vllm_xargs": xargs},
    )
    text, num_drafts = "", 0
    with Live(console=console, refresh_per_second=20) as live:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                text = chunk.choices[0].delta.content
                num_drafts += 1
                live.update(Text(text))
    console.print(f"{num_drafts} drafts")


if __name__ == "__main__":
    main()
