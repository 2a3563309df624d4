// A text that comes about: its steps, their colours, a clock and counters; live, or step by step.
const percent = (p) => (100 * p).toFixed(1) + " %";
const seconds = (ms) => (ms / 1000).toFixed(2) + " s";

class Canvas {
  constructor(title) {
    this.text = make("div", { className: "canvas", tabIndex: 0, role: "region" });
    this.text.setAttribute("aria-label", title);
    this.told = make("p", { className: "told" });
    this.told.setAttribute("aria-live", "polite");
    this.counters = make("ul", { className: "counters" });
    this.play = make("button", { type: "button", textContent: "Replay", disabled: true });
    this.scrub = make("input", { type: "range", min: "0", max: "0", value: "0", disabled: true });
    this.scrub.setAttribute("aria-label", "Step of " + title);
    this.at = make("output");
    this.root = make("div", {}, make("h2", { textContent: title }), this.text,
      make("div", { className: "controls" }, this.play, this.scrub, this.at), this.told, this.counters);
    this.play.addEventListener("click", () => this.toggle());
    this.scrub.addEventListener("input", () => { this.stop(); this.isLive = false; this.show(Number(this.scrub.value)); });
    this.clear();
  }

  clear() {
    this.stop();
    Object.assign(this, { steps: [], blocks: [], plain: "", began: performance.now(), first: 0, last: 0, cost: null, dropped: 0, isLive: true });
    this.text.replaceChildren();
    this.told.textContent = "";
    this.counters.replaceChildren();
    this.scrub.max = this.scrub.value = "0";
    this.at.textContent = "";
    this.play.disabled = this.scrub.disabled = true;
  }

  // One event of a stream.
  take(chunk) {
    this.cost = chunk.diffusion ?? this.cost;
    const frame = chunk.diffusion_frame;
    if (frame) {
      this.dropped += frame.dropped;
      this.steps.push({ frame, before: [...this.blocks] });
      if (frame.final) { this.blocks.push(frame); }
      this.scrub.max = String(this.steps.length - 1);
      this.play.disabled = this.scrub.disabled = false;
      if (this.isLive) { this.scrub.value = this.scrub.max; this.show(this.steps.length - 1); }
    }
    const said = chunk.choices?.[0]?.delta?.content ?? "";
    if (said) {
      this.first ||= performance.now() - this.began;
      this.last = performance.now() - this.began;
      this.plain += said;
      if (!this.steps.length) { this.text.textContent = this.plain; }
    }
    this.count();
  }

  pieces(frame, isNow) {
    return frame.tokens.map((token, i) => {
      const state = isNow ? frame.states[i] : "settled";
      // An end of the text is no text; its name is told all the same.
      const piece = make("span", { className: state, textContent: /^<\|.*\|>$/.test(token) ? "\u220e" : token });
      const said = JSON.stringify(token) + ": " + frame.states[i] + ", " + percent(frame.probs[i]) +
        "; else " + JSON.stringify(frame.others[i]) + ", " + percent(frame.other_probs[i]);
      piece.title = said;
      piece.addEventListener("pointerenter", () => { this.told.textContent = said; });
      return piece;
    });
  }

  show(number) {
    const step = this.steps[number];
    if (!step) { return; }
    const before = step.before.flatMap((frame) => this.pieces(frame, false));
    this.text.replaceChildren(...before, ...this.pieces(step.frame, true));
    const open = step.frame.states.filter((state) => state === "masked").length;
    this.at.textContent = "step " + (number + 1) + " of " + this.steps.length + ", block " + (step.frame.block + 1) + ", " + open + " open";
  }

  count() {
    const tokens = this.cost?.tokens ?? this.blocks.reduce((sum, frame) => sum + frame.tokens.length, 0);
    const rows = [["first text", this.first ? seconds(this.first) : "-"], ["last text", this.last ? seconds(this.last) : "-"],
      ["steps", this.cost?.steps ?? this.steps.length], ["blocks", this.blocks.length], ["tokens", tokens]];
    if (this.last && tokens) { rows.push(["tokens/s", Math.round(1000 * tokens / this.last)]); }
    if (this.cost) { rows.push(["tokens/forward", this.cost.tokens_per_forward.toFixed(2)]); }
    if (this.dropped) { rows.push(["frames left out", this.dropped]); }
    this.counters.replaceChildren(...rows.map(([name, value]) => make("li", {}, name + " ", make("b", { textContent: String(value) }))));
  }

  toggle() {
    if (this.timer) { this.stop(); return; }
    this.isLive = false;
    let number = Number(this.scrub.value) >= this.steps.length - 1 ? 0 : Number(this.scrub.value);
    this.play.textContent = "Pause";
    const next = () => {
      this.scrub.value = String(number);
      this.show(number);
      if (number >= this.steps.length - 1) { this.stop(); return; }
      number += 1;
    };
    next();
    this.timer = setInterval(next, 220);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "Replay";
  }

  // The whole of a request's stream.
  async run(path, body, signal) {
    this.clear();
    for await (const chunk of events(path, body, signal)) { this.take(chunk); }
  }
}
