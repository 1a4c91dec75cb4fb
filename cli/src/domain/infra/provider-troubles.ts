import { failed, refused, secretStep, type Rule } from "./trouble.js";

/** How hcloud-go ends its messages: `(resource_unavailable, 1d1d17e504e28a4c)`, the correlation id where there is one. */
const code = /\([a-z]+(?:_[a-z]+)*, [0-9a-f]+\)/;

/** What of an error may be the provider's own words; null for what is said of anything else. */
export function ofProvider(type: string | null, message: string): string | null {
  return type?.startsWith("hcloud:") === true ? message : (code.exec(message)?.[0] ?? null);
}

/** Troubles of the provider, by the code in its message. */
export const providerTroubles: readonly Rule[] = [
  {
    pattern: /\(resource_unavailable\b|error during placement/,
    words: (_, { again }, about) =>
      failed(`${about} cannot be had in this location now`, "the provider has no capacity left for this server type there", [
        "take another location or another server type in the stack's configuration; gpuctl infra preview shows which are available",
        again,
      ]),
  },
  {
    pattern: /\(placement_error\b/,
    words: (_, { again }, about) =>
      failed(
        `${about} has no place now`,
        "the provider could not find a host for it in this location: none is free, or a placement group leaves none",
        ["try again in some minutes, or take another location or another server type in the stack's configuration", again],
      ),
  },
  {
    pattern: /\((?:resource_limit_exceeded|limit_reached)\b|limit exceeded/,
    words: (_, { again }, about) =>
      failed(
        `the limit of the project is reached at ${about}`,
        "every Hetzner Cloud project may have so many servers, addresses and volumes",
        ["gpuctl infra gc   # what was left behind counts too", "ask for a higher limit: console.hetzner.cloud, Limits", again],
      ),
  },
  {
    pattern: /\(rate_limit_exceeded\b|rate limit|too many requests/i,
    words: (_, { again }) =>
      failed("the provider takes no more requests for now", "a project may send 3600 requests an hour, one more every second", [
        "wait some minutes; nothing is lost",
        again,
      ]),
  },
  {
    pattern: /\((?:unauthorized|forbidden|token_readonly)\b/,
    words: (match, doing) =>
      refused(
        "the provider refuses the token",
        match[0].includes("readonly") ? "it may only read" : "it is wrong, was deleted, or is for another project",
        [
          "make one with Read & Write: console.hetzner.cloud, Security, API tokens",
          "export HCLOUD_TOKEN=...   # or infra: { token: { file: PATH } } in gpuctl.yaml",
          `a secret of the stack counts before both: ${secretStep(doing, "hcloud:token")}`,
          doing.again,
        ],
      ),
  },
  {
    pattern: /\((?:locked|conflict)\b/,
    words: (_, { again }, about) =>
      failed(`${about} is busy`, "another action on it is still running at the provider", ["wait a minute", again]),
  },
  {
    pattern: /\(uniqueness_error\b/,
    words: (_, { again }, about) =>
      failed(
        `the name or the key of ${about} is taken`,
        "something else in the project has it, perhaps left by a change that was cut off",
        ["gpuctl infra gc   # lists what no stack knows", again],
      ),
  },
  {
    pattern: /\((?:unavailable|maintenance|server_error|service_error)\b|server responded with status code 50\d/,
    words: (_, { again }) =>
      failed("the provider has trouble of its own", "it answered with a server error", ["https://status.hetzner.com", again]),
  },
];
