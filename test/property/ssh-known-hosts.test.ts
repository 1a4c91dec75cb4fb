/** The matcher of known_hosts: against OpenSSH's own words in examples, and against `ssh-keygen -F` where that is installed. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hostKeyAlgorithms, judgeHostKey } from "../../cli/src/domain/ssh/host-key.js";
import { hostName, isAbout, knownHostLine, parseKnownHosts } from "../../cli/src/domain/ssh/known-hosts.js";
import { newKey } from "../support/ssh-server.js";
import { temporaryDirectories } from "../support/temporary.js";

const temporary = temporaryDirectories();
const keys = [newKey(), newKey(), newKey("ecdsa"), newKey("rsa")].map((pair) => pair.public.split(" ").slice(0, 2).join(" "));
const bytesOf = (key: string): Buffer => Buffer.from(key.split(" ")[1]!, "base64");
const keygen = spawnSync("ssh-keygen", ["-?"]).error === undefined;

const label = fc.constantFrom("a", "b", "gpu-1", "GPU-1", "example", "net");
const hosts = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."));
const ports = fc.constantFrom(22, 2222, 60022);
const pattern = fc.oneof(
  hosts,
  fc.tuple(hosts, ports).map(([host, port]) => hostName(host, port)),
  fc.string({ unit: fc.constantFrom("a", "b", ".", "*", "?", "g"), minLength: 1, maxLength: 6 }),
);
const patterns = fc.array(
  fc.tuple(fc.boolean(), pattern).map(([negated, text]) => (negated ? `!${text}` : text)),
  { minLength: 1, maxLength: 4 },
);
const lines = fc.array(
  fc.tuple(
    fc.constantFrom("", "", "", "@revoked ", "@cert-authority "),
    fc.oneof(
      patterns.map((all) => all.join(",")),
      fc
        .tuple(hosts, ports)
        .map(([host, port]) => knownHostLine(hostName(host, port), bytesOf(keys[0]!), Buffer.alloc(20, 3)).split(" ")[0]!),
    ),
    fc.constantFrom(...keys),
    fc.constantFrom("", " a comment", "\r"),
  ),
  { maxLength: 5 },
);

describe.runIf(keygen)("which lines are about a host", () => {
  it("is what ssh-keygen -F says", () => {
    const file = join(temporary(), "known_hosts");
    fc.assert(
      fc.property(lines, hosts, ports, (written, host, port) => {
        const text = ["# comment", "", ...written.map(([marker, field, key, end]) => `${marker}${field} ${key}${end}`), ""].join(
          "\n",
        );
        writeFileSync(file, text);
        const found = spawnSync("ssh-keygen", ["-F", hostName(host, port), "-f", file], { encoding: "utf8" });
        const theirs = [...found.stdout.matchAll(/^# Host .* found: line (\d+)/gm)].map((match) => `known:${match[1]!}`);
        const ours = parseKnownHosts(text, "known").filter((entry) => isAbout(entry, hostName(host, port)));
        expect(ours.map(({ at }) => at)).toEqual(theirs);
      }),
      { numRuns: 150 },
    );
  });
});

describe("a file of known hosts", () => {
  const [first, second, ecdsa, rsa] = keys as [string, string, string, string];
  const judge = (text: string, key: string, port = 22) =>
    judgeHostKey(parseKnownHosts(text, "known"), { name: "gpu-1.example.net", port }, bytesOf(key));

  it("is read line by line; what is none is passed over", () => {
    const text = [
      "# comment",
      "",
      "gpu-1",
      `gpu-1 ssh-ed25519`,
      `gpu-1 ssh-ed25519 not-base64!`,
      `gpu-1 ssh-rsa ${first.split(" ")[1]!}`,
      `@unknown gpu-1 ${first}`,
      `|1|short|hash= ${first}`,
      `|2|c2FsdA==|aGFzaA== ${first}`,
      `\t gpu-1,gpu-2\t${first.replace(" ", "\t")}  and a comment\r`,
    ].join("\n");
    expect(parseKnownHosts(text, "f")).toEqual([
      {
        at: "f:10",
        marker: null,
        hosts: { kind: "patterns", patterns: ["gpu-1", "gpu-2"] },
        type: "ssh-ed25519",
        key: bytesOf(first),
      },
    ]);
  });

  it("knows a host by name, pattern, list and hash, whatever the case of its letters", () => {
    for (const field of ["gpu-1.example.net", "*.example.net", "gpu-?.example.*", "x,GPU-1.Example.Net,y"])
      expect(judge(`${field} ${first}`, first)).toEqual({ kind: "known", at: "known:1" });
    const hashed = knownHostLine("gpu-1.example.net", bytesOf(first), Buffer.alloc(20, 9));
    expect(judge(hashed, first)).toEqual({ kind: "known", at: "known:1" });
    expect(judge(`*.example.net,!gpu-1.* ${first}`, first).kind).toBe("unknown");
    expect(judge(`!gpu-1.*,*.example.net ${first}`, first).kind).toBe("unknown");
  });

  it("keeps ports apart: a key at port 22 may vouch for another port but never against it", () => {
    expect(judge(`gpu-1.example.net ${first}`, first, 2222).kind).toBe("known");
    expect(judge(`gpu-1.example.net ${first}`, second, 2222).kind).toBe("unknown");
    expect(judge(`[gpu-1.example.net]:2222 ${first}`, second, 2222).kind).toBe("changed");
    expect(judge(`[gpu-1.example.net]:2222 ${first}`, first).kind).toBe("unknown");
  });

  it("refuses a revoked key even where another line knows it, and a certificate authority is no key of the host", () => {
    expect(judge(`gpu-1.example.net ${first}\n@revoked *.net ${first}`, first)).toEqual({ kind: "revoked", at: "known:2" });
    expect(judge(`@revoked *.net ${second}\ngpu-1.example.net ${first}`, first).kind).toBe("known");
    expect(judge(`@cert-authority *.net ${first}`, first)).toEqual({ kind: "unknown", authority: "known:1" });
  });

  it("finds every key of the host when the one it shows is none of them", () => {
    const text = `gpu-1.example.net ${first}\nother ${second}\ngpu-1.* ${ecdsa}`;
    expect(judge(text, rsa)).toMatchObject({
      kind: "changed",
      pinned: [{ at: "known:1" }, { at: "known:3", type: "ecdsa-sha2-nistp256" }],
    });
  });

  it("puts the types it knows for a host first among those to ask for, and never one with SHA-1", () => {
    const host = { name: "gpu-1", port: 22 };
    const order = (text: string): readonly string[] => hostKeyAlgorithms(parseKnownHosts(text, "f"), host);
    expect(order("")[0]).toBe("ssh-ed25519");
    expect(order(`gpu-1 ${rsa}`).slice(0, 2)).toEqual(["rsa-sha2-512", "rsa-sha2-256"]);
    expect(order(`gpu-1 ${ecdsa}`)[0]).toBe("ecdsa-sha2-nistp256");
    expect(order(`@cert-authority gpu-1 ${rsa}`)[0]).toBe("ssh-ed25519");
    expect([...order(`gpu-1 ${rsa}`)].sort()).toEqual([...order("")].sort());
    expect(order("")).not.toContain("ssh-rsa");
  });

  it("matches a long pattern of stars in no time", () => {
    const text = `${"*a".repeat(400)}b ${first}`;
    const started = performance.now();
    expect(judgeHostKey(parseKnownHosts(text, "f"), { name: "a".repeat(250), port: 22 }, bytesOf(first)).kind).toBe("unknown");
    expect(performance.now() - started).toBeLessThan(500);
  });
});
