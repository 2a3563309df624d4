// Vercel's AI SDK, by @ai-sdk/openai-compatible.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import * as checks from "./checks.mjs";

const { question, call, record } = checks;
const provider = createOpenAICompatible({
  name: "diffusion",
  baseURL: `${checks.url}/v1`,
  apiKey: "none",
  supportsStructuredOutputs: true,
  includeUsage: true,
});
const model = provider(checks.model);
const ask = { model, maxRetries: 0 };
const tools = Object.fromEntries(
  call.tools.map(({ function: { name, parameters } }) => [
    name,
    tool({ description: name, inputSchema: jsonSchema(parameters) }),
  ]),
);

await checks.told("ai", {
  chat: () => checks.allRight(async (prompt) => (await generateText({ ...ask, prompt })).text),
  stream: async () => {
    const stream = streamText({ ...ask, prompt: question });
    let text = "";
    for await (const part of stream.textStream) text += part;
    return checks.isAnswer(text) && (await stream.usage).outputTokens > 0;
  },
  tools: async () => {
    const { toolCalls } = await generateText({ ...ask, prompt: call.question, tools });
    return toolCalls.length === 1 && checks.isCall(toolCalls[0].toolName, toolCalls[0].input);
  },
  "tools, streamed": async () => {
    const stream = streamText({ ...ask, prompt: call.question, tools });
    const [one] = await stream.toolCalls;
    return checks.isCall(one.toolName, one.input);
  },
  "JSON schema": async () => {
    const schema = jsonSchema(record.schema);
    const { object } = await generateObject({ ...ask, prompt: record.question, schema });
    return checks.same(object, record.object);
  },
  "fields of ours (providerOptions)": async () => {
    const providerOptions = { diffusion: { vllm_xargs: { diffusion_max_steps: 16 } } };
    return checks.isAnswer((await generateText({ ...ask, prompt: question, providerOptions })).text);
  },
  errors: async () => {
    try {
      const providerOptions = { diffusion: { diffusing: true } };
      await generateText({ ...ask, prompt: question, providerOptions });
    } catch (error) {
      return error.name === "AI_APICallError" && error.message.includes("diffusing");
    }
    return false;
  },
});
