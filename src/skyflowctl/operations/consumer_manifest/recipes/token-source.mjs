// Skyflow tokens for @NAME@: keep one TokenSource, and for each use
// const bearer = await source.token(@"CTX"@);  A private CA: NODE_EXTRA_CA_CERTS=ca.pem
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
const ADDRESS = @"ADDRESS"@;
const MARGIN = 5 * 60_000, ATTEMPTS = 6, CAPACITY = 1000;
export class TokenSource {
  #calls = new Map();
  #login = { end: 0 };
  /** Resolves to a token with at least 5 minutes left. Equal calls share one request. */
  token(ctx = "") {
    let call = this.#calls.get(ctx);
    if (!call || call.end - Date.now() < MARGIN) {
      if (this.#calls.size >= CAPACITY) this.#calls.clear();
      this.#calls.set(ctx, (call = started(this.#read(ctx))));
    }
    return call.value;
  }

  async #read(ctx) {
    for (let attempt = 1; ; attempt++) {
      const ended = this.#login.end < Date.now();
      const login = (this.#login = ended ? started(logIn()) : this.#login);
      try {
        const { data } = await post(@"PATH"@, ctx ? { ctx } : {}, await login.value);
        return [data.access_token, Date.parse(data.expires_at)];
      } catch (error) {
        if (error.status === 403 && !ended) login.end = 0; // it was revoked: log in again, once
        else if (error.final || attempt >= ATTEMPTS) throw error;
        else await sleep(250 * 2 ** attempt * (0.5 + Math.random() / 2));
      }
    }
  }
}

function started(work) {
  const call = { end: Infinity }; // while it runs
  call.value = work.then(([value, end]) => ((call.end = end), value));
  call.value.catch(() => (call.end = 0));
  return call;
}

async function logIn() {
  const text = async (name) => (await readFile(@"FOLDER"@ + name, "utf8")).trim();
  const body = { role_id: await text("role-id"), secret_id: await text("secret-id") };
  const { auth } = await post(@"LOGIN"@, body);
  return [auth.client_token, Date.now() + (auth.lease_duration || 1e9) * 900];
}

async function post(path, body, token = "") {
  const options = { method: "POST", body: JSON.stringify(body), redirect: "error",
    headers: { "X-Vault-Token": token }, signal: AbortSignal.timeout(30_000) };
  const reply = await fetch(`${ADDRESS}/v1/${path}`, options);
  const [status, text] = [reply.status, await reply.text()];
  if (status === 200) return JSON.parse(text);
  const passing = status >= 500 || status === 412 || status === 429;
  const final = !passing || text.includes("token service refused");
  throw Object.assign(new Error(`${path}: ${status} ${text}`), { status, final });
}
