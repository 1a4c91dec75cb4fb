/** `tls: acme` against a real ACME server: a private one, whose own certificate nobody trusts without being told. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Bed } from "../support/bed/bed.js";
import { caddyImage, serviceImage } from "../support/bed/images.js";
import { pinned, Stack } from "../support/bed/stack.js";
import { AcmeServer } from "../support/pebble/acme-server.js";
import { until } from "../support/until.js";

const [port, patience] = [18101, 900_000];
const domain = "models.example.net";
const proxy = "gpuctl_shop_prod_proxy";
let bed: Bed;
let stack: Stack;
let acme: AcmeServer;
const images = { services: "", proxy: "" };

const embedder = (options = ""): string => `embedder: { model: all-MiniLM-L6-v2, port: ${port}${options} }`;
const tls = (): string =>
  `tls: { mode: acme, domain: ${domain}, email: ops@example.net, directory: "${acme.directory}", directoryCa: acme-ca.pem }`;

beforeAll(async () => {
  const [services, caddy] = [await serviceImage(), await caddyImage()];
  bed = await Bed.start([{ name: "one" }]);
  const one = bed.host("one");
  images.services = await pinned(bed, one, services);
  images.proxy = await pinned(bed, one, caddy);
  const folder = join(bed.folder, "acme");
  mkdirSync(folder);
  acme = await AcmeServer.prepare({ folder, address: new URL(bed.proxy.url).hostname });
  stack = await Stack.create(bed, { hosts: ["one"], services: [embedder()], images, extra: [tls()] });
  copyFileSync(acme.ca, join(stack.sandbox.directory, "acme-ca.pem"));
}, 1_800_000);

afterAll(async () => {
  await stack.close();
  await acme.stop();
  await bed.stop();
});

interface Shown {
  serial: string;
  issuer: string;
  names: string;
}

/** What is shown to a client that trusts the ACME server's authority and nobody else. */
async function shownOn(at: number, name = domain): Promise<Shown> {
  const ca = await acme.root();
  return new Promise((resolve, reject) => {
    const socket = connect({ host: bed.host("one").address, port: at, servername: name, ca }, () => {
      const { serialNumber, issuer, subjectaltname }: DetailedPeerCertificate = socket.getPeerCertificate(true);
      socket.destroy();
      resolve({ serial: serialNumber, issuer: String(issuer.CN), names: subjectaltname ?? "" });
    });
    socket.on("error", reject);
  });
}

/** The status of an answer over TLS that is verified. */
async function statusOf(at: number, path: string): Promise<number> {
  const ca = await acme.root();
  const options = {
    host: bed.host("one").address,
    port: at,
    path,
    method: "POST",
    ca,
    servername: domain,
    agent: false,
  } as const;
  const headers = { host: domain, "content-type": "application/json" };
  return new Promise((resolve, reject) => {
    const asked = request({ ...options, headers, timeout: 20_000 }, (answer) => {
      answer.resume();
      answer.on("end", () => {
        resolve(answer.statusCode ?? 0);
      });
    });
    asked.on("error", reject);
    asked.end(JSON.stringify({ inputs: "a steady text" }));
  });
}

interface Status {
  healthy: boolean;
  problems: string[];
}
const status = async (): Promise<Status> =>
  (JSON.parse((await stack.run(["status", "-e", "prod", "--json"])).stdout) as { result: Status }).result;

const deployed = async (): Promise<string> => {
  const ran = await stack.run(["deploy", "-e", "prod"]);
  expect(ran.code, ran.stderr).toBe(0);
  return ran.stderr;
};

test(
  "while the ACME server is down a first deploy is good, and says as status does that HTTPS does not answer, and why",
  async () => {
    const said = await deployed();
    expect(said).toMatch(
      /the proxy of one has no certificate for models\.example\.net yet, so HTTPS does not answer there: .*refused/,
    );
    const { healthy, problems } = await status();
    expect(healthy).toBe(false);
    expect(problems).toEqual([expect.stringMatching(/^the proxy of one has no certificate for models\.example\.net yet/)]);
    expect((await stack.run(["status", "-e", "prod"])).stdout).toContain("the proxy asks again by itself");
    const doctor = await stack.run(["doctor", "-e", "prod", "--json"]);
    const { findings } = (JSON.parse(doctor.stdout) as { result: { findings: { code: string; because?: string }[] } }).result;
    expect(findings.filter(({ code }) => code === "certificate-missing")).toEqual([
      expect.objectContaining({
        what: "the proxy of one has no certificate for models.example.net yet",
        because: expect.stringMatching(/^HTTPS does not answer there: .*refused/) as string,
      }),
    ]);
    expect((await stack.run(["repair", "-e", "prod"])).stderr).toContain("so HTTPS does not answer there");
  },
  patience,
);

test(
  "once it is up the proxy gets its certificate by itself",
  async () => {
    await acme.start(bed.host("one").address);
    await until(async () => (await status()).healthy, "the certificate is there", 300_000);
    const shown = await shownOn(port);
    expect(shown).toMatchObject({ names: `DNS:${domain}`, issuer: expect.stringMatching(/^Pebble Intermediate CA/) as string });
    expect(await statusOf(port, "/embed")).toBe(200);
    expect(acme.log()).toContain("POST /order-plz");
  },
  patience,
);

test(
  "nobody else's name is answered, nor anything in the clear",
  async () => {
    await expect(shownOn(port, "other.example.net")).rejects.toThrow(/alert/i);
    const { address } = bed.host("one");
    // Caddy says that this port speaks TLS; on port 80 it listens only while the ACME server asks.
    expect((await fetch(`http://${address}:${port}/embed`)).status).toBe(400);
    await expect(fetch(`http://${address}/`)).rejects.toThrow("fetch failed");
  },
  patience,
);

test(
  "the certificate outlives a restart and a new container of the proxy, deploys and a destroy; nobody asks for another",
  async () => {
    const one = bed.host("one");
    const [{ serial }, orders] = [await shownOn(port), acme.orders()];
    const answersAgain = (): Promise<void> =>
      until(
        () =>
          statusOf(port, "/embed").then(
            (code) => code === 200,
            () => false,
          ),
        "it answers again",
        60_000,
      );
    await one.must(["docker", "restart", proxy]);
    await answersAgain();
    expect((await shownOn(port)).serial).toBe(serial);
    await one.must(["docker", "rm", "--force", proxy]);
    const repaired = await stack.run(["repair", "-e", "prod"]);
    expect(repaired.code, repaired.stderr).toBe(0);
    await answersAgain();
    expect((await shownOn(port)).serial).toBe(serial);
    stack.write({ services: [embedder(", options: { cacheEntries: 11 }")] });
    expect(await deployed()).not.toContain("certificate");
    expect((await shownOn(port)).serial).toBe(serial);
    expect(await deployed()).not.toContain("certificate");
    const destroyed = await stack.run(["destroy", "--confirm", "prod"]);
    expect(destroyed.code, destroyed.stderr).toBe(0);
    await deployed();
    await answersAgain();
    expect((await shownOn(port)).serial).toBe(serial);
    expect(acme.orders()).toBe(orders);
    expect(await status()).toMatchObject({ healthy: true, problems: [] });
  },
  patience,
);

test(
  "another CA by which the ACME server is trusted is taken over by a deploy that changes nothing else",
  async () => {
    const file = join(stack.sandbox.directory, "acme-ca.pem");
    const both = `${readFileSync(file, "utf8")}${await acme.root()}`;
    writeFileSync(file, both);
    expect((await status()).problems).toEqual([expect.stringContaining("proxy/acme-ca.crt on one is not what gpuctl.yaml says")]);
    expect(await deployed()).toContain("proxy/acme-ca.crt");
    const there = ["docker", "exec", proxy, "cat", "/etc/caddy/acme-ca.crt"];
    expect(await bed.host("one").must(there)).toBe(both);
    expect(await status()).toMatchObject({ healthy: true, problems: [] });
  },
  patience,
);

test(
  "an ingress gets one for the address before all nodes, on port 443 when port 80 is no way, and a deploy waits until it is there",
  async () => {
    await acme.stop();
    const orders = acme.orders();
    await acme.start(bed.host("one").address, { httpPort: 9 });
    stack.write({ extra: [tls(), "ingress: { node: one, port: 443 }"] });
    const said = await deployed();
    expect(said).not.toContain("so HTTPS does not answer");
    expect((await shownOn(443)).names).toBe(`DNS:${domain}`);
    expect(await statusOf(443, "/embed")).toBe(200);
    // Caddy tries one of the two ways, whichever, and then the other.
    expect(acme.orders() - orders).toBeLessThanOrEqual(2);
    expect(await status()).toMatchObject({ healthy: true, problems: [] });
  },
  patience,
);
