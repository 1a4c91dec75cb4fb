/** What stands before and behind the services of hosts: encryption, the allow-list, the ingress, keys, and the CPU fallback. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage, stubGpuImage } from "../support/bed/images.js";
import { pinned, Stack, SteadyClient } from "../support/bed/stack.js";
import { until } from "../support/until.js";

const [port, ingressPort, patience] = [18101, 18443, 900_000];
const project = "gpuctl_shop_prod";
const keys = { first: "first-key-7f3a9b2c51d0", second: "second-key-e81c4d6a90b7" };
let bed: Bed;
let stack: Stack;
const images = { services: "", gpu: "", proxy: "" };
const card = "GPU-5d3c1ab0-6f0e-4c55-9d0a-1f2f3a4b5c6d";
const embedder = (options = ""): string =>
  `embedder: { model: all-MiniLM-L6-v2, port: ${port}, device: { prefer: cpu }, fallback: cpu, secrets: { API_KEYS: { command: "head -n 1 keys" } }${options} }`;

beforeAll(async () => {
  const [services, gpu, caddy] = [await serviceImage(), await stubGpuImage(), await caddyImage()];
  bed = await Bed.start([{ name: "one" }, { name: "two", gpus: [{ uuid: card, totalMiB: 3584 }] }]);
  images.services = await pinned(bed, bed.host("one"), services);
  images.gpu = await pinned(bed, bed.host("one"), gpu);
  images.proxy = await pinned(bed, bed.host("one"), caddy);
  const extra = [
    "tls: { mode: files, certificate: tls.crt, key: tls.key }",
    `allow: ["${ownAddress()}"]`,
    `ingress: { node: one, port: ${ingressPort} }`,
  ];
  stack = await Stack.create(bed, { hosts: ["one", "two"], services: [embedder()], images, extra });
  writeKeys(keys.first);
  writeCertificate("1001");
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await bed.stop();
});

/** This machine's address in the bed's network: what hosts see of it. */
function ownAddress(): string {
  const network = bed.host("one").address.replace(/\d+$/, "");
  const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return own.find(({ address }) => address.startsWith(network))?.address ?? "";
}

const writeKeys = (key: string): void => {
  writeFileSync(join(stack.sandbox.directory, "keys"), `${key}\nnot this line\n`, { mode: 0o600 });
};

const certificate = (): string => readFileSync(join(stack.sandbox.directory, "tls.crt"), "utf8");

/** Signed by itself, for the ingress. @param serial  by which it is known again */
function writeCertificate(serial: string): void {
  const names = ["-subj", "/CN=ingress", "-addext", `subjectAltName=IP:${bed.host("one").address}`, "-set_serial", serial];
  const kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "90"];
  execFileSync("openssl", [...kind, ...names, "-keyout", "tls.key", "-out", "tls.crt"], {
    cwd: stack.sandbox.directory,
    stdio: "ignore",
  });
}

const body = JSON.stringify({ inputs: "a steady text" });
const headersWith = (key: string): Record<string, string> => ({
  "content-type": "application/json",
  ...(key === "" ? {} : { authorization: `Bearer ${key}` }),
});

/** Past the ingress, at one node. */
const ask = (host: string, key: string): Promise<Response> =>
  fetch(`http://${bed.host(host).address}:${port}/embed`, {
    method: "POST",
    headers: headersWith(key),
    body,
    signal: AbortSignal.timeout(20_000),
  });

/** At the ingress, whose certificate must be one of these. Each request has a connection of its own. */
function secureClient(key: string, trusted = [certificate()]): () => Promise<Response> {
  const ca = [...trusted];
  const agent = new Agent({ keepAlive: false });
  const options = { host: bed.host("one").address, port: ingressPort, path: "/embed", method: "POST", headers: headersWith(key) };
  return () =>
    new Promise((resolve, reject) => {
      const asked = request({ ...options, agent, ca, timeout: 20_000 }, (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("end", () => {
          const headers = Object.entries(answer.headers).map(([name, value]): [string, string] => [name, String(value)]);
          resolve(new Response(Buffer.concat(chunks), { status: answer.statusCode ?? 0, headers }));
        });
        answer.on("error", reject);
      });
      asked.on("error", reject);
      asked.end(body);
    });
}

/** Serial number of the certificate that the ingress shows. */
function serialShown(): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: bed.host("one").address, port: ingressPort, rejectUnauthorized: false }, () => {
      const shown: DetailedPeerCertificate = socket.getPeerCertificate(true);
      socket.destroy();
      resolve(Number.parseInt(shown.serialNumber, 16).toString());
    });
    socket.on("error", reject);
  });
}

interface Status {
  standbys: string[];
  healthy: boolean;
  problems: string[];
  services: { instance: string }[];
}
const status = async (): Promise<Status> => {
  const { stdout } = await stack.run(["status", "-e", "prod", "--json"]);
  return (JSON.parse(stdout) as { result: Status }).result;
};
const standbysSay = async (words: string): Promise<boolean> => (await status()).standbys.every((line) => line.endsWith(words));

test(
  "a first deploy is reached over TLS through the ingress, with a key, from the addresses that are allowed",
  async () => {
    const first = await stack.run(["deploy", "-e", "prod"]);
    expect(first.code, first.stderr).toBe(0);
    expect(first.stderr).toMatch(/standby +embedder-r1-[0-9a-f]+-cpu behind embedder/);
    const good = secureClient(keys.first);
    for (let n = 0; n < 12; n += 1) expect((await good()).status).toBe(200);
    expect((await secureClient("")()).status).toBe(401);
    for (const name of ["one", "two"]) {
      const metrics = await (
        await fetch(`http://${bed.host(name).address}:${port}/metrics`, { headers: headersWith(keys.first) })
      ).text();
      expect(Number(/^gpuctl_requests_total\{code="200",route="\/embed"\} (\S+)$/m.exec(metrics)?.[1])).toBeGreaterThan(0);
    }
    const [one, two] = [bed.host("one").address, bed.host("two")];
    const codeOf = (url: string): Promise<string> => two.must(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", url]);
    expect(await codeOf(`https://${one}:${ingressPort}/embedder/health`)).toBe("403");
    expect(await codeOf(`http://${one}:${port}/health`)).toBe("403");
  },
  patience,
);

test(
  "the value of a secret is in files of its container's user and nowhere else",
  async () => {
    for (const name of ["one", "two"]) {
      const host = bed.host(name);
      const said = await host.must([
        "sh",
        "-c",
        "docker inspect $(docker ps -aq); ps -eo args; docker ps -q | xargs -n1 docker logs 2>&1",
      ]);
      expect(said).not.toContain(keys.first);
      // Docker's own layers hold what images are made of; the secrets are mounted from here.
      const places = ["/var/lib/gpuctl", "/var/lib/docker/containers", "/etc", "/root", "/home", "/tmp", "/var/log", "/run"];
      const { stdout } = await host.exec(["grep", "-rlsF", "--devices=skip", keys.first, ...places]);
      const files = stdout.trim().split("\n");
      const modes = await host.must(["stat", "-c", "%a %u", ...files]);
      expect(
        files.every((file) => file.startsWith("/var/lib/gpuctl/shop/prod/")),
        stdout,
      ).toBe(true);
      expect(new Set(modes.trim().split("\n"))).toEqual(new Set(["400 10001", "600 0"]));
      const key = "/var/lib/gpuctl/shop/prod/ingress/tls.key";
      if (name === "one") expect((await host.must(["stat", "-c", "%a %u", key])).trim()).toBe("600 10001");
      else expect((await host.exec(["test", "-e", key])).code).not.toBe(0);
    }
  },
  patience,
);

test(
  "behind a service stands an instance on the CPU, that answers when no other does",
  async () => {
    await until(() => standbysSay("stands ready on the CPU"), "both are ready", 180_000);
    const client = new SteadyClient(() => ask("one", keys.first), 100, 1);
    await bed.host("one").must(["docker", "kill", `${project}_embedder-a`]);
    await until(async () => (await status()).standbys.some((line) => line.includes("answers on the CPU")), "it answers", 180_000);
    const answer = await ask("one", keys.first);
    expect([answer.status, answer.headers.get("x-gpuctl-device")]).toEqual([200, "cpu"]);
    const repair = await stack.run(["repair", "-e", "prod"]);
    const { perSecond } = await client.stop();
    expect(repair.code, repair.stderr).toBe(0);
    // Of 10 a second; it waits for each answer, those on the CPU among them.
    expect(perSecond).toBeGreaterThan(1);
    // The one that was inside when its container was killed may be lost; it was sent, so it is not sent again.
    expect(Object.values(client.failures).reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(1);
  },
  patience,
);

test(
  "another certificate is taken over by a deploy that changes nothing else, at the cost of at most a connection that was just made",
  async () => {
    expect(await serialShown()).toBe("1001");
    const before = certificate();
    writeCertificate("1002");
    const client = new SteadyClient(secureClient(keys.first, [before, certificate()]), 50, 1);
    const renewed = await stack.run(["deploy", "-e", "prod"]);
    await until(async () => (await serialShown()) === "1002", "the new one is shown", 20_000);
    const { perSecond } = await client.stop();
    expect(renewed.code, renewed.stderr).toBe(0);
    expect(renewed.stderr).toContain("ingress/tls.crt");
    expect(renewed.stderr + renewed.stdout).not.toContain("BEGIN");
    // Caddy closes, when it takes over another configuration, connections whose request it has not read yet (docs/measurements).
    expect(Object.keys(client.failures).filter((said) => !/socket hang up|ECONNRESET/.test(said))).toEqual([]);
    expect(client.total - client.answers).toBeLessThanOrEqual(1);
    expect(perSecond).toBeGreaterThan(2);
    expect((await status()).problems).toEqual([]);
  },
  patience,
);

test(
  "rotating a secret is a deploy, and its rollback brings the old value back",
  async () => {
    writeKeys(keys.second);
    const rotated = await stack.run(["deploy", "-e", "prod"]);
    expect(rotated.code, rotated.stderr).toBe(0);
    const statuses = async (): Promise<number[]> => [
      (await ask("two", keys.first)).status,
      (await ask("two", keys.second)).status,
    ];
    expect(await statuses()).toEqual([401, 200]);
    await until(() => standbysSay("stands ready on the CPU"), "both are renewed", 180_000);
    expect((await status()).standbys.every((line) => line.includes("embedder-r2-"))).toBe(true);
    const back = await stack.run(["rollback", "-e", "prod"]);
    expect(back.code, back.stderr).toBe(0);
    expect(await statuses()).toEqual([200, 401]);
    expect((await status()).standbys.every((line) => line.includes("embedder-r1-"))).toBe(true);
    expect(`${rotated.stderr}${back.stderr}`).not.toContain(keys.second);
  },
  patience,
);

test(
  "an upgrade on a GPU with room for one loses no request: the CPU instance answers between the two",
  async () => {
    await stack.close();
    const service = (options: string): string =>
      `embedder: { model: all-MiniLM-L6-v2, port: ${port}, device: { prefer: cuda }, gpu: ${card}, fallback: cpu${options} }`;
    const withGpu = { services: images.gpu, proxy: images.proxy };
    stack = await Stack.create(bed, { hosts: ["two"], services: [service("")], images: withGpu });
    const first = await stack.run(["deploy", "-e", "prod"]);
    expect(first.code, first.stderr).toBe(0);
    await until(() => standbysSay("stands ready on the CPU"), "it is ready", 180_000);
    const devices = new Set<string | null>();
    const client = new SteadyClient(async () => {
      const answer = await ask("two", "");
      devices.add(answer.headers.get("x-gpuctl-device"));
      return answer;
    }, 100);
    stack.write({ services: [service(", options: { cacheEntries: 11 }")] });
    const upgrade = await stack.run(["deploy", "-e", "prod"]);
    const { perSecond } = await client.stop();
    expect(upgrade.code, upgrade.stderr).toBe(0);
    expect(upgrade.stderr).toContain("stop-first");
    expect(upgrade.stderr).toMatch(/gates +embedder-r\d+-\w+-cpu: \d+ probes, lowest cosine (?:1\.|0\.999)/);
    expect(client.lapses).toEqual({});
    expect(perSecond).toBeGreaterThan(2);
    expect(devices).toEqual(new Set(["cuda", "cpu"]));
    expect((await ask("two", "")).headers.get("x-gpuctl-device")).toBe("cuda");
    expect((await status()).standbys).toEqual([expect.stringMatching(/embedder-r\d+-[0-9a-f]+-cpu stands ready on the CPU$/)]);

    const serving = (await status()).services[0]?.instance ?? "";
    const listed = await bed.host("two").must(["docker", "ps", "--quiet", "--filter", `label=dev.gpuctl.instance=${serving}`]);
    await bed.host("two").must(["docker", "stop", listed.trim()]);
    const health = await stack.run(["health", "-e", "prod", "--json"]);
    expect(health.code, health.stderr).toBe(1);
    expect(health.stdout).toContain("the CPU answers, where cuda was proven by the deploy");
    const metrics = await (await fetch(`http://${bed.host("two").address}:${port}/metrics`)).text();
    expect(metrics).toMatch(/^gpuctl_device_info\{[^}]*device="cpu"[^}]*\} 1(?:\.0)?$/m);
  },
  patience,
);
