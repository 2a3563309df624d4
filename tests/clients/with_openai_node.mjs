// openai-node.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import * as checks from "./checks.mjs";

const { model, question, call, record, infill, said } = checks;
const client = new OpenAI({ baseURL: `${checks.url}/v1`, apiKey: "none", maxRetries: 0 });
const chats = client.chat.completions;
const ask = { model, messages: said(question) };

await checks.told("openai", {
  chat: () =>
    checks.allRight(async (text) => {
      const answer = await chats.create({ model, messages: said(text) });
      return answer.choices[0].message.content;
    }),
  stream: async () => {
    let text = "", usage;
    const chunks = await chats.create({ ...ask, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of chunks) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    return checks.isAnswer(text) && usage.completion_tokens > 0;
  },
  tools: async () => {
    const answer = await chats.create({ model, messages: said(call.question), tools: call.tools });
    const [one, ...others] = answer.choices[0].message.tool_calls;
    return others.length === 0 && checks.isCall(one.function.name, one.function.arguments);
  },
  "tools, streamed": async () => {
    const stream = chats.stream({ model, messages: said(call.question), tools: call.tools });
    const [one] = (await stream.finalMessage()).tool_calls;
    return checks.isCall(one.function.name, one.function.arguments);
  },
  "JSON schema": async () => {
    const fields = Object.fromEntries(Object.keys(record.object).map((name) => [name, z.string()]));
    const answer = await chats.parse({
      model,
      messages: said(record.question),
      response_format: zodResponseFormat(z.object(fields), "record"),
    });
    return checks.same(answer.choices[0].message.parsed, record.object);
  },
  errors: async () => {
    try {
      await chats.create({ ...ask, diffusing: true });
    } catch (error) {
      return error instanceof OpenAI.BadRequestError && error.param === "diffusing";
    }
    return false;
  },
  "fim (suffix)": async () => {
    const { prefix, suffix, answer } = infill;
    const filled = await client.completions.create({ model, prompt: prefix, suffix, max_tokens: 256 });
    return checks.isAnswer(filled.choices[0].text, answer);
  },
  responses: async () =>
    checks.isAnswer((await client.responses.create({ model, input: question })).output_text),
  models: async () => (await client.models.retrieve(model)).id === model,
});
