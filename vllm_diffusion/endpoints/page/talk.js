// Talking to the server: models, streams of events, keys, and the request as others would send it.
const byId = (id) => document.getElementById(id);
const server = { key: "", model: "", endpoints: [] };

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) { made[name] = value; } else { made.setAttribute(name, value); }
  }
  made.append(...children); // strings become text, never markup
  return made;
}

function askForKey() {
  const dialog = byId("key-dialog"), field = byId("key");
  field.value = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      server.key = dialog.returnValue === "ok" ? field.value : server.key;
      field.value = "";
      resolve(dialog.returnValue === "ok");
    }, { once: true });
    dialog.showModal();
  });
}

async function send(url, options = {}) {
  for (;;) {
    const headers = { "content-type": "application/json" };
    if (server.key) { headers.authorization = "Bearer " + server.key; }
    const response = await fetch(url, { ...options, headers });
    if (response.status !== 401 || !await askForKey()) { return response; }
  }
}

async function checked(response) {
  if (response.ok) { return response; }
  const said = await response.json().catch(() => null);
  throw new Error(said?.error?.message ?? said?.message ?? ("the server answers " + response.status));
}

async function post(path, body, signal) {
  return (await checked(await send(path, { method: "POST", body: JSON.stringify(body), signal }))).json();
}

async function* events(path, body, signal) {
  const response = await checked(await send(path, { method: "POST", body: JSON.stringify(body), signal }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    held += value ?? "";
    const lines = held.split("\n");
    held = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") { continue; }
      const chunk = JSON.parse(line.slice(6));
      if (chunk.error) { throw new Error(chunk.error.message); }
      yield chunk;
    }
    if (done) { return; }
  }
}

async function meet() {
  const said = await (await checked(await send("/v1/models"))).json();
  const card = said.data[0];
  server.model = card.id;
  server.endpoints = card.supported_endpoints ?? [];
  byId("served").textContent = card.id + ", context of " + (card.context_length ?? card.max_model_len) + " tokens";
}

function quoteForShell(text) { return "'" + text.replaceAll("'", "'\\''") + "'"; }

function showRequest(path, body) {
  const key = server.key ? " \\\n  -H 'authorization: Bearer '\"$API_KEY\"" : "";
  byId("request").hidden = false;
  byId("curl").textContent = "curl -N " + location.origin + path + " -H 'content-type: application/json'" + key +
    " \\\n  -d " + quoteForShell(JSON.stringify(body, null, 1));
  byId("python").textContent = "import json\nimport os\n\nimport httpx\n\nbody = json.loads(\n    r'''" +
    JSON.stringify(body, null, 1).replaceAll("'''", "\\u0027\\u0027\\u0027") + "'''\n)\n" +
    "headers = {\"authorization\": f\"Bearer {os.environ.get('API_KEY', 'none')}\"}\n" +
    "with httpx.stream(\"POST\", \"" + location.origin + path + "\", json=body, headers=headers, timeout=None) as response:\n" +
    "    for line in response.iter_lines():\n        print(line)\n";
}

function decode() {
  const fields = {};
  if (byId("effort").value) { fields.diffusion_effort = byId("effort").value; }
  if (byId("threshold").dataset.said) { fields.diffusion_threshold = Number(byId("threshold").value); }
  return fields;
}

function chatBody(messages, more = {}, xargs = {}) {
  const fields = { ...decode(), ...xargs };
  return {
    model: server.model, messages, max_tokens: Number(byId("tokens").value) || 160, temperature: 0, stream: true,
    stream_options: { include_usage: true, diffusion_frames: true }, ...more,
    ...(Object.keys(fields).length ? { vllm_xargs: fields } : {}),
  };
}
