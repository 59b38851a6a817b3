import { createInterface } from "node:readline";
import { TokenSource } from "./token-source.mjs";

const source = new TokenSource();
for await (const line of createInterface({ input: process.stdin })) {
  const answers = line.split("\t").map(async (ctx) => {
    const read = ctx ? source.token(ctx) : source.token();
    return read.catch((error) => `error: ${error.message}`);
  });
  const texts = await Promise.all(answers);
  console.log(texts.map((text) => text.replace(/\s/g, " ")).join("\t"));
}
