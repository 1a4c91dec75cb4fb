/** What the user's ssh configuration says about one host, as `ssh -G` prints it. */
export interface ClientSettings {
  hostName: string;
  user: string;
  port: number;
  /** As written: `~` and `%` tokens are not expanded by `ssh -G`. */
  identityFiles: readonly string[];
  identitiesOnly: boolean;
  /** Socket of the agent; null means SSH_AUTH_SOCK decides, `none` that there is none. */
  identityAgent: string | null;
  userKnownHosts: readonly string[];
  globalKnownHosts: readonly string[];
  hashKnownHosts: boolean;
  /** Name to look up in known_hosts in place of the host's. */
  hostKeyAlias: string | null;
  /** `ProxyJump jump` or `ProxyCommand …`, when the host is behind another; null when it is reached directly. */
  proxy: string | null;
}

/** Reads `ssh -G`: one lower-case keyword and its value a line, some of them several times. */
export function parseClientSettings(text: string): ClientSettings | null {
  const values = new Map<string, string[]>();
  for (const line of text.split(/\r?\n/)) {
    const space = line.indexOf(" ");
    if (space <= 0) continue;
    const keyword = line.slice(0, space);
    values.set(keyword, [...(values.get(keyword) ?? []), line.slice(space + 1)]);
  }
  const first = (keyword: string): string | null => values.get(keyword)?.[0] ?? null;
  const files = (keyword: string): readonly string[] => (first(keyword) ?? "").split(" ").filter((file) => file !== "");
  const [hostName, user, port] = [first("hostname"), first("user"), Number(first("port"))];
  if (hostName === null || user === null || !Number.isInteger(port) || port < 1) return null;
  return {
    hostName,
    user,
    port,
    identityFiles: values.get("identityfile") ?? [],
    identitiesOnly: first("identitiesonly") === "yes",
    identityAgent: first("identityagent"),
    userKnownHosts: files("userknownhostsfile"),
    globalKnownHosts: files("globalknownhostsfile"),
    hashKnownHosts: first("hashknownhosts") === "yes",
    hostKeyAlias: first("hostkeyalias"),
    proxy: proxyOf(first("proxyjump"), first("proxycommand")),
  };
}

function proxyOf(jump: string | null, command: string | null): string | null {
  if (jump !== null && jump !== "none") return `ProxyJump ${jump}`;
  if (command !== null && command !== "none") return `ProxyCommand ${command}`;
  return null;
}

/** A path of the configuration with its `~` and `%` tokens, for the user's real home (ssh does not look at HOME). */
export function expandPath(path: string, names: { home: string; localUser: string; host: string; user: string }): string {
  const tokens: Readonly<Record<string, string>> = {
    "%": "%",
    d: names.home,
    h: names.host,
    r: names.user,
    u: names.localUser,
  };
  const expanded = path.replace(/%(.)/g, (whole, token: string) => tokens[token] ?? whole);
  return expanded.replace(/^~(?=\/|$)/, names.home);
}

/**
 * Configuration for `ssh -G -F`: the user's and the system's, and after them a user name that holds when neither says one.
 * With `-l` it would win over the files.
 */
export function configurationWithDefaults(files: readonly string[], defaultUser: string): string {
  const includes = files.map((file) => `Include "${file}"\n`).join("");
  return `${includes}Host *\n  User ${defaultUser}\n`;
}
