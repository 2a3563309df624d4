// The five boxes, and the tabs that show one of them.
const CHATS = "/v1/chat/completions";
let running = null;

function fail(error) {
  const place = byId("error");
  place.hidden = !error;
  place.textContent = error ? (error.name === "AbortError" ? "stopped" : error.message) : "";
}

// A button that does something until it is done or stopped.
function doer(label, work) {
  const go = make("button", { type: "button", className: "go", textContent: label });
  const halt = make("button", { type: "button", textContent: "Stop", disabled: true });
  halt.addEventListener("click", () => running?.abort());
  go.addEventListener("click", async () => {
    running?.abort();
    running = new AbortController();
    go.disabled = true;
    halt.disabled = false;
    fail(null);
    try { await work(running.signal); } catch (error) { fail(error); }
    go.disabled = false;
    halt.disabled = true;
  });
  return make("div", { className: "controls" }, go, halt);
}

function field(label, value, rows = 3) {
  const area = make("textarea", { value, rows });
  return [make("label", {}, label, area), area];
}

function withEnter(area, controls) {
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { controls.querySelector(".go").click(); }
  });
  return controls;
}

function chatBox() {
  const [label, prompt] = field("Message", "Write a function lemon that checks cup, lake, star.");
  const turns = make("div"), canvas = new Canvas("Answer");
  let messages = [];
  const again = make("button", { type: "button", textContent: "New chat" });
  again.addEventListener("click", () => { messages = []; turns.replaceChildren(); canvas.clear(); });
  const controls = withEnter(prompt, doer("Send", async (signal) => {
    if (messages.length) { turns.append(make("div", { className: "turn", textContent: messages.at(-1).content })); }
    messages.push({ role: "user", content: prompt.value });
    turns.append(make("div", { className: "turn", textContent: prompt.value }));
    const body = chatBody([...messages]);
    showRequest(CHATS, body);
    try { await canvas.run(CHATS, body, signal); } catch (error) { messages.pop(); throw error; }
    messages.push({ role: "assistant", content: canvas.plain });
  }));
  controls.append(again);
  return [turns, label, controls, canvas.root];
}

function raceBox() {
  const [label, prompt] = field("Message", "Write a thank letter: sender ben, to mia, item lamp, city oslo, day friday.");
  const twin = make("input", { type: "url", placeholder: "http://localhost:8001" });
  const slow = new Canvas("Token by token"), fast = new Canvas("In parallel");
  const controls = withEnter(prompt, doer("Race", async (signal) => {
    const messages = [{ role: "user", content: prompt.value }];
    const body = chatBody(messages);
    showRequest(CHATS, body);
    let path = CHATS, other = chatBody(messages, {}, { diffusion_threshold: 1 });
    delete other.vllm_xargs.diffusion_effort;
    if (twin.value) {
      const models = await (await fetch(twin.value + "/v1/models")).json();
      path = twin.value + CHATS;
      other = { model: models.data[0].id, messages, max_tokens: body.max_tokens, temperature: 0, stream: true,
        stream_options: { include_usage: true } };
    }
    // One after the other: together they would slow each other down, and no clock would be fair.
    slow.clear();
    await fast.run(CHATS, body, signal);
    await slow.run(path, other, signal);
  }));
  return [label, make("label", {}, "An autoregressive twin's address, if one is running ", twin), controls,
    make("div", { className: "lanes" }, slow.root, fast.root)];
}

function infillBox() {
  const [label, passages] = field("Text; @@ is a hole", "# fields: cup, star, lemon\n@@\ndef get_lemon(self):\n    return self.lemon", 6);
  const text = make("div", { className: "canvas", tabIndex: 0 }), told = make("p", { className: "told" });
  const controls = doer("Fill in", async (signal) => {
    const parts = passages.value.split("@@"), segments = [parts[0]];
    for (const part of parts.slice(1)) { segments.push(null, part); }
    const body = { model: server.model, segments, temperature: 0, max_tokens: Number(byId("tokens").value) || 160 };
    showRequest("/v1/fim/completions", body);
    const began = performance.now(), choice = (await post("/v1/fim/completions", body, signal)).choices[0];
    told.textContent = seconds(performance.now() - began);
    const shown = [parts[0]];
    choice.holes.forEach((hole, i) => shown.push(make("ins", { textContent: hole }), parts[i + 1]));
    text.replaceChildren(...shown);
  });
  return [label, controls, text, told];
}

const FORMS = {
  "JSON schema": JSON.stringify({ type: "object", properties: { pet: { type: "string" }, day: { enum: ["friday", "monday"] } },
    required: ["pet", "day"], additionalProperties: false }, null, 1),
  "Regular expression": "(bear|wolf|lion) on (monday|friday)",
};

function structuredBox() {
  const [label, prompt] = field("Message", "Text: pet is bear, name is eva, city is tokyo, color is red, day is friday.\nReturn JSON with the fields pet, day.");
  const kind = make("select", {}, ...Object.keys(FORMS).map((name) => make("option", { textContent: name })));
  const [formLabel, form] = field("Form", FORMS["JSON schema"], 6);
  kind.addEventListener("change", () => { form.value = FORMS[kind.value]; });
  const canvas = new Canvas("Answer; what the form forces is marked as given");
  const controls = doer("Ask", async (signal) => {
    const held = kind.value === "JSON schema"
      ? { response_format: { type: "json_schema", json_schema: { name: "form", schema: JSON.parse(form.value) } } }
      : { structured_outputs: { regex: form.value } };
    const body = chatBody([{ role: "user", content: prompt.value }], held);
    showRequest(CHATS, body);
    await canvas.run(CHATS, body, signal);
  });
  return [label, make("label", {}, "Held to ", kind), formLabel, controls, canvas.root];
}

// Which words of one text stand in another, in their order.
function changes(before, after) {
  const a = before.match(/\s+|\w+|[^\s\w]/g) ?? [], b = after.match(/\s+|\w+|[^\s\w]/g) ?? [];
  if (a.length * b.length > 4e6) { return [make("span", { textContent: after })]; }
  const long = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      long[i][j] = a[i] === b[j] ? long[i + 1][j + 1] + 1 : Math.max(long[i + 1][j], long[i][j + 1]);
    }
  }
  const shown = [];
  let i = 0, j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) { shown.push(b[j]); i++; j++; }
    else if (i < a.length && (j >= b.length || long[i + 1][j] >= long[i][j + 1])) { shown.push(make("del", { textContent: a[i++] })); }
    else { shown.push(make("ins", { textContent: b[j++] })); }
  }
  return shown;
}

function editBox() {
  const [label, text] = field("Text", "def lemon(cup, lake):\n    total = cup + lake\n    print(\"lemon\", total)\n    return total", 5);
  const [wish, instruction] = field("Instruction", "Rename lake to star.", 1);
  const canvas = new Canvas("The text as it is drafted anew"), marked = make("div", { className: "canvas", tabIndex: 0 });
  const controls = doer("Edit", async (signal) => {
    const body = chatBody([{ role: "user", content: instruction.value + "\n\n" + text.value }],
      { prediction: { type: "content", content: text.value } });
    showRequest(CHATS, body);
    await canvas.run(CHATS, body, signal);
    marked.replaceChildren(...changes(text.value, canvas.plain));
  });
  const note = make("p", { className: "told", textContent: "The text is the draft of the answer; the model changes what it doubts. It has to know how to follow the instruction, which the bundled tiny model has not learned yet." });
  return [label, wish, controls, note, canvas.root, make("h2", { textContent: "What has changed" }), marked];
}

const BOXES = { Chat: chatBox, Race: raceBox, Infill: infillBox, Structured: structuredBox, Edit: editBox };

function choose(name) {
  running?.abort();
  fail(null);
  byId("request").hidden = true;
  for (const tab of byId("tabs").children) {
    const isChosen = tab.textContent === name;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
  }
  byId("box").replaceChildren(...BOXES[name]());
  byId("box").setAttribute("aria-label", name);
  history.replaceState(null, "", "#" + name.toLowerCase());
}

for (const name of Object.keys(BOXES)) {
  const tab = make("button", { type: "button", textContent: name, role: "tab" });
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "box");
  tab.addEventListener("click", () => choose(name));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) { return; }
    const tabs = [...byId("tabs").children], next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
  });
  byId("tabs").append(tab);
}
byId("dials").addEventListener("submit", (event) => event.preventDefault());
byId("threshold").addEventListener("input", (event) => {
  event.target.dataset.said = "1";
  byId("threshold-said").textContent = Number(event.target.value).toFixed(3);
});
for (const name of ["curl", "python"]) {
  byId("copy-" + name).addEventListener("click", () => navigator.clipboard?.writeText(byId(name).textContent));
}
const wanted = Object.keys(BOXES).find((name) => "#" + name.toLowerCase() === location.hash);
choose(wanted ?? "Chat");
meet().catch(fail);
