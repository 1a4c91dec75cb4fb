/** What `gpuctl host add --stack` writes into a stack's configuration, and that nothing is written before a key is confirmed. */
import { beforeEach, expect, test } from "vitest";
import { addToStack } from "../../cli/src/app/host-add-to-stack.js";
import { Failed, PreflightRefused, UsageError } from "../../cli/src/domain/errors.js";
import type { ShownKey } from "../../cli/src/ports/host-preparer.js";
import type { Pulumi, PulumiOutcome } from "../../cli/src/ports/infra.js";

const ed25519: ShownKey = { type: "ssh-ed25519", fingerprint: "SHA256:one", key: "AAAA" };
const rsa: ShownKey = { type: "ssh-rsa", fingerprint: "SHA256:two", key: "BBBB" };
const node = { name: "gpu-1", host: "192.0.2.7" };

let written: Record<string, string>[];
let made: string[];
let isNew: boolean;

/** A Pulumi whose stack may not exist yet. */
const pulumi = {
  project: () => Promise.resolve({ directory: "/p", configured: ["prod"], backend: "file:///s" }),
  create: (stack: string): Promise<PulumiOutcome<null>> => {
    isNew = false;
    made.push(stack);
    return Promise.resolve({ ok: true, value: null });
  },
  configure: (_stack: string, values: Record<string, string>): Promise<PulumiOutcome<null>> => {
    if (isNew) return Promise.resolve({ ok: false, said: [], stderr: "error: no stack named 'prod' found" });
    written.push(values);
    return Promise.resolve({ ok: true, value: null });
  },
} as unknown as Pulumi;

const add = (
  answer: boolean | null,
  {
    shown = [rsa, ed25519],
    fingerprint,
    stack = "prod",
    more = {},
  }: {
    shown?: readonly ShownKey[];
    fingerprint?: string;
    stack?: string;
    more?: object;
  } = {},
) => {
  const keys = { look: () => Promise.resolve({ shown, known: true, file: "known_hosts" }) };
  const ask = answer === null ? null : () => Promise.resolve(answer);
  return addToStack({ keys, pulumi, ask, signal: new AbortController().signal }, { ...node, ...more }, stack, fingerprint);
};

beforeEach(() => {
  [written, made, isNew] = [[], [], false];
});

test("a key that was confirmed is pinned with its node, and never one that Pulumi's connections cannot ask for", async () => {
  expect((await add(true, { more: { port: 2222 } })).trusted).toEqual({ type: "ssh-ed25519", fingerprint: "SHA256:one" });
  expect(written).toEqual([
    {
      "gpuctl:nodes.gpu-1.kind": "adopted",
      "gpuctl:nodes.gpu-1.host": "192.0.2.7",
      "gpuctl:nodes.gpu-1.hostKey": "ssh-ed25519 AAAA",
      "gpuctl:nodes.gpu-1.port": "2222",
    },
  ]);
  await expect(add(true, { shown: [rsa] })).rejects.toThrow(Failed);
});

test("a stack that nobody has made yet is made first", async () => {
  isNew = true;
  await add(null, { fingerprint: "SHA256:one" });
  expect([made, written.length]).toEqual([["prod"], 1]);
});

test.each([
  ["known_hosts has it, and nobody is there to be asked", null, {}, PreflightRefused],
  ["the person says no", false, {}, PreflightRefused],
  ["the host shows another key than the one that was given", true, { fingerprint: "SHA256:three" }, PreflightRefused],
  ["the stack has no configuration", true, { stack: "prdo" }, UsageError],
  ["a file of a key is named, which a stack cannot have", true, { more: { identityFile: "~/.ssh/id" } }, UsageError],
  ["the name is none", true, { more: { name: "Gpu 1" } }, UsageError],
])("nothing is written when %s", async (_, answer, given, kind) => {
  await expect(add(answer, given)).rejects.toThrow(kind);
  expect(written).toEqual([]);
});
