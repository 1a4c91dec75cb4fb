import type { InstanceId, ServiceName } from "../names.js";

/**
 * Who the processes in our containers are, as `uid:gid`. A number, because a host knows no such name: what a container writes
 * (index, sockets) and what it alone may read (secrets) belongs to it on the host. `compose/services/Dockerfile` uses the same.
 */
export const containerUser = "10001:10001";

/** Where things are inside a service's container. Every instance sees the same paths: one hands them to another. */
export const inside = {
  run: "/gpuctl/run",
  gates: "/gpuctl/gates",
  secrets: "/gpuctl/secrets",
  model: "/gpuctl/model",
  fallbackModel: "/gpuctl/fallback-model",
  index: "/gpuctl/index",
  /** Of the proxy: its configuration's directory. The directory is mounted, not the file: a file's mount keeps showing the replaced one. */
  proxyConfig: "/etc/caddy",
  proxyData: "/data",
  proxyRun: "/gpuctl/run",
} as const;

/** File names in an instance's directory below `run`. */
export const sockets = { private: "private.sock", control: "control.sock", document: "instance.json" } as const;

/** Where other containers of the node reach an instance's private HTTP. */
export const privateSocketInside = (id: InstanceId): string => `${inside.run}/${id}/${sockets.private}`;

/** Caddy's admin API: a socket in a mounted directory, so that the host needs no tool inside the image to ask it. */
export const adminSocket = "admin.sock";

/** Beside the proxy's Caddyfile: the CA that an ACME directory's own certificate is signed by. */
export const directoryCaFile = "acme-ca.crt";

/**
 * Port of a service inside the project's network, of its instances and of the proxy's public listener alike. The port a person
 * configured is the published one, so what is inside never changes and never collides.
 */
export const insidePort: Readonly<Record<ServiceName, number>> = { embedder: 8001, reranker: 8002, index: 8003 };

/**
 * Where the proxy answers for a service inside the network without TLS and without an allow-list: for the other containers of
 * the node (the index asks the embedder; the ingress asks its own node). Never published.
 */
export const internalPort: Readonly<Record<ServiceName, number>> = { embedder: 7001, reranker: 7002, index: 7003 };

/** Unprivileged ports of the ingress inside its container, and where ACME's HTTP challenge is answered. */
export const plainPort = 8080;
export const tlsPort = 8443;

/** Where Prometheus finds the proxy's metrics in the project's network. Never published. */
export const proxyMetricsPort = 2020;
