/** What a person does with two hosts that serve: a look at what would be run, commands in containers, logs over restarts, health. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { pinned, Stack } from "../support/bed/stack.js";
import type { RehearsedStep } from "../../cli/src/domain/rehearsal.js";
import type { LogLine } from "../../cli/src/ports.js";
import { until } from "../support/until.js";

let bed: Bed;
let stack: Stack;
const images = { services: "", proxy: "" };
const hosts = ["one", "two"];
const patience = 240_000;
const embedder = (options = ""): string => `embedder: { model: all-MiniLM-L6-v2, device: cpu, port: 18101${options} }`;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start(hosts.map((name) => ({ name })));
  images.services = await pinned(bed, bed.host("one"), services);
  images.proxy = await pinned(bed, bed.host("one"), caddy);
  stack = await Stack.create(bed, { hosts, services: [embedder()], images });
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

/** Everything of a host that a deploy could change. */
async function stateOf(name: string): Promise<string> {
  const script = `docker ps --all --no-trunc --format '{{.ID}} {{.Names}} {{.Label "dev.gpuctl.instance"}}'; docker images --quiet --no-trunc
docker volume ls; docker network ls; cd /var/lib/gpuctl 2>/dev/null || exit 0
find . ! -path '*/leases*' -printf '%p %m %u %s %T@\\n' | sort; find . -type f ! -path '*/leases*' -exec sha256sum {} + | sort`;
  return bed.host(name).must(["sh", "-c", script]);
}

const states = async (): Promise<readonly string[]> => Promise.all(hosts.map(stateOf));

async function dryRun(args: readonly string[]): Promise<readonly RehearsedStep[]> {
  const before = await states();
  const { steps } = await stack.result<{ steps: RehearsedStep[] }>([...args, "-e", "prod", "--dry-run"]);
  expect(await states()).toEqual(before);
  return steps;
}

const commandsOn = (steps: readonly RehearsedStep[], node: string): readonly string[] =>
  steps.flatMap((step) => (step.kind === "command" && step.node === node ? [step.argv.join(" ")] : []));

test("a dry run of a first deploy, of an upgrade and of a rollback names every command and changes nothing", async () => {
  const first = await dryRun(["deploy"]);
  for (const node of hosts) {
    const commands = commandsOn(first, node);
    expect(commands.filter((line) => line.startsWith("docker pull"))).toEqual([
      `docker pull ${images.services}`,
      `docker pull ${images.proxy}`,
    ]);
    expect(commands.filter((line) => line.startsWith("docker volume create"))).toHaveLength(1);
    expect(commands.some((line) => line.includes("compose.yaml") && line.includes(" up "))).toBe(true);
    expect(commands.some((line) => / create .*embedder-a/.test(line))).toBe(true);
    expect(first.some((step) => step.kind === "send" && step.node === node && step.path.endsWith("tokenizer.json"))).toBe(true);
  }
  const text = await stack.run(["deploy", "-e", "prod", "--dry-run"]);
  expect(text.code, text.stderr).toBe(0);
  expect(text.stdout).toMatch(/What would be run[^]*04 stage-code[^]*one {2}docker pull[^]*Nothing was changed/);

  const deployed = await stack.run(["deploy", "-e", "prod"]);
  expect(deployed.code, deployed.stderr).toBe(0);
  stack.write({ services: [embedder(", options: { cacheEntries: 11 }")] });
  const upgrade = await dryRun(["deploy"]);
  expect(commandsOn(upgrade, "one").filter((line) => /docker (?:pull|volume)/.test(line))).toEqual([]);
  expect(commandsOn(upgrade, "two").some((line) => / create .*embedder-b/.test(line))).toBe(true);
  const upgraded = await stack.run(["deploy", "-e", "prod"]);
  expect(upgraded.code, upgraded.stderr).toBe(0);
  const back = await dryRun(["rollback"]);
  expect(commandsOn(back, "one").some((line) => line.includes("embedder-b") || line.includes(" open"))).toBe(true);
}, 900_000);

test("a command runs in the containers of all hosts, ends as it ends, and Ctrl-C ends it there", async () => {
  const both = await stack.run(["exec", "embedder", "-e", "prod", "--", "sh", "-c", "echo $GPUCTL_PORT; exit 7"]);
  expect(both).toMatchObject({ code: 7 });
  expect(both.stdout.trim().split("\n").sort()).toEqual(["one 8001", "two 8001"]);
  const one = await stack.run(["exec", "embedder", "-e", "prod", "--hosts", "two", "--", "hostname"]);
  expect(one).toMatchObject({ code: 0 });
  expect(one.stdout).toMatch(/^\S+\n$/);
  const endless = stack.start(["exec", "embedder", "-e", "prod", "--", "sh", "-c", "echo begun >&2; sleep 8642"]);
  await endless.saysOnStderr(/one begun[^]*two begun|two begun[^]*one begun/, patience);
  const sleeping = async (name: string): Promise<string> => (await bed.host(name).exec(["pgrep", "-f", "sleep 8642"])).stdout;
  endless.child.kill("SIGINT");
  expect((await endless.ended).code).toBe(130);
  for (const name of hosts) await until(async () => (await sleeping(name)) === "", `the command on ${name} ended`, patience);
}, 600_000);

test("logs name their node and go on over restarts of the container and of Docker, no line lost and none twice", async () => {
  const following = stack.start(["logs", "-e", "prod", "-f", "-n", "0", "--json"]);
  const reading = stack.start(["logs", "-e", "prod", "-f", "-n", "0"]);
  let [said, read] = ["", ""];
  following.child.stdout?.on("data", (text: string) => (said += text));
  reading.child.stdout?.on("data", (text: string) => (read += text));
  const lines = (): readonly LogLine[] =>
    said
      .split("\n")
      .slice(0, -1)
      .map((line) => JSON.parse(line) as LogLine);
  const seen = (node: string, event: string): number =>
    lines().filter((line) => line.node === node && line.text.includes(`"event":"${event}"`)).length;
  const restart = [
    "sh",
    "-c",
    "docker restart -t 30 $(docker ps -q --filter label=dev.gpuctl.service=embedder --filter status=running)",
  ];
  await bed.host("one").must(restart, { timeoutMs: patience });
  await until(() => lines().some(({ node }) => node === "one"), "the restart is told", patience);
  await bed.host("two").restartDocker();
  await bed.host("one").must(restart, { timeoutMs: patience });
  await until(
    () => seen("two", "engine_loaded") + lines().filter(({ node }) => node === "two").length > 3,
    "two is told",
    patience,
  );
  const answered = async (): Promise<boolean> =>
    (
      await Promise.all(
        hosts.map((name) =>
          fetch(`http://${bed.host(name).address}:18101/health`).then(
            (answer) => answer.ok,
            () => false,
          ),
        ),
      )
    ).every(Boolean);
  await until(answered, "both serve again", patience);
  const whole = await stack.result<{ lines: LogLine[] }>(["logs", "-e", "prod", "-n", "5000"]);
  const of = (all: readonly LogLine[], { node, instance }: LogLine): readonly string[] =>
    all.filter((line) => line.node === node && line.instance === instance).map(({ text }) => text);
  expect(new Set(whole.lines.map(({ node }) => node)).size).toBe(2);
  for (const line of whole.lines) {
    const expected = of(whole.lines, line);
    await until(() => of(lines(), line).includes(expected.at(-1) ?? ""), `${line.instance} caught up`, patience);
    const got = of(lines(), line);
    expect([...got].sort()).toEqual(expected.slice(-got.length).sort());
  }
  // For a person: the same lines, each with its host and its instance before it, while both hosts are followed.
  const asText = ({ node, instance, text }: LogLine): string => `${node ?? "?"} ${instance} ${text}`;
  for (const name of hosts) {
    const last = lines().findLast(({ node }) => node === name);
    if (last === undefined) throw new Error(`nothing was said by ${name}`);
    await until(() => read.includes(`${asText(last)}\n`), `${name} is read`, patience);
  }
  const told = new Set([...whole.lines, ...lines()].map(asText));
  for (const line of read.split("\n").slice(0, -1)) expect(told).toContain(line);
  for (const each of [following, reading]) {
    each.child.kill("SIGINT");
    expect((await each.ended).code).toBe(0);
  }
}, 600_000);
