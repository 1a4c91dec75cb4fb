/** What is said of the program's own commands before they are deleted. */
import { expect, test } from "vitest";
import { losses } from "../../../cli/src/domain/infra/losses.js";
import { exampleConfig, exampleStacks, runStack, type ExampleStack } from "../../support/infra/stack-under-mocks.js";

const secrets = { "gpuctl:k3sToken": "K10secret", "hcloud:token": "token" };

const said: Record<ExampleStack, Record<string, string>> = {
  "hetzner-cpu": {},
  "adopted-t4": { "gpu-1-removal": "account, units and firewall rules" },
  "robot-gex": { "gex-1-removal": "account, units and firewall rules", "gex-1-vswitch-removal": "VLAN" },
  "k3s-gpu-pool": {
    "gpu-1-removal": "account, units and firewall rules",
    "gpu-2-removal": "account, units and firewall rules",
    "pool-gpu-1-node": "taken out of the cluster",
    "pool-gpu-2-node": "taken out of the cluster",
    "pool-gpu-1-removal": "in its pods",
    "pool-gpu-2-removal": "in its pods",
  },
  "existing-cluster": { "pool-gpu-pool-a1-taint": "the mark", "pool-gpu-pool-a2-taint": "the mark" },
};

test.each(exampleStacks)("of %s each has words of its own, told by what it would run and by its name alone", async (stack) => {
  const { resources } = await runStack(stack, exampleConfig(stack), secrets);
  const deleting = resources.filter(({ type, inputs }) => type.startsWith("command:") && inputs["delete"] !== undefined);
  expect(deleting.map(({ name }) => name).sort()).toEqual(Object.keys(said[stack]).sort());
  for (const { type, name, inputs } of deleting) {
    const { stdin, ...without } = inputs;
    if (type === "command:remote:Command") expect(stdin).toBeTypeOf("string");
    for (const known of [inputs, without]) {
      const change = { op: "delete", type, name, id: "7", protected: false, because: [], inputs: known } as const;
      const expected: unknown = expect.stringContaining(said[stack][name] ?? "no words");
      expect(losses([change])).toMatchObject([{ consequence: expected }]);
    }
  }
});
