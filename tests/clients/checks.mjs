// What the scripts for node share, as checks.py does for Python.
import { readFileSync } from "node:fs";

export const [url, file] = process.argv.slice(2);
export const asked = JSON.parse(readFileSync(file, "utf8"));
export const { model, chats, record, call, infill } = asked;
export const { question, answer } = chats[0];
export const format = {
  type: "json_schema",
  json_schema: { name: "record", strict: true, schema: record.schema },
};
export const said = (content) => [{ role: "user", content }];
export const isAnswer = (text, wanted = answer) => (text ?? "").trim() === wanted.trim();

/** Whether two values are the same, whatever the order of their keys. */
export function same(one, other) {
  if (typeof one !== "object" || typeof other !== "object" || !one || !other) return one === other;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => same(one[key], other[key]));
}

export const isCall = (name, given) =>
  name === call.name && same(typeof given === "string" ? JSON.parse(given) : given, call.arguments);

/** Whether every question is answered right. */
export async function allRight(ask) {
  for (const each of chats) if (!isAnswer(await ask(each.question), each.answer)) return false;
  return true;
}

/** Run every check and print a line of JSON for each. */
export async function told(client, checks) {
  const manifest = new URL(`node_modules/${client}/package.json`, import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8"));
  for (const [feature, check] of Object.entries(checks)) {
    let result;
    try {
      result = (await check()) === true ? "ok" : "wrong answer";
    } catch (error) {
      result = `${error.name}: ${error.message}`.slice(0, 300);
    }
    console.log(JSON.stringify({ client, version, feature, result }));
  }
}
