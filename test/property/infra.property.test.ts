import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { firstNumber, lastNumber, planAddresses, type PlanRequest } from "../../infra/lib/address-plan.js";
import { addressAt, contains, isOpen, networkText, overlaps, parseNetwork, size, type Network } from "../../infra/lib/cidr.js";
import { firewallRules, opensSsh } from "../../infra/lib/firewall.js";
import { labels, longestName, resourceName } from "../../infra/lib/names.js";
import { remoteProgram, shellQuoted } from "../../infra/lib/remote-program.js";
import { checkStack, StackInvalid } from "../../infra/lib/stack-config.js";

const shortName = fc.stringMatching(/^[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?$/);
const stackName = fc.stringMatching(/^[A-Za-z0-9_.-]{1,100}$/);
const network4 = fc.tuple(fc.nat({ max: 0xffffffff }), fc.integer({ min: 0, max: 32 })).map(([address, prefix]): Network => {
  const block = size({ family: 4, prefix });
  return { family: 4, first: (BigInt(address) / block) * block, prefix };
});
const cidr = network4.map(networkText);

describe("networks", () => {
  it("are read as they are written, and hold exactly their own addresses", () => {
    fc.assert(
      fc.property(network4, fc.nat(), (network, random) => {
        expect(parseNetwork(networkText(network))).toEqual(network);
        const inside = Number(BigInt(random) % size(network));
        expect(contains(network, parseNetwork(addressAt(network, inside))!)).toBe(true);
        const after = network.first + size(network);
        if (after <= 0xffffffffn) expect(contains(network, { family: 4, first: after, prefix: 32 })).toBe(false);
      }),
    );
  });

  it("overlap one another both ways or not at all", () => {
    fc.assert(
      fc.property(network4, network4, (one, other) => {
        expect(overlaps(one, other)).toBe(overlaps(other, one));
      }),
    );
  });
});

describe("an address plan", () => {
  const request: fc.Arbitrary<PlanRequest> = fc.record({
    range: fc.oneof(cidr, fc.constantFrom("10.0.0.0/8", "10.20.0.0/16", "192.168.0.0/23")),
    cloud: fc.option(cidr),
    vswitch: fc.option(fc.oneof(cidr, fc.constantFrom("10.20.2.0/24", "10.20.1.128/25"))),
    hosts: fc.uniqueArray(fc.record({ name: shortName, number: fc.option(fc.integer({ min: 10, max: 249 })) }), {
      selector: ({ name }) => name,
      maxLength: 30,
    }),
  });

  it("is refused with a reason, or holds subnets apart and gives every host an address of its own in the right one", () => {
    fc.assert(
      fc.property(request, (wish) => {
        const { plan, problems } = planAddresses(wish);
        if (plan === null) {
          expect(problems.length).toBeGreaterThan(0);
          return;
        }
        const [range, cloud] = [parseNetwork(plan.range)!, parseNetwork(plan.cloud)!];
        expect(contains(range, cloud)).toBe(true);
        if (plan.vswitch !== null) {
          expect(contains(range, parseNetwork(plan.vswitch)!)).toBe(true);
          expect(overlaps(cloud, parseNetwork(plan.vswitch)!)).toBe(false);
        }
        const addresses = Object.values(plan.addresses);
        expect(new Set(addresses).size).toBe(wish.hosts.length);
        for (const address of addresses) {
          const number = parseNetwork(address)!.first - cloud.first;
          expect(number >= BigInt(firstNumber) && number <= BigInt(lastNumber)).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  it("moves nobody when a host comes or goes", () => {
    fc.assert(
      fc.property(fc.uniqueArray(shortName, { minLength: 1, maxLength: 12 }), shortName, (names, more) => {
        const plan = (hosts: string[]) =>
          planAddresses({
            range: "10.20.0.0/16",
            cloud: null,
            vswitch: null,
            hosts: hosts.map((name) => ({ name, number: null })),
          }).plan;
        const [before, after] = [plan(names), plan([...new Set([more, ...names])])];
        if (before !== null && after !== null) expect(after.addresses).toMatchObject(before.addresses);
      }),
    );
  });
});

describe("names", () => {
  it("fit, are labels of RFC 1123, and differ whenever their parts do", () => {
    const parts = fc.tuple(shortName, stackName, shortName);
    fc.assert(
      fc.property(parts, parts, (one, other) => {
        const name = ([project, stack, node]: typeof one) => resourceName({ project, stack }, node);
        expect(name(one)).toMatch(/^[a-z](?:[a-z0-9-]*[a-z0-9])?$/);
        expect(name(one).length).toBeLessThanOrEqual(longestName);
        expect(name(one) === name(other)).toBe(JSON.stringify(one) === JSON.stringify(other));
      }),
      { numRuns: 2000 },
    );
  });

  it("that would read the same are told apart: dashes of one part are not the joint between two", () => {
    const names = [
      resourceName({ project: "a", stack: "b-c" }, "d"),
      resourceName({ project: "a-b", stack: "c" }, "d"),
      resourceName({ project: "a", stack: "b" }, "c-d"),
      resourceName({ project: "a", stack: "B" }, "c-d"),
      resourceName({ project: "a", stack: "b_c" }, "d"),
    ];
    expect(new Set(names).size).toBe(names.length);
    expect(names[2]).toBe("a-b-c-d");
  });

  it("as labels have characters that Hetzner and Kubernetes both take", () => {
    fc.assert(
      fc.property(shortName, stackName, fc.option(shortName, { nil: undefined }), (project, stack, node) => {
        for (const [key, value] of Object.entries(labels({ project, stack }, node))) {
          expect(key).not.toMatch(/^hetzner\.cloud\//);
          expect(value).toMatch(/^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/);
        }
      }),
    );
  });
});

describe("the firewall", () => {
  it("opens SSH to nothing but what a stack said, and to the internet only where it was said twice", () => {
    const wish = fc.record({
      addresses: fc.array(cidr, { minLength: 1, maxLength: 5 }),
      anywhere: fc.option(fc.oneof(cidr, fc.constantFrom("0.0.0.0/0", "0.0.0.0/1"), fc.array(cidr, { maxLength: 3 }))),
      app: fc.array(cidr, { maxLength: 3 }),
    });
    const script = { text: "", sha256: "" };
    fc.assert(
      fc.property(wish, ({ addresses, anywhere, app }) => {
        const saidTwice = [anywhere ?? []].flat();
        const raw = {
          project: "shop",
          operators: { addresses, keys: ["ssh-ed25519 AAAA me"], anywhere },
          app,
          network: { range: "10.20.0.0/16" },
          nodes: { a: { kind: "hcloud", serverType: "cx33", location: "fsn1" } },
        };
        try {
          const { config } = checkStack(raw, { k3sToken: false, hcloudToken: true }, () => ({ kind: "none" }), script);
          const rules = firewallRules({ ...config, operators: config.operators.addresses, sshPort: 22 });
          for (const { port, sourceIps } of rules) {
            const known = port === "22" ? addresses : [...addresses, ...app];
            for (const source of sourceIps) {
              expect(known).toContain(source);
              if (port === "22" && isOpen(parseNetwork(source)!)) expect(saidTwice).toContain(source);
              if (port !== null && port !== "22") expect(isOpen(parseNetwork(source)!)).toBe(false);
            }
          }
        } catch (error) {
          if (!(error instanceof StackInvalid)) throw error;
          const opened = [
            ...addresses.filter((each) => opensSsh(each, saidTwice)),
            ...app.filter((each) => isOpen(parseNetwork(each)!)),
          ];
          expect(opened.length).toBeGreaterThan(0);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("a program for a remote shell", () => {
  it("hands over any value unchanged, whatever a shell would make of it", () => {
    const values = fc.array(
      fc.string({ unit: "binary", maxLength: 30 }).filter((text) => !text.includes("\0")),
      { minLength: 1, maxLength: 40 },
    );
    fc.assert(
      fc.property(values, (texts) => {
        const named = Object.fromEntries(texts.map((text, index) => [`V${index}`, text]));
        const body = `main() { printf '%s\\0' ${texts.map((_, index) => `"$V${index}"`).join(" ")}; }`;
        const said = execFileSync("bash", ["-s"], {
          input: remoteProgram(body, named),
          env: { PATH: process.env["PATH"], LC_ALL: "C" },
        });
        expect(said.toString()).toBe(texts.map((text) => `${text}\0`).join(""));
      }),
      { numRuns: 30 },
    );
  });

  it("quotes a word so that it is one word", () => {
    expect(shellQuoted("it's $HOME `x`")).toBe(`'it'\\''s $HOME \`x\`'`);
    expect(() => shellQuoted("a\0b")).toThrow(RangeError);
  });
});
