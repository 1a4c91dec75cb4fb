import type { ServiceName } from "../names.js";
import type { ServiceSpec } from "../release.js";
import { directive, remark, withBlock, type Line } from "./caddyfile.js";
import { insidePort } from "./inside.js";
import { hostSlots, slotName, type HostSlot } from "./names.js";
import type { HostInstance, NodeService } from "./node.js";

/** How often each listener asks an instance for its traffic gate; a switch is seen by all of them after this at the latest. */
export const checkIntervalMs = 200;

/** The places of a service as the proxy lists them: `embedder-a:8001`. The CPU instance comes last, so it answers only when no slot does. */
export function upstreamsOf({ service, cpuFallback }: Pick<NodeService, "service" | "cpuFallback">): readonly string[] {
  return hostSlots.filter((slot) => slot !== "cpu" || cpuFallback).map((slot) => upstreamOf(service, slot));
}

/** Address of one place, by which Caddy's admin API counts its requests. */
export const upstreamOf = (service: ServiceName, slot: HostSlot): string => `${slotName(service, slot)}:${insidePort[service]}`;

/** Limits of a route, taken from the settings of what runs behind it. */
export interface RouteLimits {
  bodyBytes: number;
  /** What a request may take in the service, milliseconds. */
  deadlineMs: number;
}

const MiB = 2 ** 20;

/**
 * The widest limits of the instances behind a route: a release with larger ones must not be cut by those of its predecessor. The services
 * keep their own, so these start high: what stays below them changes nothing here, and the proxy need not be told.
 */
export function limitsOf(instances: readonly Pick<HostInstance, "spec">[]): RouteLimits {
  const specs = instances.map(({ spec }) => spec);
  return {
    // Twice the service's own limit: its 413 says what to do, the proxy's only stops what nobody means. A service swallows 64 MiB of what it refused.
    bodyBytes: 2 * Math.max(...specs.map((spec) => setting(spec, "GPUCTL_MAX_BODY_BYTES", 0)), 32 * MiB),
    deadlineMs: Math.max(...specs.map((spec) => setting(spec, "GPUCTL_DEADLINE_MS", 0)), 300_000),
  };
}

/** Whether the limits of a route are others once `after` are behind it in place of `before`: then the proxy is told, by a reload. */
export function limitsDiffer(before: readonly ServiceSpec[], after: readonly ServiceSpec[]): boolean {
  const [old, next] = [before, after].map((specs) => limitsOf(specs.map((spec) => ({ spec }))));
  return old?.bodyBytes !== next?.bodyBytes || old?.deadlineMs !== next?.deadlineMs;
}

function setting(spec: ServiceSpec, name: string, otherwise: number): number {
  const value = Number(spec.env[name] ?? Number.NaN);
  return Number.isSafeInteger(value) && value > 0 ? value : otherwise;
}

/** What every route does, written once at the top of a file; routes import it with their own words. */
export function snippets(): readonly Line[] {
  return [
    remark("What every request gets: a limit for its body ({args[0]} bytes), and an id that reaches the service's log."),
    withBlock(
      ["(admission)"],
      [
        withBlock(["request_body"], [directive("max_size", "{args[0]}")]),
        directive("@unnamed", "not", "header", "X-Request-Id", "*"),
        directive("request_header", "@unnamed", "X-Request-Id", "{http.request.uuid}"),
      ],
    ),
    remark("How a request finds its place. {args[0]}: which of the open ones; {args[1]}: who asks, for the instances."),
    withBlock(["(places)"], places()),
    remark("What a client gets when no instance takes requests: a reason, and when to come back."),
    withBlock(
      ["(nobody)"],
      [
        withBlock(
          ["handle_errors", "502", "503", "504"],
          [directive("header", "Retry-After", "2"), directive("respond", "No instance of this service takes requests now.")],
        ),
      ],
    ),
  ];
}

function places(): readonly Line[] {
  return [
    directive("lb_policy", "{args[0]}"),
    remark("A request waits for an open place. One that was sent to an instance is not sent again:"),
    remark("retried are connections that were never made, and GETs."),
    directive("lb_try_duration", "5s"),
    directive("lb_try_interval", "100ms"),
    remark("The traffic gate: 200 while it is open, 503 while it is closed. Moving traffic needs no reload."),
    directive("health_uri", "/health/traffic"),
    directive("health_interval", `${checkIntervalMs}ms`),
    directive("health_timeout", "2s"),
    withBlock(["health_headers"], [directive("X-Gpuctl-Checker", "{args[1]}")]),
    withBlock(
      ["transport", "http"],
      [
        directive("dial_timeout", "2s"),
        remark("Shorter than the services' 75 s: the side that sends the next request is the one that closes."),
        directive("keepalive", "30s"),
        directive("keepalive_idle_conns_per_host", "256"),
        remark("The service's own deadline comes first; this one ends what hangs."),
        directive("response_header_timeout", "{args[2]}"),
      ],
    ),
  ];
}

/** Refuses clients from elsewhere. Judged by the connection, never by a header. */
export function onlyFrom(networks: readonly string[]): readonly Line[] {
  if (networks.length === 0) return [];
  return [
    directive("@stranger", "not", "remote_ip", ...networks),
    directive("respond", "@stranger", "This address is not allowed here.", "403"),
  ];
}

/** From a site's door to one of several places. `checker` names this route to the instances that it asks. */
export function routeTo(
  upstreams: readonly string[],
  policy: "first" | "least_conn",
  checker: string,
  limits: RouteLimits,
): readonly Line[] {
  const patience = `${Math.ceil(limits.deadlineMs / 1000) + 30}s`;
  return [
    directive("import", "admission", String(limits.bodyBytes)),
    withBlock(["reverse_proxy", ...upstreams], [directive("import", "places", policy, checker, patience)]),
  ];
}

/** Ends a site: see `snippets`. */
export const orNobody: Line = directive("import", "nobody");
