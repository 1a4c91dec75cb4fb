import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { kubectl, kubectlToFind, kubectlUnlessGone } from "../../../infra/lib/kubectl.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "gpuctl-kubectl-"));
  mkdirSync(join(folder, "temporary"));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
});

/** Runs a command as the engine's provider does, with a `kubectl` that says what it was given. */
function run(command: string, answer: string, input = "") {
  const seen =
    'echo "$*" >"$SEEN/args"; if [ -n "$KUBECONFIG" ]; then cp "$KUBECONFIG" "$SEEN/config"; stat -c %a "$KUBECONFIG" >"$SEEN/mode"; fi';
  writeFileSync(join(folder, "kubectl"), `#!/bin/sh\n${seen}\n${answer}\n`, { mode: 0o755 });
  const env = { PATH: `${folder}:${process.env["PATH"] ?? ""}`, TMPDIR: join(folder, "temporary"), SEEN: folder };
  const { status, stderr } = spawnSync("/bin/sh", ["-c", command], { input, env, encoding: "utf8" });
  return { status, stderr };
}

const read = (name: string) => readFileSync(join(folder, name), "utf8");
const taint = (ownConfig: boolean) => ({ context: "a b", args: ["taint", "node", "n-1", "k:NoSchedule-"], ownConfig });
const gone = ['nodes "n-1" not found', 'taint "k:NoSchedule" not found'];

test.each(["exit 0", "exit 1"])(
  "a stack's own kubeconfig is in a file of its owner, and gone when kubectl ends by `%s`",
  (answer) => {
    run(kubectl(taint(true)), answer, "apiVersion: v1\n");
    expect(read("args")).toBe("--context a b taint node n-1 k:NoSchedule-\n");
    expect(read("config")).toBe("apiVersion: v1\n");
    expect(read("mode")).toBe("600\n");
    expect(readdirSync(join(folder, "temporary"))).toEqual([]);
  },
);

test("without one, kubectl looks where it always does", () => {
  expect(run(kubectl(taint(false)), "exit 0").status).toBe(0);
  expect(readdirSync(folder).sort()).toEqual(["args", "kubectl", "temporary"]);
});

test.each([false, true])("what is gone already is no error, everything else is (own kubeconfig: %s)", (ownConfig) => {
  const command = kubectlUnlessGone(taint(ownConfig), gone);
  expect(run(command, "exit 0").status).toBe(0);
  for (const said of ['Error from server (NotFound): nodes "n-1" not found', 'error: taint "k:NoSchedule" not found'])
    expect(run(command, `echo '${said}' >&2; exit 1`).status, said).toBe(0);
  for (const said of ["Unable to connect to the server", 'error: context "a b" does not exist', 'nodes "n-2" not found'])
    expect(run(command, `echo '${said}' >&2; exit 1`), said).toEqual({ status: 1, stderr: `${said}\n` });
  expect(readdirSync(join(folder, "temporary"))).toEqual([]);
});

test.each([false, true])(
  "what has to be there ends in words where it is not, and only there (own kubeconfig: %s)",
  (ownConfig) => {
    const command = kubectlToFind({ context: "a b", args: ["get", "runtimeclass", "n"], ownConfig }, "it's missing");
    expect(run(command, "echo n; exit 0")).toEqual({ status: 0, stderr: "" });
    expect(read("args")).toBe("--context a b get runtimeclass n\n");
    const absent = 'Error from server (NotFound): runtimeclasses.node.k8s.io "n" not found';
    expect(run(command, `echo '${absent}' >&2; exit 1`)).toEqual({ status: 1, stderr: `${absent}\nit's missing\n` });
    const unreachable = "Unable to connect to the server";
    expect(run(command, `echo '${unreachable}' >&2; exit 1`)).toEqual({ status: 1, stderr: `${unreachable}\n` });
    expect(readdirSync(join(folder, "temporary"))).toEqual([]);
  },
);
