/** The state of one project of the fake provider: things by kind, actions that take time, and what the tests want to go wrong. */

/** One thing of the provider, as its API shows it. */
export interface Thing {
  id: number;
  name: string;
  labels: Record<string, string>;
  created: string;
  [field: string]: unknown;
}

/** An answer that is an error: `{"error":{"code","message","details"}}`. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly details: unknown;

  constructor(status: number, code: string, message: string, details: unknown = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

/** Kinds that have a list under their own name. */
export const kinds = [
  "servers",
  "volumes",
  "networks",
  "firewalls",
  "primary_ips",
  "ssh_keys",
  "placement_groups",
  "load_balancers",
  "floating_ips",
] as const;
export type Kind = (typeof kinds)[number];

interface Action {
  id: number;
  command: string;
  startedAt: number;
  resources: readonly { id: number; type: string }[];
  error: { code: string; message: string } | null;
}

/** An action as the API shows it. */
export interface ShownAction {
  id: number;
  status: "running" | "success" | "error";
  command: string;
  progress: number;
  started: string;
  finished: string | null;
  error: { code: string; message: string } | null;
  resources: readonly { id: number; type: string }[];
}

export interface WorldOptions {
  /** How long an action runs, milliseconds; 0: it is a success in the answer that began it. */
  actionMs: number;
  /** Most things of a kind; one more is `resource_limit_exceeded`. */
  limits: Partial<Record<Kind, number>>;
}

export class World {
  readonly options: WorldOptions;
  readonly #things: Record<Kind, Map<number, Thing>>;
  readonly #actions = new Map<number, Action>();
  /** Actions that are to fail, by their command (`create_server`), each once. */
  readonly failingActions: { command: string; code: string; message: string }[] = [];
  #nextId = 4_711_000;
  #nextAddress = 1;

  constructor(options: WorldOptions) {
    this.options = options;
    this.#things = Object.fromEntries(kinds.map((kind) => [kind, new Map()])) as Record<Kind, Map<number, Thing>>;
  }

  newId(): number {
    this.#nextId += 1;
    return this.#nextId;
  }

  /** Numbers from the ranges that documents use (RFC 5737, RFC 3849). */
  newAddress(): { ipv4: string; ipv6: string } {
    const n = this.#nextAddress++;
    return { ipv4: `203.0.113.${(n % 254) + 1}`, ipv6: `2001:db8:${n.toString(16)}::/64` };
  }

  list(kind: Kind): Thing[] {
    return [...this.#things[kind].values()];
  }

  find(kind: Kind, id: unknown): Thing | undefined {
    return this.#things[kind].get(Number(id));
  }

  get(kind: Kind, id: unknown): Thing {
    const found = this.find(kind, id);
    if (found === undefined) throw new ApiError(404, "not_found", `${singular(kind)} with ID '${String(id)}' not found`);
    return found;
  }

  /** Adds a thing with an id, a date and its labels. Names of a kind are unique. */
  add(kind: Kind, fields: Record<string, unknown> & { name: string }): Thing {
    const limit = this.options.limits[kind];
    if (limit !== undefined && this.#things[kind].size >= limit)
      throw new ApiError(403, "resource_limit_exceeded", `${singular(kind)} limit exceeded`, {
        limits: [{ name: `${singular(kind)}_limit` }],
      });
    this.unique(kind, "name", fields.name);
    const thing: Thing = { labels: {}, created: new Date().toISOString(), ...fields, id: this.newId() };
    this.#things[kind].set(thing.id, thing);
    return thing;
  }

  /** Throws `uniqueness_error` when another thing of the kind has this value. */
  unique(kind: Kind, field: string, value: unknown, except?: number): void {
    const other = this.list(kind).find((thing) => thing[field] === value && thing.id !== except);
    if (other !== undefined)
      throw new ApiError(409, "uniqueness_error", `${singular(kind)} ${field} is already used`, { fields: [{ name: field }] });
  }

  remove(kind: Kind, id: number): void {
    this.#things[kind].delete(id);
  }

  /** Begins an action, or ends it at once where actions take no time. */
  begin(command: string, resources: Action["resources"]): ShownAction {
    const at = this.failingActions.findIndex((failing) => failing.command === command);
    const [failing] = at === -1 ? [] : this.failingActions.splice(at, 1);
    const error = failing === undefined ? null : { code: failing.code, message: failing.message };
    const action: Action = { id: this.newId(), command, startedAt: Date.now(), resources, error };
    this.#actions.set(action.id, action);
    return this.show(action);
  }

  action(id: unknown): ShownAction {
    const action = this.#actions.get(Number(id));
    if (action === undefined) throw new ApiError(404, "not_found", `action with ID '${String(id)}' not found`);
    return this.show(action);
  }

  /** Whether an action on a thing still runs: then the thing is locked. */
  isBusy(type: string, id: number): boolean {
    return [...this.#actions.values()].some(
      (action) => this.show(action).status === "running" && action.resources.some((one) => one.type === type && one.id === id),
    );
  }

  private show(action: Action): ShownAction {
    const { actionMs } = this.options;
    const passed = Date.now() - action.startedAt;
    const running = passed < actionMs;
    return {
      id: action.id,
      command: action.command,
      status: running ? "running" : action.error === null ? "success" : "error",
      progress: running ? Math.floor((passed / actionMs) * 100) : 100,
      started: new Date(action.startedAt).toISOString(),
      finished: running ? null : new Date(action.startedAt + actionMs).toISOString(),
      error: running ? null : action.error,
      resources: action.resources,
    };
  }
}

/** `primary_ips` -> `primary_ip`. */
export const singular = (kind: Kind): string => kind.replace(/s$/, "");
