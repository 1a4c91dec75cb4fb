/** What the hcloud double says to the API: a call, an action and its end. */
import { setTimeout as wait } from "node:timers/promises";
import type { Properties } from "./values.js";

/** An answer that was no success. */
export class HcloudError extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(`${message} (${code})`);
    this.status = status;
    this.code = code;
  }
}

interface Action {
  id: number;
  status: "running" | "success" | "error";
  error: { code: string; message: string } | null;
}

/** Codes after which the real provider's client asks again, five times at most. `locked` is one where it deletes or attaches. */
const passing = ["conflict", "rate_limit_exceeded", "locked"];

export class HcloudClient {
  readonly #endpoint: string;
  readonly #token: string;

  constructor(configuration: Properties) {
    this.#endpoint = String(configuration["endpoint"]).replace(/\/$/, "");
    this.#token = String(configuration["token"]);
  }

  /** One call; what it answers, with the actions in it at their end. */
  async call(method: string, path: string, body?: Properties): Promise<Properties> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.begin(method, path, body);
        await this.finish(answer);
        return answer;
      } catch (error) {
        if (!(error instanceof HcloudError) || !passing.includes(error.code) || attempt === 5) throw error;
        await wait(20 * attempt);
      }
    }
  }

  /** A thing by its path; undefined when there is none. */
  async find(path: string, key: string): Promise<Properties | undefined> {
    try {
      return (await this.begin("GET", path))[key] as Properties;
    } catch (error) {
      if (error instanceof HcloudError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Deletes what may be gone already. */
  async remove(path: string): Promise<void> {
    try {
      await this.call("DELETE", path);
    } catch (error) {
      if (!(error instanceof HcloudError) || error.status !== 404) throw error;
    }
  }

  /** A call whose actions may still run. Throws {@link HcloudError}. */
  async begin(method: string, path: string, body?: Properties): Promise<Properties> {
    const headers = { authorization: `Bearer ${this.#token}`, "content-type": "application/json" };
    const content = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await fetch(`${this.#endpoint}${path}`, { method, headers, ...content });
    const text = await response.text();
    const answer = (text === "" ? {} : JSON.parse(text)) as Properties;
    if (response.ok) return answer;
    const { code, message } = answer["error"] as { code: string; message: string };
    throw new HcloudError(response.status, code, message);
  }

  /** Waits for the actions of an answer. Throws when one failed. */
  async finish(answer: Properties): Promise<void> {
    const actions = actionsIn(answer);
    for (const { id } of actions.filter(({ status }) => status === "running")) {
      let action: Action;
      do {
        await wait(10);
        action = (await this.begin("GET", `/actions/${id}`))["action"] as Action;
      } while (action.status === "running");
      if (action.error !== null) throw new HcloudError(200, action.error.code, action.error.message);
    }
    const failed = actions.find(({ error }) => error !== null)?.error;
    if (failed != null) throw new HcloudError(200, failed.code, failed.message);
  }
}

function actionsIn(answer: Properties): Action[] {
  const {
    action,
    actions,
    next_actions: next,
  } = answer as { action?: Action | null; actions?: Action[]; next_actions?: Action[] };
  return [...(action == null ? [] : [action]), ...(actions ?? []), ...(next ?? [])];
}
