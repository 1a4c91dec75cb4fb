/** The built CLI, a stand-in for `pulumi` that plays recordings of the real one, and the fake provider. */
import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { startFakeHcloud, type FakeHcloud } from "../support/fake-hcloud/index.js";
import { InfraSandbox, type Answer } from "../support/stand-in-pulumi/infra-sandbox.js";

const sandboxes: InfraSandbox[] = [];
const providers: FakeHcloud[] = [];
afterEach(async () => {
  for (const sandbox of sandboxes.splice(0)) sandbox.remove();
  await Promise.all(providers.splice(0).map((provider) => provider.close()));
});

function sandbox(answers: readonly Answer[], ...settings: ConstructorParameters<typeof InfraSandbox>): InfraSandbox {
  const made = new InfraSandbox(...settings);
  made.answers(answers);
  sandboxes.push(made);
  return made;
}

async function provider(options: Parameters<typeof startFakeHcloud>[0] = {}) {
  const made = await startFakeHcloud(options);
  providers.push(made);
  return { hcloud: made, env: { HCLOUD_ENDPOINT: made.endpoint, HCLOUD_TOKEN: made.token } };
}

const preview: Answer = { begins: "preview --stack prod", file: "preview.json" };
const up: Answer = { begins: "up --stack prod", file: "up.jsonl" };
const state: Answer = { begins: "stack export --stack prod", file: "state.json" };

describe("preview and up", () => {
  test("by default state is kept in files of this machine, and a new stack gets a passphrase", async () => {
    const box = sandbox(
      [
        { ...preview, stderr: "error: no stack named 'prod' found\n", file: "", code: 255 },
        preview,
        { begins: "stack init prod" },
      ].map(({ file, ...rest }) => (file === "" || file === undefined ? rest : { ...rest, file })),
    );
    const { code, stdout, stderr } = await box.run(["infra", "preview"]);
    expect([code, stderr.includes("the stack prod is new")]).toEqual([0, true]);
    expect(stdout).toContain(`Stack prod, state in file://${box.directory}/state/gpuctl/infra: 3 to make.`);
    expect(stdout).toContain("+  server web");
    expect(box.calls().map(({ args }) => args.slice(0, 3).join(" "))).toEqual([
      "preview --stack prod",
      "stack init prod",
      "preview --stack prod",
    ]);
    expect(box.calls()[1]).toMatchObject({
      cwd: box.directory,
      env: { PULUMI_BACKEND_URL: `file://${box.directory}/state/gpuctl/infra` },
    });
    expect(box.calls()[1]?.args).toContain("passphrase");
    expect(statSync(join(box.directory, "state/gpuctl/infra")).mode & 0o777).toBe(0o700);
  });

  test("a backend of the user's own is left alone, and one of gpuctl.yaml is given", async () => {
    const own = sandbox([preview]);
    await own.run(["infra", "preview"], { PULUMI_BACKEND_URL: "s3://bucket" });
    expect(own.calls()[0]?.env["PULUMI_BACKEND_URL"]).toBe("s3://bucket");
    const set = sandbox([preview], undefined, "infra: { backend: gs://states }\n");
    expect((await set.run(["infra", "preview"])).stdout).toContain("state in gs://states");
    expect(set.calls()[0]?.env["PULUMI_BACKEND_URL"]).toBe("gs://states");
    const login = sandbox([preview]);
    mkdirSync(join(login.directory, ".pulumi"));
    writeFileSync(join(login.directory, ".pulumi/credentials.json"), JSON.stringify({ current: "https://u:p@pulumi.example" }));
    expect((await login.run(["infra", "preview"])).stdout).toContain("state in https://pulumi.example");
    expect(login.calls()[0]?.env["PULUMI_BACKEND_URL"]).toBeUndefined();
  });

  test("--exit-code says with 7 that something is to do; the document has every change", async () => {
    const box = sandbox([preview]);
    const { code, document } = await box.json(["infra", "preview", "--exit-code"]);
    expect(code).toBe(7);
    expect(document.result).toMatchObject({
      stack: "prod",
      asked: false,
      changes: [{ op: "create" }, { op: "create" }, { op: "create", name: "web" }],
    });
  });

  test("up asks the provider first, tells its progress on stderr, and gives the token by the environment alone", async () => {
    const box = sandbox([preview, up]);
    const { hcloud, env } = await provider();
    const { code, stdout, stderr } = await box.run(["infra", "up"], env);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^Stack prod: 4 create, in \d+ s\. State in file:/) as string]);
    expect(stderr).toContain("creating server web");
    expect(stderr).toContain("a word of the program");
    expect(stderr).not.toMatch(/debug|RegisterResource|\$PATH/);
    expect(hcloud.requests.map(({ path }) => path)).toEqual(["/server_types"]);
    for (const { args } of box.calls()) expect(args.join(" ")).not.toContain(hcloud.token);
    expect(box.calls().at(-1)?.env["HCLOUD_TOKEN"]).toBe(hcloud.token);
  });

  test("a server that the provider cannot place is refused before anything is made, with what can be had", async () => {
    const box = sandbox([preview, up]);
    const { hcloud, env } = await provider();
    for (const type of hcloud.catalogue.serverTypes) if (type.name === "cx23") type.locations[0]!.available = false;
    const { code, stderr } = await box.run(["infra", "up"], env);
    expect(code).toBe(1);
    expect(stderr).toContain("server web cannot be had now");
    expect(stderr).toContain("cx23 in nbg1, or cx23 in hel1, or cx23 in ash, or cx33 in fsn1");
    expect(box.calls().map(({ args }) => args[0])).toEqual(["preview"]);
    const shown = await box.run(["infra", "preview"], env);
    expect(shown.stdout).toContain("server web: cx23 is not available in fsn1 at the moment; instead: cx23 in nbg1");
  });

  test("a placement that fails after all is explained, with the command that goes on", async () => {
    const box = sandbox([preview, { ...up, file: "up-unavailable.jsonl", code: 255 }]);
    const { code, document } = await box.json(["infra", "up"]);
    expect(code).toBe(1);
    expect(document.error).toMatchObject({ message: "server web cannot be had in this location now" });
    expect(document.error?.nextSteps?.at(-1)).toBe("gpuctl infra up --stack prod");
  });

  test("what holds data is replaced only with the stack's name", async () => {
    const box = sandbox([]);
    const file = box.changed("preview-replace.json", (text) =>
      text.replaceAll("hcloud:index/network:Network", "hcloud:index/volume:Volume"),
    );
    box.answers([{ ...preview, file }, up, { ...preview, file }]);
    const refused = await box.run(["infra", "up"]);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain("-+ volume net (1002), made anew because of ipRange");
    expect(refused.stderr).toContain("gpuctl infra up --stack prod --confirm prod");
    expect((await box.run(["infra", "up", "--confirm", "prod"])).code).toBe(0);
  });

  test("interrupted, Pulumi may end what runs and write its state before anybody is killed", async () => {
    const box = sandbox([preview, { ...up, waits: true }]);
    const { child, ended } = box.start(["infra", "up"]);
    await expect.poll(() => box.calls().map(({ args }) => args[0]), { timeout: 20_000 }).toContain("up");
    child.kill("SIGINT");
    const { code, stderr } = await ended;
    expect(code).toBe(130);
    expect(stderr).toContain("stopped by SIGINT; the change of the stack prod is not finished");
    expect(stderr).toContain("gpuctl infra up --stack prod");
    expect(box.calls().at(-1)?.args).toEqual(["state written"]);
  });
});

describe("refusals", () => {
  const refusal = async (answer: Partial<Answer>, ...args: string[]) => {
    const box = sandbox([{ ...preview, code: 255, ...answer }]);
    const { code, document } = await box.json(args.length > 0 ? args : ["infra", "preview"]);
    return { code, error: document.error, box };
  };

  test("without pulumi: how to install it, with and without the internet", async () => {
    const box = sandbox([]);
    const { code, document } = await box.json(["infra", "preview"], { PATH: "/nowhere" });
    expect([code, document.error?.message]).toEqual([5, "the pulumi program is not installed"]);
    expect(document.error?.nextSteps?.[1]).toContain("without internet");
  });

  test("without a plugin: the exact command", async () => {
    const { code, error } = await refusal({ file: "preview-plugin.json" });
    expect([code, error?.message]).toEqual([5, "Pulumi's plugin hcloud 1.41.0 is not installed"]);
    expect(error?.nextSteps?.[0]).toBe("pulumi plugin install resource hcloud v1.41.0");
  });

  test("of the program: readable, as configuration", async () => {
    const { code, error } = await refusal({ file: "preview-refused.json" });
    expect(code).toBe(3);
    expect(error?.message).toContain("nodes[0].type: gx11 is no type");
  });

  test("without a passphrase", async () => {
    const stderr =
      "error: getting stack configuration: get stack secrets manager: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables\n";
    const { code, error } = await refusal({ stderr, file: "stacks.json" });
    expect([code, error?.message]).toEqual([5, "the passphrase of the stack prod is not given"]);
  });

  test("a mistyped stack makes nothing", async () => {
    const { code, error, box } = await refusal({}, "infra", "up", "--stack", "prdo");
    expect([code, error?.message]).toEqual([2, "there is no configuration for a stack prdo; did you mean prod?"]);
    expect(box.calls()).toEqual([]);
  });
});

describe("destroy", () => {
  test("lists what is lost, and deletes only with the stack's name", async () => {
    const box = sandbox([state, { begins: "destroy --stack prod --preview-only", file: "destroy-preview.json" }]);
    const listed = await box.run(["infra", "destroy"]);
    expect(listed.code).toBe(2);
    expect(listed.stderr).toContain("gpuctl infra destroy would delete what the stack prod has made: 2 things in use");
    expect(listed.stderr).toContain("-  server web (1003): what is on it is lost");
    expect(listed.stderr).toContain("and 1 other record\n");
    expect(listed.stderr).toContain("a server that is only switched off is still billed");
    expect((await box.run(["infra", "destroy", "--confirm", "other"])).stderr).toContain("--confirm named other");
    box.answers([
      state,
      { begins: "destroy --stack prod --preview-only", file: "destroy-preview.json" },
      { begins: "destroy --stack prod --yes", file: "destroy.jsonl" },
    ]);
    const { code, stdout } = await box.run(["infra", "destroy", "--confirm", "prod"]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^Stack prod: 3 deleted, in \d+ s\.\n$/) as string]);
  });

  test("refuses before anything is deleted when something is protected, and can keep it", async () => {
    const guarded: Answer = { ...state, file: "state-protected.json" };
    const box = sandbox([guarded]);
    const { code, stderr } = await box.run(["infra", "destroy", "--confirm", "prod"]);
    expect([code, stderr.includes("volume models is protected")]).toEqual([5, true]);
    expect(stderr).toContain(
      `cd ${box.directory} && PULUMI_BACKEND_URL=file://${box.directory}/state/gpuctl/infra pulumi config set gpuctl:protect false --stack prod`,
    );
    expect(box.calls().map(({ args }) => args[0])).toEqual(["stack"]);
    box.answers([
      guarded,
      { begins: "destroy --stack prod --preview-only", file: "destroy-preview-kept.json" },
      { begins: "destroy --stack prod --yes", file: "destroy.jsonl" },
    ]);
    const kept = await box.run(["infra", "destroy", "--confirm", "prod", "--keep-protected"]);
    expect(kept.stdout).toContain("Stack prod: 2 deleted");
    expect(kept.stdout).toContain("Kept, and still billed: volume models.");
    for (const { args } of box.calls().slice(1)) expect(args).toContain("--exclude-protected");
  });
});

describe("from infra to deploy", () => {
  test("an environment has its nodes from the stack, and outputs hide secrets", async () => {
    const box = sandbox([state]);
    const view = await box.run(["config", "view", "--origin"]);
    expect(view.stdout).toMatch(/nodes\.web\.host +203\.0\.113\.7 +inventory: stack prod/);
    expect((await box.json(["infra", "outputs"])).document.result).toMatchObject({ joinToken: "[secret]" });
    expect(box.calls().every(({ args }) => !args.includes("--show-secrets"))).toBe(true);
    box.answers([{ begins: "stack output --json --show-secrets", file: "outputs.json" }]);
    expect((await box.json(["infra", "outputs", "--show-secrets"])).document.result).toMatchObject({ joinToken: "abc" });
  });

  test("an exported inventory is written whole, read without Pulumi, and refused when the stack has changed since", async () => {
    const box = sandbox([state], "{ target: compose, inventory: file inventory.json }");
    const missing = await box.json(["config", "view"]);
    expect([missing.code, missing.document.error?.nextSteps]).toEqual([
      3,
      ["gpuctl infra export --environment prod --stack STACK"],
    ]);
    const exported = await box.run(["infra", "export", "--stack", "prod"]);
    expect(exported.stdout).toContain("inventory.json: the inventory of the stack prod, 1 node (web).");
    expect(statSync(join(box.directory, "inventory.json")).mode & 0o777).toBe(0o644);
    expect((await box.run(["config", "view"], { PATH: "/nowhere" })).stdout).toContain("203.0.113.7");
    const stacks = join(box.directory, "state/gpuctl/infra/.pulumi/stacks/shop");
    mkdirSync(stacks, { recursive: true });
    writeFileSync(join(stacks, "prod.json"), "{}");
    expect((await box.run(["config", "view"])).code).toBe(0);
    box.answers([{ ...state, file: box.changed("state.json", (text) => text.replaceAll("203.0.113.7", "203.0.113.8")) }]);
    const stale = await box.json(["config", "view"]);
    expect(stale.document.error?.message).toBe("the inventory inventory.json is not what the stack prod has now");
    const elsewhere = await box.json(["infra", "export", "--stack", "prod", "--output", "no/such/folder.json"]);
    expect([elsewhere.code, existsSync(join(box.directory, "no"))]).toEqual([1, false]);
  });
});

describe("gc and cost", () => {
  const labels = (stack: string): Record<string, string> => ({
    "managed-by": "gpuctl",
    "gpuctl-project": "shop",
    "gpuctl-stack": stack,
    "gpuctl-node": "web",
  });
  const stacks: Answer = { begins: "stack ls --project shop", file: "stacks.json" };
  const old = { created: "2026-01-01T00:00:00+00:00" };
  const location = { name: "fsn1" };

  test("what no stack knows is listed with its cost, and deleted when confirmed; the rest stays", async () => {
    const box = sandbox([]);
    const { hcloud, env } = await provider();
    const cx = { server_type: { name: "cx23" }, location, private_net: [], status: "running", protection: { delete: false } };
    const known = hcloud.world.add("servers", { name: "shop-prod-web", labels: labels("prod"), ...cx, ...old });
    hcloud.world.add("servers", { name: "left", labels: labels("prod"), ...cx, ...old });
    hcloud.world.add("servers", { name: "young", labels: labels("prod"), ...cx });
    hcloud.world.add("servers", { name: "theirs", labels: labels("staging"), ...cx, ...old });
    hcloud.world.add("volumes", {
      name: "kept",
      labels: labels("prod"),
      size: 40,
      location,
      server: null,
      protection: { delete: true },
      ...old,
    });
    hcloud.world.add("networks", { name: "strange", labels: {}, ...old });
    const file = box.changed("state.json", (text) => text.replaceAll('"id": "1003"', `"id": "${known.id}"`));
    const answers = [stacks, { ...state, file }];
    box.answers(answers);
    const listed = await box.run(["infra", "gc"], env);
    expect(listed.stdout).toMatch(/server left +\d+ +prod +6\.00 +left behind/);
    expect(listed.stdout).toMatch(/server theirs +\d+ +staging +6\.00 +its stack is not in this backend/);
    expect(listed.stdout).toContain("Left behind: 1, 6.00 EUR a month, net, by the prices of ");
    expect(listed.stdout).not.toMatch(/strange|shop-prod-web/);
    expect(hcloud.requests.every(({ method }) => method === "GET")).toBe(true);
    expect((await box.run(["infra", "gc", "--confirm", "blog"], env)).code).toBe(2);
    box.answers(answers);
    const deleted = await box.json(["infra", "gc", "--confirm", "shop"], env);
    expect(deleted.document.result).toMatchObject({ monthly: 0 });
    expect(hcloud.world.list("servers").map(({ name }) => name)).toEqual(["shop-prod-web", "young", "theirs"]);
    expect(hcloud.world.list("volumes")).toHaveLength(1);
  });

  test("gc asks nothing without a token, and deletes nothing while a stack does not answer", async () => {
    const box = sandbox([stacks, { ...state, code: 255, stderr: "error: read checkpoint: broken\n" }]);
    expect((await box.json(["infra", "gc"])).document.error?.message).toBe("there is no token for Hetzner Cloud");
    const { hcloud, env } = await provider();
    expect((await box.run(["infra", "gc", "--confirm", "shop"], env)).code).toBe(1);
    expect(hcloud.requests).toEqual([]);
  });

  test("cost reads prices and things of the environment's stack, with a token from a file", async () => {
    const box = sandbox([state]);
    const { hcloud, env } = await provider();
    hcloud.world.add("servers", {
      name: "shop-prod-web",
      labels: labels("prod"),
      server_type: { name: "ccx33" },
      location,
      status: "off",
      ...old,
    });
    hcloud.world.add("servers", { name: "other", labels: labels("staging"), server_type: { name: "ccx33" }, location, ...old });
    writeFileSync(join(box.directory, "token"), `${hcloud.token}\n`, { mode: 0o600 });
    const { code, stdout, stderr } = await box.run(["cost"], {
      HCLOUD_ENDPOINT: env.HCLOUD_ENDPOINT,
      HCLOUD_TOKEN_FILE: "token",
    });
    expect([code, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/server shop-prod-web +0\.2000 +120\.00 +Hetzner Cloud API; off, and billed all the same/);
    expect(stdout).toMatch(/total +0\.2000 +120\.00/);
    expect(stdout).toMatch(/Prices of Hetzner Cloud as read on \d{4}-\d\d-\d\dT/);
    expect(stdout).not.toContain("other");
  });
});
