/** A host that becomes an agent of k3s, and stops being one: the scripts for real; systemd, network and firewall are stand-ins. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { remoteProgram, sha256, type RemoteFile } from "../../infra/lib/remote-program.js";
import { remoteScript } from "../../infra/scripts.js";
import { ScratchHost } from "../support/infra/scratch-host.js";

let host: ScratchHost;
beforeEach(() => {
  host = new ScratchHost();
  host.standIn("sleep", "exit 0");
});
afterEach(() => {
  host.remove();
});

const leave = (node = "gpu-1") => remoteProgram(remoteScript("leave-k3s"), { GPUCTL_K3S_NODE: node });
const file = (path: string, content: string): RemoteFile => ({ path, mode: "0644", content });

describe("an agent of k3s", () => {
  const binary = "#!/bin/sh\nexit 0\n";
  const files = [
    file("/etc/rancher/k3s/config.yaml", "server: x\nnode-name: gpu-1\n"),
    file("/etc/rancher/k3s/gpuctl-token", "K10\n"),
    file("/etc/systemd/system/k3s-agent.service", "[Unit]\n"),
  ];
  const join_ = (wanted = sha256(binary), changed = "1", address = "") =>
    host.run(
      remoteProgram(
        remoteScript("join-k3s"),
        {
          GPUCTL_K3S_URL: "https://127.0.0.1/k3s",
          GPUCTL_K3S_SHA256: wanted,
          GPUCTL_K3S_FILES: changed,
          GPUCTL_K3S_ADDRESS: address,
        },
        files,
        remoteScript("k3s-is-ours"),
      ),
    );

  beforeEach(() => {
    host.standIn("curl", `while [[ $1 != -o ]]; do shift; done; printf '%s' '${binary}' >"$2"`);
    host.standIn("ip", "true");
    host.standIn("journalctl", "echo refused by the server");
    host.standIn("systemctl", "[[ $1 != is-active ]] || [[ -e /run/agent ]]; [[ $1 != restart ]] || touch /run/agent");
  });

  test("is installed as the file that was pinned, started once, and left alone while nothing changes", () => {
    expect(join_()).toMatchObject({ code: 0, stdout: "joined\n" });
    expect(host.read("/usr/local/bin/k3s")).toBe(binary);
    expect(host.calls().filter((call) => /restart|curl/.test(call))).toHaveLength(2);
    expect(join_().code).toBe(0);
    expect(host.calls().filter((call) => /restart|curl/.test(call))).toEqual([]);
    expect(join_(sha256(binary), "2").code).toBe(0);
    expect(host.calls().filter((call) => /restart|curl/.test(call))).toEqual(["systemctl restart k3s-agent.service"]);
  });

  test("has its pods talk over the interface of its private address, and starts again when that is another one", () => {
    const joined = () => join_(sha256(binary), "1", "10.20.2.10");
    const restarts = () => host.calls().filter((call) => call.includes(" restart "));
    host.standIn(
      "ip",
      "[[ $* != *' to 10.20.2.10' ]] || echo '5: gpuctl.4000@enp5s0    inet 10.20.2.10/24 scope global gpuctl.4000'",
    );
    expect(joined()).toMatchObject({ code: 0, stderr: "" });
    expect(host.read("/etc/rancher/k3s/config.yaml")).toBe('server: x\nnode-name: gpu-1\nflannel-iface: "gpuctl.4000"\n');
    expect(restarts()).toHaveLength(1);
    expect(joined().code).toBe(0);
    expect(host.read("/etc/rancher/k3s/config.yaml")).toBe('server: x\nnode-name: gpu-1\nflannel-iface: "gpuctl.4000"\n');
    expect(restarts()).toEqual([]);
    host.standIn("ip", "echo '3: enp7s0    inet 10.20.2.10/24 scope global enp7s0'");
    expect(joined().code).toBe(0);
    expect(host.read("/etc/rancher/k3s/config.yaml")).toContain('flannel-iface: "enp7s0"\n');
    expect(restarts()).toHaveLength(1);
  });

  test("is not started where no interface has its private address", () => {
    const { code, stderr } = join_(sha256(binary), "1", "10.20.2.11");
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: "no network interface has the node's address 10.20.2.11: ip -br address; then correct privateAddress\n",
    });
    expect(host.calls().filter((call) => /restart|curl|enable/.test(call))).toEqual([]);
  });

  test("is refused when the file is another one, and leaves no half of it", () => {
    const { code, stderr } = join_("0".repeat(64));
    expect(code).toBe(1);
    expect(stderr).toContain(`is not the file with SHA-256 ${"0".repeat(64)}`);
    expect(host.written().filter((path) => path.startsWith("/usr/local"))).toEqual([]);
  });

  test.each(["/usr/local/bin/k3s", "/etc/rancher/k3s/config.yaml", "/etc/systemd/system/k3s-agent.service"])(
    "that somebody else installed stays as it is, known by %s",
    (path) => {
      host.run(`mkdir -p "$(dirname ${path})"; printf x >${path}`);
      expect(join_()).toMatchObject({ code: 1, stdout: "" });
      expect(host.run(leave()).code).toBe(0);
      expect(host.read(path)).toBe("x");
      expect(host.written().filter((each) => /k3s|rancher/.test(each))).toEqual([path]);
    },
  );

  test("that does not start says why", () => {
    host.standIn("systemctl", "[[ $1 != restart && $1 != is-active ]]");
    const { code, stderr } = join_();
    expect(code).toBe(1);
    expect(stderr).toContain("refused by the server");
  });

  test("leaves without a trace", () => {
    join_();
    host.run("mkdir -p /var/lib/rancher/k3s/agent && touch /var/lib/rancher/k3s/agent/x");
    expect(host.run(leave()).code).toBe(0);
    expect(host.written().filter((path) => /k3s|rancher/.test(path))).toEqual([]);
    expect(host.calls()).toContain("systemctl disable --quiet --now k3s-agent.service");
  });

  test("that has another name by now stays: it was joined again before the old one is taken away", () => {
    join_();
    expect(host.run(leave("gpu-0"))).toEqual({ code: 0, stdout: "the agent is gpu-1 now, and stays\n", stderr: "" });
    expect(host.read("/usr/local/bin/k3s")).toBe(binary);
    expect(host.calls().filter((call) => call.includes("disable"))).toEqual([]);
  });

  test("takes along what runs in its pods, their children too, and nobody else's processes", () => {
    join_();
    const start = `
      started() { echo "$BASHPID" >"/run/$1"; shift; exec "$@"; }
      export -f started
      (started other sleep 600) &
      (exec -a /var/lib/rancher/k3s/data/0ab1/bin/containerd-shim-runc-v2 bash -c '
        echo $$ >/run/shim
        bash -c "(started child sleep 600) & (started second sleep 600) & wait" &
        trap "" TERM
        wait') &
      for ((n = 0; n < 300; n++)); do [[ -s /run/other && -s /run/shim && -s /run/child && -s /run/second ]] && break; command -p sleep 0.1; done`;
    const look = `for each in shim child second other; do kill -0 "$(</run/$each)" 2>/dev/null && echo "$each runs" || echo "$each ended"; done`;
    host.standIn("sleep", 'exec /bin/sleep "$@"');
    const { code, stdout } = host.run(`${start}\n${look}\n${leave()}${look}`);
    expect(code).toBe(0);
    const alive = ["shim", "child", "second", "other"].map((each) => `${each} runs`);
    expect(stdout.trim().split("\n")).toEqual([...alive, "shim ended", "child ended", "second ended", "other runs"]);
  });

  test("removes nothing while something of its pods does not end, and names it", () => {
    join_();
    host.standIn(
      "ps",
      "echo '990001 1 Sl /var/lib/rancher/k3s/data/0ab1/bin/containerd-shim-runc-v2'; echo '990002 990001 D python'",
    );
    const { code, stderr } = host.run(leave());
    expect(code).toBe(1);
    expect(stderr).toContain("these processes of pods do not end, and nothing was removed: 990002 990001; ");
    expect(host.read("/usr/local/bin/k3s")).toBe(binary);
  });

  test("takes the network of its pods along: interfaces, namespaces, addresses and rules, and leaves those of others", () => {
    join_();
    host.run(
      "mkdir -p /var/lib/cni/networks/{cbr0,podman} /var/lib/cni/results /etc/rancher/node; touch /var/lib/cni/networks/{cbr0,podman}/10.42.0.7 /var/lib/cni/results/cbr0-1 /etc/rancher/node/password",
    );
    host.standIn(
      "ip",
      `case "$*" in
        "-o link show master cni0") echo '7: veth0a1b@if2: <BROADCAST> mtu 1450 master cni0' ;;
        "netns list") printf 'cni-free (id: 1)\ncni-of-somebody\nother\n' ;;
        "netns pids cni-of-somebody") echo 77 ;;
      esac`,
    );
    const ours = [
      ":KUBE-SERVICES - [0:0]",
      "-A INPUT -m comment --comment x -j KUBE-SERVICES",
      "-A CNI-DN-1 -j DNAT",
      "-A FORWARD -j FLANNEL-FWD",
    ];
    const others = ["*filter", ":DOCKER-USER - [0:0]", "-A DOCKER-USER -p tcp --dport 8001 -j DROP", "COMMIT"];
    const rules = [...others.slice(0, 2), ...ours, ...others.slice(2)].map((line) => `echo '${line}'`).join("\n");
    host.standIn("iptables-save", rules);
    host.standIn("iptables-restore", "cat >/run/restored");
    host.standIn("ip6tables-save", "echo '*filter'; echo COMMIT");
    host.standIn("ip6tables-restore", "exit 1");
    const { code, stderr } = host.run(leave());
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(host.read("/run/restored")).toBe(`${others.join("\n")}\n`);
    const calls = host.calls();
    expect(calls.filter((call) => call.startsWith("ip link delete"))).toEqual(
      expect.arrayContaining(["ip link delete veth0a1b", "ip link delete cni0", "ip link delete flannel.1"]),
    );
    expect(calls.filter((call) => call.startsWith("ip netns delete"))).toEqual(["ip netns delete cni-free"]);
    // Rules that have nothing of a pod in them are not written again.
    expect(calls.filter((call) => call.startsWith("ip6tables-restore"))).toEqual([]);
    expect(host.written().filter((path) => /cni|rancher/.test(path))).toEqual(["/var/lib/cni/networks/podman/10.42.0.7"]);
  });

  test("leaves the volumes of pods where they are, and says where", () => {
    join_();
    host.run(
      "mkdir -p /var/lib/rancher/k3s/agent /var/lib/rancher/k3s/storage/pvc-1; touch /var/lib/rancher/k3s/storage/pvc-1/index",
    );
    const { code, stdout } = host.run(leave());
    expect({ code, stdout }).toEqual({ code: 0, stdout: "volumes of pods were left in /var/lib/rancher/k3s/storage\n" });
    expect(host.written().filter((path) => /k3s|rancher/.test(path))).toEqual(["/var/lib/rancher/k3s/storage/pvc-1/index"]);
  });
});
