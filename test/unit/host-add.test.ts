/** Which host keys `gpuctl host add` trusts, and that nothing is written before one is. */
import { beforeEach, expect, test } from "vitest";
import { addHost, type AddContext } from "../../cli/src/app/host-add.js";
import type { EnvironmentConfig } from "../../cli/src/domain/config/resolved.js";
import { ConfigInvalid, PreflightRefused, UsageError } from "../../cli/src/domain/errors.js";
import type { HostKeys, ShownKey, TextFiles } from "../../cli/src/ports/host-preparer.js";

const shown: readonly ShownKey[] = [
  { type: "ssh-ed25519", fingerprint: "SHA256:one", key: "AAAA" },
  { type: "ssh-rsa", fingerprint: "SHA256:two", key: "BBBB" },
];

/** What known_hosts takes, and gpuctl.yaml. */
class Notes implements HostKeys, TextFiles {
  known = false;
  readonly trusted: string[] = [];
  text = "environments:\n  production:\n    target: compose\n    nodes:\n      old: { host: a }\n";

  look = (): ReturnType<HostKeys["look"]> => Promise.resolve({ shown, known: this.known, file: "known_hosts" });
  remember = (_: unknown, { fingerprint }: ShownKey): Promise<void> => Promise.resolve(void this.trusted.push(fingerprint));
  read = (): Promise<string> => Promise.resolve(this.text);
  replace = (_path: string, _before: string, after: string): Promise<void> => {
    this.text = after;
    return Promise.resolve();
  };
}

const config = { environment: "production", projectFile: "gpuctl.yaml" } as EnvironmentConfig;
const node = { name: "gpu-1", host: "192.0.2.7" };
let notes: Notes;
let asked: string[];

const context = (answer: boolean | null): AddContext => ({
  config,
  keys: notes,
  files: notes,
  signal: new AbortController().signal,
  ask: answer === null ? null : (question) => Promise.resolve(asked.push(question) > 0 && answer),
});

beforeEach(() => {
  notes = new Notes();
  asked = [];
});

test("a person who says yes to the fingerprints trusts the best key, and the node is written", async () => {
  expect(await addHost(context(true), node, undefined)).toMatchObject({ trusted: { fingerprint: "SHA256:one" } });
  expect(asked.join()).toMatch(/SHA256:one[^]*SHA256:two[^]*ssh-keygen -lf/);
  expect(notes.trusted).toEqual(["SHA256:one"]);
  expect(notes.text).toContain("      gpu-1: { host: 192.0.2.7 }\n");
});

test("a fingerprint that is given decides which key is trusted, and nobody is asked", async () => {
  await addHost(context(false), node, "SHA256:two");
  expect(notes.trusted).toEqual(["SHA256:two"]);
  expect(asked).toEqual([]);
});

test("a host that known_hosts has is added without a word", async () => {
  notes.known = true;
  expect((await addHost(context(null), node, undefined)).trusted).toBeNull();
  expect(notes.trusted).toEqual([]);
});

test.each([
  ["nobody is there to be asked", null, undefined],
  ["the person says no", false, undefined],
  ["the host shows another key than the one that was given", true, "SHA256:three"],
])("nothing is trusted or written when %s", async (_, answer, fingerprint) => {
  const before = notes.text;
  await expect(addHost(context(answer), node, fingerprint)).rejects.toThrow(PreflightRefused);
  expect(notes.trusted).toEqual([]);
  expect(notes.text).toBe(before);
});

test.each([
  [{ name: "Gpu 1", host: "a" }, UsageError],
  [{ name: "gpu-1", host: "a b" }, UsageError],
  [{ name: "old", host: "b" }, PreflightRefused],
])("%j is refused before the host is asked for anything", async (wrong, kind) => {
  notes.look = () => Promise.reject(new Error("it was asked"));
  await expect(addHost(context(true), wrong, undefined)).rejects.toThrow(kind);
});

test("an environment that is not written out cannot take a node", async () => {
  notes.text = "environments: {}\n";
  await expect(addHost(context(true), node, undefined)).rejects.toThrow(ConfigInvalid);
});
