import fc from "fast-check";
import { expect, test } from "vitest";
import {
  describeStep,
  gates,
  gateText,
  isChecked,
  readGate,
  readTrafficView,
  surelyCheckedMs,
  switchSteps,
  type Gate,
  type GateState,
} from "../../cli/src/domain/compose/traffic.js";

const checkers = ["embedder-public", "embedder-internal"];
const gate = fc.constantFrom(...gates);
const found = fc.tuple(gate, gate).map(([a, b]): GateState[] => [
  { id: "embedder-r1-aaaaaaaa-a", gate: a, upstream: "embedder-a:8001" },
  { id: "embedder-r2-bbbbbbbb-b", gate: b, upstream: "embedder-b:8001" },
]);
const target = fc.constantFrom("embedder-r1-aaaaaaaa-a", "embedder-r2-bbbbbbbb-b");

/** What Caddy and the gates are after the first `count` steps; Caddy follows only where a step waits for it. */
function after(
  start: readonly GateState[],
  to: string | null,
  count: number,
): { gates: Map<string, Gate>; seen: Map<string, boolean> } {
  const now = new Map(start.map(({ id, gate: said }) => [id, said]));
  const seen = new Map(start.map(({ id, gate: said }) => [id, said === "open"]));
  for (const step of switchSteps(start, to, checkers).slice(0, count)) {
    if (step.kind === "set-gate") now.set(step.id, step.gate);
    if (step.kind === "await-checked") seen.set(step.id, step.open);
    if (step.kind === "await-idle") expect(seen.get(step.id)).toBe(false);
  }
  return { gates: now, seen };
}

const anyOpen = (values: Iterable<boolean>): boolean => [...values].some(Boolean);

test("at every step of a switch some instance takes requests, by its gate and as Caddy knows it", () => {
  fc.assert(
    fc.property(found, target, (start, to) => {
      if (!start.some(({ gate: said }) => said === "open")) return;
      for (let count = 0; count <= switchSteps(start, to, checkers).length; count += 1) {
        const { gates: now, seen } = after(start, to, count);
        expect(anyOpen([...now.values()].map((said) => said === "open"))).toBe(true);
        expect(anyOpen(seen.values())).toBe(true);
        // Whoever Caddy may still send requests to wants them, or will be waited for.
        if (!anyOpen([...now].map(([id, said]) => said === "open" && seen.get(id) === true)))
          expect(switchSteps(start, to, checkers)[count]?.kind).toBe("await-checked");
      }
    }),
  );
});

test("afterwards exactly the wanted instance is open, whatever was found; done again it changes nothing", () => {
  fc.assert(
    fc.property(found, target, (start, to) => {
      const { gates: end } = after(start, to, Number.POSITIVE_INFINITY);
      expect([...end].filter(([, said]) => said === "open").map(([id]) => id)).toEqual([to]);
      const settled = start.map((state) => ({ ...state, gate: end.get(state.id)! }));
      expect(switchSteps(settled, to, checkers)).toEqual([]);
    }),
  );
});

test("a switch that was cut off at any step is finished, or taken back, by switching from what is found", () => {
  fc.assert(
    fc.property(found, target, target, fc.nat(8), (start, to, then, cut) => {
      const halfway = after(start, to, cut).gates;
      const state = start.map((one) => ({ ...one, gate: halfway.get(one.id)! }));
      const end = after(state, then, Number.POSITIVE_INFINITY).gates;
      expect([...end].filter(([, said]) => said === "open").map(([id]) => id)).toEqual([then]);
    }),
  );
});

test("only what serves comes back by itself", () => {
  fc.assert(
    fc.property(found, fc.option(target), (start, to) => {
      for (const step of switchSteps(start, to, checkers))
        if (step.kind === "set-restart") expect(step.policy).toBe(step.id === to ? "always" : "no");
    }),
  );
});

test("a gate file is read as it was written; anything else is closed", () => {
  const now = { uptime: 100, sameBoot: true };
  expect(gates.map((said) => readGate(gateText(said), now))).toEqual([...gates]);
  fc.assert(
    fc.property(fc.option(fc.string()), (text) => {
      if (!gates.includes(text?.trim() as Gate)) expect(readGate(text, { uptime: 100, sameBoot: false })).toBe("closed");
    }),
  );
});

test("a gate that is shut until an uptime is open from then on, and after a reboot, whatever that one's uptime is", () => {
  for (const word of ["paused", "closed"] as const) {
    const text = `${word} until 4711\n`;
    expect(readGate(text, { uptime: 4710, sameBoot: true })).toBe(word);
    expect(readGate(text, { uptime: 4711, sameBoot: true })).toBe("open");
    expect(readGate(text, { uptime: 3, sameBoot: false })).toBe("open");
  }
  for (const text of ["paused until", "paused until soon", "until 5", "opne until 5", "paused until 5 "])
    expect(readGate(`${text}x`, { uptime: 100, sameBoot: false })).toBe("closed");
});

test("a gate counts as seen when every listener was told, or after a time when nobody can say", () => {
  const step = { kind: "await-checked", id: "x", open: true, checkers } as const;
  const words = { true: "open", false: "closed" } as const;
  const view = (told: Record<string, boolean>, said: Gate = "open") => {
    const checks = Object.fromEntries(Object.entries(told).map(([checker, open]) => [checker, words[`${open}`]]));
    const read = readTrafficView({ gate: said, checks });
    expect(readTrafficView({ gate: said, checks: { ...told, stranger: "opne" } })).toEqual(read);
    return read;
  };
  expect(isChecked(step, view({ "embedder-public": true, "embedder-internal": true }), 0)).toBe(true);
  expect(isChecked(step, view({ "embedder-public": true }), 60_000)).toBe(false);
  expect(isChecked(step, view({ "embedder-public": true, "embedder-internal": false }), 60_000)).toBe(false);
  expect(isChecked(step, view({ "embedder-public": true, "embedder-internal": true }, "paused"), 60_000)).toBe(false);
  expect(isChecked({ ...step, open: false }, view({ "embedder-public": false, "embedder-internal": false }, "paused"), 0)).toBe(
    true,
  );
  expect([isChecked(step, null, surelyCheckedMs - 1), isChecked(step, null, surelyCheckedMs)]).toEqual([false, true]);
});

test("any answer of an instance can be read", () => {
  fc.assert(
    fc.property(fc.anything(), (status) => {
      const view = readTrafficView(status);
      if (view !== null) expect(Object.values(view.told).every((told) => typeof told === "boolean")).toBe(true);
    }),
  );
});

test("the steps of a switch, as a dry run prints them", () => {
  const start: GateState[] = [
    { id: "embedder-r1-aaaaaaaa-a", gate: "open", upstream: "embedder-a:8001" },
    { id: "embedder-r2-bbbbbbbb-b", gate: "closed", upstream: "embedder-b:8001" },
  ];
  expect(switchSteps(start, "embedder-r2-bbbbbbbb-b", checkers).map(describeStep)).toEqual([
    "restart   embedder-r2-bbbbbbbb-b: always",
    "gate      embedder-r2-bbbbbbbb-b: open",
    "wait      until embedder-public and embedder-internal saw embedder-r2-bbbbbbbb-b open",
    "gate      embedder-r1-aaaaaaaa-a: paused",
    "wait      until embedder-public and embedder-internal saw embedder-r1-aaaaaaaa-a closed",
    "wait      until embedder-a:8001 has no request in flight",
    "restart   embedder-r1-aaaaaaaa-a: not by itself",
  ]);
});
