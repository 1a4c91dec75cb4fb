/** What becomes of what a change of the infrastructure deletes, makes anew or powers off. */
import { describe, expect, test } from "vitest";
import { losses } from "../../cli/src/domain/infra/losses.js";
import type { Change } from "../../cli/src/domain/infra/preview.js";

describe("what infra up asks the stack's name for", () => {
  const change = (fields: Partial<Change>): Change => ({
    op: "delete",
    type: "hcloud:index/server:Server",
    name: "web",
    id: "1",
    protected: false,
    because: [],
    inputs: {},
    ...fields,
  });
  const [command, local] = ["command:remote:Command", "command:local:Command"];
  const ran = (program?: string) => ({ delete: "bash -s", ...(program === undefined ? {} : { stdin: `set -u\n${program}\n` }) });
  const boxProgram = "GPUCTL_OWNER='prod/pool-1'\nbash /run/gpuctl-removal/prepare-host.sh --remove";
  const box = "what gpuctl made there is taken away: account, units and firewall rules; refused while releases serve there";
  const agent = "the k3s agent there ends, and at once all that runs in its pods; volumes of pods on its disk stay";
  const vlan = "the VLAN of its vSwitch goes, and its private address with it";

  test.each<[Partial<Change>, string]>([
    [{}, "what is on it is lost"],
    [{ type: "hcloud:index/volume:Volume", op: "replace" }, "what is on it is lost"],
    [{ type: "hcloud:index/primaryIp:PrimaryIp" }, "the address goes back to the provider"],
    [{ op: "update", because: ["labels", "serverType"] }, "it is powered off while its type changes"],
    [{ type: command, name: "gpu-1-removal", inputs: ran() }, box],
    [{ type: command, name: "pool-gpu-1-removal", inputs: ran() }, agent],
    [{ type: command, name: "gex-1-vswitch-removal", inputs: ran() }, vlan],
    [{ type: local, name: "pool-gpu-1-node", inputs: ran() }, "the node is taken out of the cluster"],
    [{ type: local, name: "pool-a-node-taint", inputs: ran() }, "the mark that keeps other pods off the node is taken away"],
    // Boxes that are called pool-1 and gex-vswitch, and an agent a-vswitch.
    [{ type: command, name: "pool-1-removal", inputs: ran(boxProgram) }, box],
    [{ type: command, name: "gex-vswitch-removal", inputs: ran(boxProgram) }, box],
    [{ type: command, name: "pool-a-vswitch-removal", inputs: ran("GPUCTL_K3S_NODE='a-vswitch'") }, agent],
    [{ type: command, name: "pool-1-vswitch-removal", inputs: ran("rm /etc/systemd/system/gpuctl-vswitch.service") }, vlan],
    [{ type: command, name: "of-another-version", inputs: ran() }, "what it made is taken away"],
    [{ type: "kubernetes:core/v1:Namespace" }, "what is in it is lost"],
    [{ type: "kubernetes:helm.sh/v3:Release", op: "replace" }, "what it runs ends"],
  ])("%j: %s", (fields, consequence) => {
    expect(losses([change(fields)])).toMatchObject([{ consequence }]);
  });

  test.each<Partial<Change>>([
    { op: "create" },
    { op: "update", because: ["labels"] },
    { type: command, inputs: { create: "bash -s" } },
    { type: command, op: "update", inputs: { delete: "bash -s" } },
    { type: "kubernetes:helm.sh/v3:Release", op: "update" },
    { type: "hcloud:index/firewall:Firewall" },
  ])("%j does without", (fields) => {
    expect(losses([change(fields)])).toEqual([]);
  });
});
