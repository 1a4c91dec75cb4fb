import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  isHealthy,
  proxyInFlight,
  readMetrics,
  readUpstreams,
  requestsInFlight,
} from "../../../cli/src/domain/compose/caddy-output.js";
import { readInspect, readListing } from "../../../cli/src/domain/compose/container-output.js";
import { observeContainer, type Surroundings } from "../../../cli/src/domain/compose/observe-container.js";

const capture = (name: string): string => readFileSync(new URL(`captures/${name}`, import.meta.url), "utf8");

describe("Caddy's admin API", () => {
  test("counts the requests in flight to each place", () => {
    const upstreams = readUpstreams(capture("upstreams.json"))!;
    expect(upstreams).toHaveLength(6);
    expect(requestsInFlight(upstreams, "embedder-a:8001")).toBe(0);
    expect(requestsInFlight(upstreams, "embedder-c:8001")).toBeNull();
  });

  test("a place that is listed twice while Caddy reloads counts twice", () => {
    const upstreams = readUpstreams(
      '[{"address":"x:1","num_requests":2},{"address":"x:1","num_requests":3,"fails":1},{"address":5}]',
    )!;
    expect(requestsInFlight(upstreams, "x:1")).toBe(5);
  });

  test("metrics say what is usable and how much is going on", () => {
    const samples = readMetrics(capture("metrics.txt"));
    expect([isHealthy(samples, "embedder-a:8001"), isHealthy(samples, "embedder-b:8001")]).toEqual([true, false]);
    expect([isHealthy(samples, "nobody:1"), proxyInFlight(samples), proxyInFlight([])]).toEqual([null, 0, null]);
  });

  test("labels with quotes, numbers with exponents and infinities, and a scrape that was cut off", () => {
    const text = 'a{x="say \\"hi\\", \\\\ there\\n"} 1.5e+09 1700000000\nb +Inf\nc{le="+Inf"} NaN\n# HELP d ...\nd{x="cu';
    expect(readMetrics(text)).toEqual([
      { name: "a", labels: { x: 'say "hi", \\ there\n' }, value: 1.5e9 },
      { name: "b", labels: {}, value: Number.POSITIVE_INFINITY },
      { name: "c", labels: { le: "+Inf" }, value: Number.NaN },
    ]);
    const busy =
      'caddy_http_requests_in_flight{handler="h",server="srv0"} 3\ncaddy_http_requests_in_flight{handler="g",server="srv0"} 2\n';
    expect(proxyInFlight(readMetrics(`${busy}caddy_http_requests_in_flight{handler="h",server="srv1"} 4`))).toBe(7);
  });

  test("nothing that comes instead makes it throw", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        for (const { requests } of readUpstreams(text) ?? []) expect(requests).toBeGreaterThanOrEqual(0);
        readMetrics(text);
      }),
    );
  });

  test("what is written in Prometheus' format is read back", () => {
    const label = fc.stringMatching(/^[a-z_][a-z0-9_]{0,8}$/);
    const value = fc.string({ unit: "grapheme" }).filter((text) => !/[\r\n\u2028\u2029\u0085\v\f]/.test(text));
    fc.assert(
      fc.property(
        fc.stringMatching(/^[a-z_:][a-z0-9_:]{0,10}$/),
        fc.dictionary(label, value),
        fc.integer(),
        (name, labels, number) => {
          const escaped = Object.entries(labels).map(
            ([key, text]) => `${key}="${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`,
          );
          expect(readMetrics(`${name}{${escaped.join(",")}} ${number}`)).toEqual([
            { name, labels: { ...labels }, value: number },
          ]);
        },
      ),
    );
  });
});

const around: Surroundings = { gate: "open", bootedAt: Date.parse("2026-11-21T07:00:00Z"), inflight: 3, stopsInMs: null };

describe("containers as Docker shows them", () => {
  test("inspected: what runs, what was killed, what Docker could not start", () => {
    const [running, killed, foreign] = readInspect(capture("inspect.json"))!;
    expect(running).toMatchObject({
      name: "gpuctl_shop_prod_embedder-b",
      state: "running",
      pid: 27068,
      restarts: 0,
      health: "healthy",
    });
    expect(running?.startedAt).toBe(Date.parse("2026-11-21T11:21:13.867Z"));
    expect(foreign?.startedAt).toBeNull();
    expect(killed).toMatchObject({ state: "exited", pid: null, exitCode: 137, outOfMemory: true, restartPolicy: "no" });
    expect(foreign?.error).toContain("unresolvable CDI devices");
  });

  test("listed: by docker ps, by docker compose ps, and by an older Compose in one list", () => {
    const byName = (name: string) => readListing(capture("ps.jsonl")).find((facts) => facts.name === name);
    expect(byName("gpuctl_shop_prod_embedder-b")).toMatchObject({
      state: "running",
      health: "healthy",
      pid: null,
      labels: { "dev.gpuctl.slot": "b", "dev.gpuctl.instance": "embedder-r2-9f3ab2c1-b", "com.docker.compose.depends_on": "" },
    });
    expect(byName("gpuctl_shop_prod_embedder-cpu")).toMatchObject({ state: "exited", exitCode: 139, health: null });
    const composed = readListing(capture("compose-ps.jsonl"));
    expect(composed.map(({ name, state, health, exitCode }) => [name.slice(17), state, health, exitCode])).toEqual([
      ["embedder-a", "exited", null, 0],
      ["embedder-b", "running", "healthy", 0],
      ["embedder-cpu", "exited", null, 139],
      ["proxy", "running", null, 0],
    ]);
    const old = `[${capture("compose-ps.jsonl").trim().split("\n").join(",")}]`;
    expect(readListing(old)).toEqual(composed);
    expect(readListing('{"ID":"1","State":"running","Status":"Up 4 seconds (health: starting)"}')[0]?.health).toBe("starting");
  });

  test("as instances: a foreign container is none", () => {
    const [running, killed, foreign] = readInspect(capture("inspect.json"))!.map((facts) => observeContainer(facts, around));
    expect(running).toMatchObject({
      id: "embedder-r2-9f3ab2c1-b",
      process: { state: "running", pid: 27068 },
      traffic: "open",
      inflight: 3,
      ended: null,
    });
    expect(killed).toMatchObject({
      id: "embedder-r3-00c0ffee-a",
      process: { state: "exited", code: null, signal: "SIGKILL" },
      inflight: null,
      ended: "it needed more memory than its container may have and was killed",
    });
    expect(foreign).toBeNull();
  });

  test.each([
    ["paused", { gate: "paused" as const }, "exited", "closed"],
    ["closed", { gate: "closed" as const }, "exited", "closed"],
    ["open, so Docker is bringing it back", {}, "exited", "open"],
    ["open, and the host was booted since", { bootedAt: Date.parse("2026-11-21T12:00:00Z") }, "stopped-by-reboot", "open"],
    [
      "paused, and the host was booted since",
      { gate: "paused" as const, bootedAt: Date.parse("2026-11-21T12:00:00Z") },
      "exited",
      "closed",
    ],
  ])("one that ended behind a gate that is %s", (_, changes, process, traffic) => {
    const killed = readInspect(capture("inspect.json"))![1]!;
    const seen = observeContainer(killed, { ...around, ...changes });
    expect([seen?.process.state, seen?.traffic]).toEqual([process, traffic]);
  });

  test("a running one is warm or not yet open, as its gate says", () => {
    const running = readInspect(capture("inspect.json"))![0]!;
    const traffic = (["open", "paused", "closed"] as const).map(
      (gate) => observeContainer(running, { ...around, gate })?.traffic,
    );
    expect(traffic).toEqual(["open", "paused", "closed"]);
  });

  test("how it ended, in words", () => {
    const base = readInspect(capture("inspect.json"))![1]!;
    const why = (changes: object): string | null | undefined =>
      observeContainer({ ...base, outOfMemory: false, ...changes }, { ...around, gate: "paused" })?.ended;
    expect(why({ exitCode: 1 })).toBe("it ended with status 1");
    expect(why({ exitCode: 139 })).toBe("it was ended by SIGSEGV");
    expect(why({ state: "restarting" })).toContain("again and again");
    expect(why({ state: "created", error: "no such\n device" })).toBe("Docker could not start it: no such device");
    expect(why({ state: "created" })).toBe("it was not started");
  });

  test("nothing that comes instead makes it throw, and nothing is made up", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.json(),
          fc.array(fc.json()).map((lines) => lines.join("\n")),
        ),
        (text) => {
          for (const facts of [...(readInspect(text) ?? []), ...readListing(text)])
            expect(observeContainer(facts, around)).toBeNull();
        },
      ),
    );
  });
});
