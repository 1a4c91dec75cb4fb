/** What stops a change of the infrastructure, and what is offered then. */
import { describe, expect, test } from "vitest";
import { inventoryFile } from "../../cli/src/app/infra-export.js";
import { infraUp } from "../../cli/src/app/infra-up.js";
import type { InfraTools } from "../../cli/src/app/infra-stack.js";
import { explain } from "../../cli/src/domain/infra/explain.js";
import type { Change, Diagnostic } from "../../cli/src/domain/infra/preview.js";
import { missingRuntimeClass } from "../../infra/lib/charts.js";
import { kubectlToFind } from "../../infra/lib/kubectl.js";
import { rememberedBox } from "../../infra/lib/one-box.js";
import { MemoryConfigFiles } from "../fakes/memory-config-files.js";

const doing = {
  stack: "prod",
  again: "gpuctl infra up --stack prod",
  directory: "/home/ann/shop",
  backend: "file:///home/ann/state",
  givenBackend: null,
  platform: "linux-amd64",
};

/** What the provider says of a command that failed: all of it, then what it printed. */
const ranFor = (command: string, printed: string) => `exit status 1: running "${command}":\n${printed}\n`;
/** The same of `prepare-host.sh --remove`, whose lines are JSON. */
const refusedRemoval = (detail: string) =>
  ranFor(
    "bash -s",
    `{"time":"2026-11-22T13:00:00Z","step":"remove","event":"start"}\n${JSON.stringify({ step: "remove", event: "end", result: "failed", detail })}`,
  );
const lookForClass = kubectlToFind(
  { context: "shop", args: ["get", "runtimeclass", "nvidia"], ownConfig: false },
  missingRuntimeClass("nvidia"),
);
const rememberBox = rememberedBox("gpu-1", { host: "203.0.113.21", port: 22, hostKey: "ssh-ed25519 BBBB" });

describe("what is no matter of the provider", () => {
  test.each([
    [
      "command:remote:Command",
      "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none publickey]",
      "the host of command gpu-1 refuses the SSH key",
      "ssh-add -l",
    ],
    [
      "command:remote:Command",
      "ssh: handshake failed: ssh: host key mismatch",
      "the host of command gpu-1 has another key than the configuration says",
      "ssh-keygen -lf",
    ],
    [
      "command:remote:Command",
      "dial tcp 203.0.113.7:22: i/o timeout",
      "203.0.113.7:22 cannot be reached for command gpu-1",
      "gpuctl:operators.addresses",
    ],
    [
      "command:remote:Command",
      "dial tcp 203.0.113.7:22: connect: connection refused",
      "203.0.113.7:22 cannot be reached for command gpu-1",
      "are host and port right?",
    ],
    [
      "command:local:Command",
      "exit status 127: /bin/sh: 1: kubectl: not found",
      "kubectl is not installed on this machine",
      "https://kubernetes.io/docs/tasks/tools/",
    ],
    [
      "command:local:Command",
      ranFor(lookForClass, `Error from server (NotFound)\n${missingRuntimeClass("nvidia")}`),
      "there is no RuntimeClass nvidia in the cluster",
      "createRuntimeClass: true",
    ],
    [
      "command:local:Command",
      ranFor(rememberBox, "gpu-1 was the box at 203.0.113.20:22, and would become another one: …"),
      "gpu-1 was the box at 203.0.113.20:22, and would become another one",
      "give the other box a node of its own",
    ],
    [
      "command:remote:Command",
      refusedRemoval(
        "releases serve here: shop-embedder-a shop-reranker-b; next: gpuctl destroy, or docker rm --force; then run this again",
      ),
      "releases serve on the box of command gpu-1: it was not given back",
      "gpuctl destroy -e ENVIRONMENT --confirm ENVIRONMENT",
    ],
    [
      "command:remote:Command",
      refusedRemoval("containers run here, and Docker does not say which; next: systemctl restart docker; then run this again"),
      "nobody knows what serves on the box of command gpu-1: it was not given back",
      "systemctl restart docker",
    ],
    [
      "command:remote:Command",
      ranFor(
        "bash -s",
        "the host has to be restarted, and releases serve on it: a, b. Next: restart it when they may be away, then pulumi up; or reboot: always",
      ),
      "the host of command gpu-1 has to be restarted, and releases serve on it",
      "reboot: always, for its node in Pulumi.prod.yaml",
    ],
    ["kubernetes:core/v1:Namespace", 'namespaces "gpu" already exists', "gpu is already in the cluster", "pulumi import"],
    [
      "kubernetes:helm.sh/v3:Release",
      "cannot re-use a name that is still in use",
      "release gpu-1 is already in the cluster",
      "helm list --all-namespaces",
    ],
    [
      "kubernetes:core/v1:Namespace",
      "dial tcp 10.0.0.1:6443: connect: connection refused",
      "the cluster's API at 10.0.0.1:6443 cannot be reached for namespace gpu-1",
      "kubectl --context",
    ],
  ])("of a host or a cluster, %s: %s", (type, text, message, step) => {
    const found = explain([{ about: { type, name: "gpu-1" }, severity: "error", message: text }], "", doing);
    expect(found.message).toBe(message);
    expect(found.nextSteps.join("\n")).toContain(step);
    expect(found.nextSteps.join("\n")).not.toContain("HCLOUD_TOKEN");
    expect(found.nextSteps.at(-1)).toBe(doing.again);
  });

  test("releases that keep a box are named, and no line of the script's log is", () => {
    const about = { type: "command:remote:Command", name: "gpu-1-removal" };
    const message = refusedRemoval("releases serve here: shop-embedder-a shop-reranker-b; next: gpuctl destroy, or docker rm");
    const found = explain([{ about, severity: "error", message }], "", doing);
    expect(found.because).toBe("shop-embedder-a shop-reranker-b would go on answering, without the box's firewall");
    expect(found.message + found.nextSteps.join("")).not.toContain("{");
  });

  test("words that only stand in the command are not taken for what it said", () => {
    for (const command of [lookForClass, rememberBox]) {
      const message = ranFor(command, "no space left on device");
      const about = { type: "command:local:Command", name: "gpu-1" };
      expect(explain([{ about, severity: "error", message }], "", doing).message).toBe("command gpu-1 could not be changed");
    }
  });

  test.each([
    ["command:remote:Command", "503 MiB are free, 20 GiB are needed", "command gpu-1 could not be changed"],
    [
      "kubernetes:helm.sh/v3:Release",
      "failed to fetch https://charts.example.net/index.yaml : 503 Service Unavailable",
      "release gpu-1 could not be changed",
    ],
    ["kubernetes:helm.sh/v3:Release", "rate limit of the registry is reached", "release gpu-1 could not be changed"],
    ["hcloud:index/server:Server", "503 MiB", "server gpu-1 could not be changed"],
  ])("nobody blames the provider for %s: %s", (type, text, message) => {
    const found = explain([{ about: { type, name: "gpu-1" }, severity: "error", message: text }], "", doing);
    expect([found.message, found.because]).toEqual([message, text]);
  });
});

describe("something protected", () => {
  const urn = "urn:pulumi:prod::shop::hcloud:index/volume:Volume::models";
  const said = (message: string): Diagnostic[] => [{ about: null, severity: "error", message }];
  const deleted = said(`resource "${urn}" cannot be deleted\nbecause it is protected. To unprotect the resource, either remove`);
  const replaced = said(
    `unable to replace resource "${urn}"\nas it is currently marked for protection. To unprotect the resource`,
  );

  test.each(["up", "preview"])("that infra %s would delete or make anew: never a destroy of the stack", (command) => {
    const own = { ...doing, again: `gpuctl infra ${command} --stack prod` };
    const [gone, anew] = [explain(deleted, "", own), explain(replaced, "", own)];
    expect([gone.message, anew.message]).toEqual([
      "models is no longer in the configuration, and is protected",
      "models would be made anew, and is protected",
    ]);
    for (const { kind, nextSteps } of [gone, anew]) {
      expect([kind, nextSteps.join("\n").includes("destroy")]).toEqual(["refused", false]);
      expect(nextSteps[1]).toContain("cd /home/ann/shop && pulumi config set gpuctl:protect false --stack prod");
    }
    expect(gone.nextSteps[0]).toBe("put models back in Pulumi.prod.yaml: it stays as it is");
    expect(gone.nextSteps.at(-1)).toBe("take it out again, then gpuctl infra up --stack prod --confirm prod");
    expect(anew.nextSteps[0]).toBe("take back what changed of models in Pulumi.prod.yaml: it stays as it is");
  });

  test("that infra destroy would delete: everything else may be", () => {
    const kept = explain(deleted, "", { ...doing, again: "gpuctl infra destroy --stack prod --confirm prod" });
    expect(kept.message).toBe("models is protected");
    expect(kept.nextSteps[0]).toContain("--keep-protected");
  });
});

test("commands of Pulumi are told the backend that only gpuctl knows of, and a secret is asked for", () => {
  const own = { ...doing, directory: "/home/ann/my shop", givenBackend: "file:///home/ann/it's" };
  const locked = "error: the stack is currently locked by 1 lock(s).\n";
  expect(explain([], locked, own).nextSteps[1]).toBe(
    `when it was killed: cd '/home/ann/my shop' && PULUMI_BACKEND_URL='file:///home/ann/it'\\''s' pulumi cancel --yes --stack prod`,
  );
  const wrong = [
    { about: null, severity: "error" as const, message: "Running program '/p' failed with an unhandled exception:\nError: no" },
  ];
  const refused = explain(wrong, "", { ...doing, givenBackend: "file:///home/ann/state" });
  expect(refused.nextSteps[1]).toBe(
    "a secret that is missing there: cd /home/ann/shop && PULUMI_BACKEND_URL=file:///home/ann/state pulumi config set --secret KEY --stack prod   # asks for the value",
  );
  const modules = explain([], "Cannot find package 'tsx'", { ...doing, givenBackend: "file:///home/ann/state" });
  expect(modules.nextSteps[0]).toBe("cd /home/ann/shop && npm ci");
});

describe("infra up", () => {
  const removal: Change = {
    op: "delete",
    type: "command:remote:Command",
    name: "gpu-1-removal",
    id: "7",
    protected: false,
    because: [],
    inputs: { delete: "bash -s" },
  };

  /** A Pulumi whose preview has these changes. */
  function pulumiWith(changes: readonly Change[]) {
    const ran: string[] = [];
    const tools = {
      hcloud: null,
      progress: { emit: () => undefined },
      pulumi: {
        project: async () => ({ ...doing, name: "shop", configured: ["prod"], embedded: true }),
        preview: async () => ({ ok: true, value: { changes, same: 3, diagnostics: [] } }),
        up: async () => {
          ran.push("up");
          return { ok: true, value: { changes: { same: 4 }, seconds: 2 } };
        },
      },
    } as unknown as InfraTools;
    return { tools, ran };
  }

  test("runs without any change of a resource: outputs may have changed, or may never have been written", async () => {
    const { tools, ran } = pulumiWith([]);
    expect(await infraUp(tools, "prod", undefined)).toMatchObject({ changes: { same: 4 } });
    expect(ran).toEqual(["up"]);
  });

  test("takes nothing away from an adopted host without the stack's name, and lists what it would", async () => {
    const { tools, ran } = pulumiWith([removal]);
    const lines = [
      "-  command gpu-1-removal (7): what gpuctl made there is taken away: account, units and firewall rules; refused while releases serve there",
    ];
    await expect(infraUp(tools, "prod", undefined)).rejects.toMatchObject({ lines });
    await expect(infraUp(tools, "prod", "staging")).rejects.toThrow("in use");
    expect(ran).toEqual([]);
    await infraUp(tools, "prod", "prod");
    expect(ran).toEqual(["up"]);
  });
});

test("infra up says how to power on a server whose new type could not be had, and where it can be had it is asked first", async () => {
  const server = { type: "hcloud:index/server:Server", name: "web" };
  const inputs = { serverType: "cx33", location: "fsn1" };
  const change = { ...server, op: "update", id: "4711", protected: false, because: ["serverType"], inputs } as const;
  const message = "error during placement (resource_unavailable, 1d1d17e504e28a4c)";
  const ran: string[] = [];
  const toolsWith = (available: boolean) =>
    ({
      hcloud: {
        serverTypes: async () => {
          const locations = [{ name: "fsn1", available, deprecated: false }];
          return [{ name: "cx33", cores: 4, memory: 8, architecture: "x86", cpu: "shared", locations }];
        },
      },
      progress: { emit: () => undefined },
      pulumi: {
        project: async () => ({ ...doing, name: "shop", configured: ["prod"], embedded: true }),
        preview: async () => ({ ok: true, value: { changes: [change], same: 3, diagnostics: [] } }),
        up: async () => {
          ran.push("up");
          return { ok: false, said: [{ about: server, severity: "error", message }], stderr: "" };
        },
      },
    }) as unknown as InfraTools;
  await expect(infraUp(toolsWith(false), "prod", "prod")).rejects.toThrow("server web cannot be had now");
  expect(ran).toEqual([]);
  const nextSteps = [expect.stringContaining("hcloud server poweron 4711"), expect.anything(), expect.anything()] as string[];
  await expect(infraUp(toolsWith(true), "prod", "prod")).rejects.toMatchObject({ nextSteps });
  expect(ran).toEqual(["up"]);
});

describe("the file that infra export writes", () => {
  const project = (inventory: string): string =>
    `version: 1\nproject: shop\nservices: { index: {} }\nenvironments:\n  prod: { target: compose, inventory: ${inventory} }\n`;
  const file = (files: Record<string, string>, environment?: string) =>
    inventoryFile({
      files: new MemoryConfigFiles(files),
      env: {},
      cwd: "/p",
      ...(environment === undefined ? {} : { environment }),
    });

  test("is that of the environment; none without a gpuctl.yaml, and for one of a stack", async () => {
    expect(await file({ "/p/gpuctl.yaml": project("file inventory.json") })).toBe("/p/inventory.json");
    expect(await file({ "/p/gpuctl.yaml": project("stack prod") })).toBeNull();
    expect(await file({})).toBeNull();
  });

  test("is not stdout in place of an error of the configuration", async () => {
    await expect(file({ "/p/gpuctl.yaml": project("inventory.json") })).rejects.toThrow("gpuctl.yaml");
    await expect(file({ "/p/gpuctl.yaml": project("file inventory.json") }, "nowhere")).rejects.toThrow("nowhere");
  });
});
