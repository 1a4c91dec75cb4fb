import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { refusesEverybody, type Passage } from "../../../cli/src/domain/preflight/docker-user.js";
import { judgeNode } from "../../../cli/src/domain/preflight/judge.js";
import type { NodeNeeds } from "../../../cli/src/domain/preflight/needs.js";
import { factsOf } from "./captures.js";
import { container, cuda, want } from "./cases.js";

const passage: Passage = { port: 443, inside: 8443, interfaces: ["enp1s0"] };
const refuses = (...rules: string[]): boolean =>
  refusesEverybody(
    rules.map((rule) => `-A DOCKER-USER ${rule}`),
    passage,
  );

/** What the host script puts into the chain, made by its own function. */
function preparedRules(ports: string, addresses: string, family: 4 | 6 = 4): string {
  const script = readFileSync(new URL("../../../infra/host/prepare-host.sh", import.meta.url), "utf8");
  const own = ["other_bridges", "admitted", "published_rules"];
  const rules = own.map((name) => new RegExp(`^${name}\\(\\) \\{.*\\n[^]*?^\\}$`, "m").exec(script)?.[0] ?? "").join("\n");
  const values = `declare -A value=([GPUCTL_SERVICE_PORTS]=${ports} [GPUCTL_APP_ADDRESSES]=${addresses})`;
  return execFileSync("bash", ["-c", `${values}\n${rules}\npublished_rules ${family}`], { encoding: "utf8" });
}

test.each([
  ["-j DROP"],
  ["-p tcp -j REJECT --reject-with icmp-port-unreachable"],
  ["-p tcp -m conntrack --ctorigdstport 443 --ctdir ORIGINAL -j DROP"],
  ["-p tcp -m conntrack --ctorigdstport 400:500 --ctstate NEW -j DROP"],
  ["-p tcp -m multiport --dports 80,8443 -j DROP"],
  ["! -s 10.0.0.0/24 -i enp1s0 -j DROP"],
  ["-i enp+ -j DROP"],
  ["! -i docker0 -j DROP"],
  ['-p tcp -m comment --comment "our -s list" -j DROP'],
  ["-s 10.0.0.4/32 -j RETURN", "-j DROP"],
])("everybody is refused by %s", (...rules) => {
  expect(refuses(...rules)).toBe(true);
});

test.each([
  ["-s 198.51.100.9/32 -j DROP"],
  ["-p udp -j DROP"],
  ["-p tcp -m conntrack --ctorigdstport 8002 --ctdir ORIGINAL -j DROP"],
  // After Docker's translation the packet has the container's port.
  ["-p tcp -m tcp --dport 443 -j DROP"],
  ["-p tcp -m tcp ! --dport 8443 -j DROP"],
  ["-m conntrack --ctstate INVALID -j DROP"],
  ["-i enp7s0 -j DROP"],
  ["-i br-+ -j DROP"],
  ["-d 172.18.0.2/32 -j DROP"],
  ["-m limit --limit 5/min -j DROP"],
  ["-j LOG"],
  // Appended behind what Docker itself puts there.
  ["-j RETURN", "-j DROP"],
])("everybody still comes past %s", (...rules) => {
  expect(refuses(...rules)).toBe(false);
});

describe("what it means for a node", () => {
  const codes = (rules: string, needs: Partial<NodeNeeds> = {}): string[] =>
    judgeNode(
      factsOf("t4-ubuntu", { "docker-user": [0, rules], "docker-ps": container("cache", "0.0.0.0:6379->6379/tcp") }),
      want({ bind: "0.0.0.0", ...needs }),
    ).map(({ code }) => code);
  const two = { services: [cuda(), cuda({ name: "embedder", port: 8001 })] };

  test("a host that our script prepared is in order, for the ports that it was told", () => {
    const rules = preparedRules("8001,8002", "10.0.0.4/32");
    expect(rules.match(/-j DROP/g)).toHaveLength(2);
    expect(codes(rules, two)).toContain("exposure");
    expect(codes(preparedRules("8001", "10.0.0.4/32"), two)).toContain("port-exposed");
  });

  test.each([4, 6] as const)("where nobody may come, IPv%i has no way in but from the host's own containers", (family) => {
    const rules = preparedRules("8001,8002", "nobody", family);
    expect(rules.match(/-j RETURN$/gm)).toHaveLength(4);
    expect(rules.match(/ -i (?:docker0|br-\+) .*-j RETURN$/gm)).toHaveLength(4);
    expect(rules.match(/-j DROP$/gm)).toHaveLength(2);
    expect(codes(rules, two)).toContain("exposure");
  });

  test("only the ports that are open are told, with what closes them", () => {
    const facts = factsOf("t4-ubuntu", { "docker-user": [0, preparedRules("8001", "10.0.0.4/32")] });
    const found = judgeNode(facts, want({ bind: "0.0.0.0", ...two })).find(({ code }) => code === "port-exposed");
    expect(found?.because).toContain("others than 10.0.0.0/24 on port 8002;");
    expect(found?.nextSteps?.filter((step) => step.includes("DROP"))).toEqual([expect.stringContaining("--ctorigdstport 8002 ")]);
  });

  test("a refusal of another port or of one address closes nothing else, neither ours nor those of others", () => {
    for (const rule of ["-p tcp -m conntrack --ctorigdstport 9999 -j DROP", "-s 198.51.100.9/32 -j DROP"])
      expect(codes(`-A DOCKER-USER ${rule}\n`)).toEqual(expect.arrayContaining(["port-exposed", "docker-bypasses-ufw"]));
    const both = codes("-A DOCKER-USER -i enp1s0 -j DROP\n");
    expect(both).toContain("exposure");
    expect(both).not.toContain("docker-bypasses-ufw");
  });
});
