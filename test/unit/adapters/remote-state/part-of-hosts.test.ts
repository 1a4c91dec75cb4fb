import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CommandNodes } from "../../../../cli/src/adapters/nodes/command-nodes.js";
import { ms } from "../../../../cli/src/domain/units.js";
import { operatorOf, type Operator } from "../../../contract/state/remote-environment.js";
import { FakeProcessTable } from "../../../fakes/fake-process-table.js";
import { SteppingClock } from "../../../fakes/stepping-clock.js";
import { recordOf } from "../../../support/records.js";
import { temporaryDirectories } from "../../../support/temporary.js";
import { FaultyOperatorLine } from "./faulty-host.js";
import { never, World } from "./world.js";

const temporary = temporaryDirectories();
const names = ["gpu-1", "gpu-2", "gpu-3"];
const [first, good, second] = [recordOf(1), recordOf(1, { state: "good" }), recordOf(2)];

interface Partly extends Operator {
  nodes: CommandNodes;
  line: FaultyOperatorLine;
}

/** Somebody whose command is about these hosts. */
function about(world: World, ...hosts: string[]): Partly {
  const [line, processes, nodes] = [new FaultyOperatorLine(), new FakeProcessTable(), new CommandNodes(names, { hosts })];
  processes.start(9, 90);
  const bob = { owner: "bob@there", pid: 9, machine: "there", processes, clock: new SteppingClock(), use: nodes };
  return { ...operatorOf(world.hosts, bob, line.over), nodes, line };
}

async function deployed(): Promise<World> {
  const world = new World(temporary(), names);
  const ada = await world.working("ada");
  await ada.releases.hmac("a secret");
  await ada.releases.create(first, {});
  await ada.releases.update(good);
  await ada.lease.release();
  return world;
}

const keeps = (world: World, id: string): readonly boolean[] =>
  world.hosts.map(({ root }) => existsSync(join(root, "releases", `${id}.json`)));

test("a command about one host needs the lease of no other, writes to no other, and reads the records of all", async () => {
  const world = await deployed();
  const bob = about(world, "gpu-2");
  bob.line.down.add("gpu-3");
  const lease = await bob.leases.acquire("repair", ms(0), never);
  await lease.check();
  expect((await bob.releases.list()).records).toEqual([good]);
  await bob.releases.create(second, {});
  expect(keeps(world, second.id)).toEqual([false, true, false]);
  const carol = world.person("carol");
  await expect(carol.leases.acquire("deploy", ms(0), never)).rejects.toThrow("another gpuctl is changing demo/prod");
  await lease.release();
  await (await carol.leases.acquire("deploy", ms(0), never)).release();
});

test("a host that is new has its secrets told apart by the key that the others have", async () => {
  const world = await deployed();
  const known = await world.person("ada").releases.hmac("a secret");
  const bare = new World(temporary(), names);
  const other = about(bare, "gpu-1");
  expect(await other.releases.hmac("a secret")).not.toBe(known);
  const bob = about(world, "gpu-1");
  bob.line.down.add("gpu-3");
  expect(await bob.releases.hmac("a secret")).toBe(known);
});

test("a host that is given up while the lease is held is neither asked nor waited for any more", async () => {
  const world = await deployed();
  const bob = about(world, ...names);
  const lease = await bob.leases.acquire("deploy", ms(0), never);
  bob.line.down.add("gpu-2");
  await expect(lease.check()).rejects.toMatchObject({ exit: "targetUnreachable" });
  await expect(bob.releases.create(second, {})).rejects.toMatchObject({ exit: "targetUnreachable" });
  bob.nodes.giveUp("gpu-2", "it is off");
  await lease.check();
  await bob.releases.update(recordOf(2, { state: "failed" }));
  await bob.audit.append({ action: "failed", release: second.id, detail: "taken back" });
  expect((await bob.releases.list()).copies.map(({ host }) => host)).toEqual(["gpu-1", "gpu-3"]);
  expect((await bob.audit.read(1))[0]?.hosts).toEqual(["gpu-1", "gpu-3"]);
  await lease.release();
});

test("what a host missed while it was given up is what it is completed with later", async () => {
  const world = await deployed();
  const bob = about(world, ...names);
  await bob.leases.acquire("deploy", ms(0), never);
  bob.nodes.giveUp("gpu-2", "it is off");
  await bob.releases.create(second, {});
  const later = about(world, "gpu-2");
  expect((await later.releases.list()).copies[1]).toEqual({ host: "gpu-2", state: "behind", lacks: [second.id], differs: [] });
  world.pass(60);
  await later.leases.acquire("repair", ms(0), never);
  expect(await later.releases.complete()).toEqual([`gpu-2 got release ${second.id}`]);
});
