/** The way from this machine into a bed: one interface, one subnet that nobody else has. */
import { must, run } from "./shell.js";

/** Addresses of 198.18.0.0/15, which is reserved for tests of network equipment and routed nowhere. */
export interface Subnet {
  /** This machine's own end. */
  machine: string;
  /** The registry's. */
  registry: string;
  /** Address of the n-th host, from 0. */
  host(n: number): string;
}

const subnetOf = (n: number): string => `198.${18 + (n >> 8)}.${n & 255}`;

/**
 * Connects this machine to the bridge of a bed.
 * @param link  name for the interface, 15 characters at most
 * @param fabric  pid of the bed's first process
 */
export async function connect(link: string, fabric: number): Promise<Subnet> {
  await must("ip", ["link", "add", link, "type", "veth", "peer", "name", "machine", "netns", String(fabric)]);
  await inFabric(fabric, ["ip", "link", "set", "machine", "master", "bed", "up"]);
  await must("ip", ["link", "set", link, "up"]);
  const first = Math.floor(Math.random() * 512);
  for (let n = 0; n < 512; n += 1) {
    const prefix = subnetOf((first + n) % 512);
    // The kernel refuses a second route to the same subnet: that is how two beds never choose the same one.
    const route = await run("ip", ["route", "add", `${prefix}.0/24`, "dev", link]);
    if (route.code !== 0) continue;
    await must("ip", ["address", "add", `${prefix}.1/24`, "dev", link, "noprefixroute"]);
    await inFabric(fabric, ["ip", "address", "add", `${prefix}.2/24`, "dev", "bed"]);
    return { machine: `${prefix}.1`, registry: `${prefix}.2`, host: (host) => `${prefix}.${host + 10}` };
  }
  throw new Error("no subnet of 198.18.0.0/15 is free: `ip route` shows who has them");
}

/** Takes the interface away, also when the bed is gone already. */
export async function disconnect(link: string): Promise<void> {
  await run("ip", ["link", "delete", link]);
}

/**
 * Connects a host, which may have been connected before its last start.
 * @param n  its number in the bed: it keeps its hardware address, else others would look for the old one for half a minute
 */
export async function connectHost(fabric: number, link: string, host: number, n: number): Promise<void> {
  await run("nsenter", [`--net=/proc/${fabric}/ns/net`, "ip", "link", "delete", link]);
  const address = `02:62:65:64:00:${n.toString(16).padStart(2, "0")}`;
  const peer = ["peer", "name", "eth0", "address", address, "netns", String(host)];
  await inFabric(fabric, ["ip", "link", "add", link, "type", "veth", ...peer]);
  await inFabric(fabric, ["ip", "link", "set", link, "master", "bed", "up"]);
}

/** Pulls a host's cable, or puts it back. Connections stall, as they do: nobody is told. */
export async function setCable(fabric: number, link: string, state: "up" | "down"): Promise<void> {
  await inFabric(fabric, ["ip", "link", "set", link, state]);
}

/** In the bed's network alone: files and processes are those of this machine. */
async function inFabric(fabric: number, command: readonly string[]): Promise<void> {
  await must("nsenter", [`--net=/proc/${fabric}/ns/net`, ...command]);
}
