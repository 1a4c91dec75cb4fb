import ssh2, { type OpenSSHAgent as Agent, type ParsedKey, type SignCallback, type SigningRequestOptions } from "ssh2";

// A CommonJS module whose names Node cannot all see from outside.
const { BaseAgent, OpenSSHAgent } = ssh2;

/** How long an agent may take to list its keys: one that hangs must not hold the connection up. */
const agentTimeoutMs = 2000;

/** The keys an agent holds; none when it does not answer. */
export function keysOfAgent(socket: string): Promise<readonly ParsedKey[]> {
  return new Promise((resolve) => {
    const giveUp = setTimeout(() => resolve([]), agentTimeoutMs);
    new OpenSSHAgent(socket).getIdentities((error, keys) => {
      clearTimeout(giveUp);
      resolve(error == null ? (keys ?? []).filter(isParsed) : []);
    });
  });
}

function isParsed(key: unknown): key is ParsedKey {
  return typeof key === "object" && key !== null && "getPublicSSH" in key;
}

/** An agent that offers only some of its keys: a server gives up after six that it does not know. */
export class AgentWithKeys extends BaseAgent<ParsedKey> {
  readonly #agent: Agent;
  readonly #keys: readonly ParsedKey[];

  constructor(socket: string, keys: readonly ParsedKey[]) {
    super();
    this.#agent = new OpenSSHAgent(socket);
    this.#keys = keys;
  }

  override getIdentities(done: (error?: Error | null, keys?: ParsedKey[]) => void): void {
    done(null, [...this.#keys]);
  }

  override sign(key: ParsedKey, data: Buffer, options: SigningRequestOptions | SignCallback, done?: SignCallback): void {
    if (typeof options === "function") this.#agent.sign(key, data, options);
    else this.#agent.sign(key, data, options, done);
  }
}
