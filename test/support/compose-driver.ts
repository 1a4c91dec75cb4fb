/** What tests of the compose target's driver and of its files say about a node and an environment of which nothing is special. */
import { SystemClock } from "../../cli/src/adapters/clock/system-clock.js";
import { NodeHttpClient } from "../../cli/src/adapters/http/node-http-client.js";
import type { ComposeDriverOptions } from "../../cli/src/adapters/targets/compose/compose-driver.js";
import type { NodeLook } from "../../cli/src/adapters/targets/compose/gpu-trials.js";
import type { NodeSettings } from "../../cli/src/domain/compose/node-settings.js";

/** Alone, without Redis, TLS, an allow-list and an ingress. */
export const plainNode = {
  project: "shop",
  environment: "prod",
  embedderUrl: null,
  redis: null,
  tls: { mode: "off" },
  allow: [],
  ingressAddress: null,
  askedFrom: [],
  ingress: null,
} satisfies Partial<NodeSettings>;

/** What the driver asks of a node before it tries a GPU there: nothing that takes room, and no entrance. */
export const plainNeeds = {
  services: [],
  allow: null,
  entrances: [],
  ingress: false,
  tls: false,
  imageBytes: null,
  sentBytes: null,
  modelBytes: null,
  dataDirectory: "/var/lib/gpuctl",
} satisfies Partial<NodeLook["needs"]>;

/** With the real clock and HTTP, and nobody who is told how far it is. */
export const plainDriver = (): Pick<ComposeDriverOptions, "clock" | "http" | "progress" | "fetching" | "certificate"> => ({
  clock: new SystemClock(),
  http: new NodeHttpClient(),
  progress: { emit: () => undefined },
  fetching: null,
  certificate: null,
});
