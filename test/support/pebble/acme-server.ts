/** An ACME server of one's own, as companies run them: Pebble, behind a CA that nobody trusts who was not told. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { get } from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { cacheDirectory } from "../bed/prepared.js";
import { must } from "../bed/shell.js";
import { listens } from "../listens.js";
import { until } from "../until.js";

const script = join(import.meta.dirname, "build.sh");
const ports = { directory: 14000, management: 15000, dns: 8053, dnsManagement: 8055 } as const;

export interface AcmeServerPlace {
  /** Where its keys and its log lie. */
  folder: string;
  /** Address of this machine that it listens on, on fixed ports: one of its own. */
  address: string;
}

export class AcmeServer {
  readonly #place: AcmeServerPlace;
  readonly #programs: string;
  readonly #children: ChildProcess[] = [];

  private constructor(place: AcmeServerPlace, programs: string) {
    this.#place = place;
    this.#programs = programs;
  }

  /** Builds it where nobody has, and makes its keys; it does not run yet. */
  static async prepare(place: AcmeServerPlace): Promise<AcmeServer> {
    const programs = (await must(script, [cacheDirectory()], { timeoutMs: 600_000 })).trim();
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    const openssl = (...args: string[]): Promise<string> =>
      must(
        "openssl",
        args.map((arg) => arg.replace(/^@/, `${place.folder}/`)),
      );
    await openssl("req", "-x509", ...key, "-subj", "/CN=private CA", "-keyout", "@ca.key", "-out", "@ca.crt");
    const signed = ["-CA", "@ca.crt", "-CAkey", "@ca.key", "-addext", `subjectAltName=IP:${place.address}`];
    const leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "@server.key", "-out", "@server.crt"];
    await openssl("req", "-x509", ...key, "-subj", "/CN=acme", ...signed, ...leaf);
    return new AcmeServer(place, programs);
  }

  get directory(): string {
    return `https://${this.#place.address}:${ports.directory}/dir`;
  }

  /** File with the CA that its own certificate is signed by. */
  get ca(): string {
    return join(this.#place.folder, "ca.crt");
  }

  /**
   * @param everyName  address that every name has, as it sees it
   * @param httpPort  where it asks by HTTP; where nobody is, it can be convinced on port 443 alone
   */
  async start(everyName: string, { httpPort = 80 } = {}): Promise<void> {
    const { folder, address } = this.#place;
    const configuration = join(folder, "pebble.json");
    const pebble = {
      listenAddress: `${address}:${ports.directory}`,
      managementListenAddress: `${address}:${ports.management}`,
      certificate: join(folder, "server.crt"),
      privateKey: join(folder, "server.key"),
      httpPort,
      tlsPort: 443,
      ocspResponderURL: "",
      externalAccountBindingRequired: false,
    };
    writeFileSync(configuration, JSON.stringify({ pebble }));
    const dns = `${address}:${ports.dns}`;
    const nothingElse = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv6", ""];
    const management = ["-management", `${address}:${ports.dnsManagement}`];
    this.#run("pebble-challtestsrv", ["-dnsserver", dns, "-defaultIPv4", everyName, ...nothingElse, ...management]);
    this.#run("pebble", ["-config", configuration, "-dnsserver", dns]);
    const up = async (): Promise<boolean> =>
      (await listens(address, ports.directory)) && (await listens(address, ports.dnsManagement));
    await until(up, "the ACME server answers", 20_000).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.log()}`);
    });
  }

  /** The CA that it signs with, made anew at each start. */
  root(): Promise<string> {
    const url = `https://${this.#place.address}:${ports.management}/roots/0`;
    return new Promise((resolve, reject) => {
      get(url, { ca: readFileSync(this.ca) }, (answer) => resolve(text(answer))).on("error", reject);
    });
  }

  /** How many certificates it was asked for since its first start. */
  orders(): number {
    return this.log().match(/POST \/order-plz/g)?.length ?? 0;
  }

  log(): string {
    return readFileSync(this.#log, "utf8");
  }

  async stop(): Promise<void> {
    for (const child of this.#children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    }
  }

  get #log(): string {
    return join(this.#place.folder, "acme.log");
  }

  /** It ends with this process, however that ends. */
  #run(program: string, args: readonly string[]): void {
    const log = openSync(this.#log, "a");
    // Pebble waits some seconds before it looks, and refuses some good nonces, to try clients.
    const env = { PEBBLE_VA_NOSLEEP: "1", PEBBLE_WFE_NONCEREJECT: "0", PATH: process.env["PATH"] ?? "" };
    const command = ["--pdeathsig", "KILL", join(this.#programs, program), ...args];
    this.#children.push(spawn("setpriv", command, { stdio: ["ignore", log, log], env }));
    closeSync(log);
  }
}
