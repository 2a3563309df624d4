"""Edit a text: the model changes what an instruction asks for, and the changes are marked.

    vllm-diffusion serve examples/models/tiny-diffusion --kv-cache-memory-bytes 268435456
    python examples/edit.py "Replace river with lamp." "stone river cloud river"
    python examples/edit.py "Add city oslo." --file record.txt

What is left out is red, what is put in green. The text is the draft of the answer
(``diffusion_draft``), so the model decodes anew only what it doubts.
"""

from __future__ import annotations

import argparse
import re
from difflib import SequenceMatcher
from pathlib import Path

import openai
from rich.console import Console
from rich.text import Text

WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def marked(before: str, after: str) -> Text:
    """The text after the change, with what it has lost and gained."""
    old, new = WORDS.findall(before), WORDS.findall(after)
    made = Text()
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            made.append("".join(new[c:d]))
            continue
        made.append("".join(old[a:b]), style="red strike")
        made.append("".join(new[c:d]), style="green")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("instruction")
    parser.add_argument("text", nargs="?", default="")
    parser.add_argument("--file", type=Path, help="with the text")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    arguments = parser.parse_args()
    text = arguments.file.read_text() if arguments.file else arguments.text
    client = openai.OpenAI(base_url=arguments.url, api_key="none")
    answer = client.chat.completions.create(
        model=client.models.list().data[0].id,
        messages=[{"role": "user", "content": f"{arguments.instruction}\n\n{text}"}],
        temperature=0,
        extra_body={"prediction": {"type": "content", "content": text}},
    )
    console = Console()
    console.print(marked(text, answer.choices[0].message.content or ""))
    assert answer.usage is not None
    details = answer.usage.completion_tokens_details
    if details is not None:
        console.print(
            f"{answer.usage.completion_tokens} tokens, of which "
            f"{details.accepted_prediction_tokens} stood in the text",
            style="dim",
        )


if __name__ == "__main__":
    main()
