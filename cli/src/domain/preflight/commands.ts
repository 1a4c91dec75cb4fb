import type { NodeFacts } from "./facts.js";

type Family = "debian" | "ubuntu" | "fedora" | "suse" | "other";

/** Commands as this node's own system knows them, for people to type on it. */
export interface SystemCommands {
  family: Family;
  /** `sudo ` unless one logs in as root. */
  sudo: string;
  installDriver: readonly string[];
  installDocker: readonly string[];
  installCompose: readonly string[];
  installToolkit: readonly string[];
  restartDocker: string;
}

export function commandsFor({ access, system }: Pick<NodeFacts, "access" | "system">): SystemCommands {
  const family = familyOf(system.seen ? system.value.families : []);
  const sudo = access.root.by === "login" ? "" : "sudo ";
  const wsl = system.seen && system.value.wsl === 2;
  return {
    family,
    sudo,
    installDriver: wsl
      ? ["update the NVIDIA driver in Windows, then in PowerShell: wsl --shutdown"]
      : drivers[family].map((command) => command.replace(/^(?=apt|dnf|zypper|reboot)/, sudo)),
    installDocker: engines[family].map((command) => command.replace(/^(?=apt|dnf|zypper)/, sudo)),
    installCompose: composes[family].map((command) => command.replace(/^(?=apt|dnf|zypper)/, sudo)),
    installToolkit: toolkits[family].map((command) => command.replace(/^(?=apt|dnf|zypper)/, sudo)),
    restartDocker: `${sudo}systemctl restart docker`,
  };
}

/** What gives a user that has none the rights of root, which gpuctl needs on a node: its group `docker` is not enough. */
export function rootSteps({ user }: NodeFacts["access"]): readonly string[] {
  const name = user.seen ? user.value.name : "USER";
  return [
    `sudo visudo -f /etc/sudoers.d/gpuctl, with the line: ${name} ALL=(ALL) NOPASSWD: ALL`,
    "or in gpuctl.yaml, for this node: user: root; with host: local start gpuctl itself as root",
  ];
}

function familyOf(families: readonly string[]): Family {
  if (families.includes("ubuntu")) return "ubuntu";
  if (families.includes("debian")) return "debian";
  if (families.some((family) => family === "fedora" || family === "rhel" || family === "centos")) return "fedora";
  return families.some((family) => family.includes("suse")) ? "suse" : "other";
}

const dockerPage = "https://docs.docker.com/engine/install/";
const toolkitPage = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html";
const driverPage = "https://docs.nvidia.com/datacenter/tesla/driver-installation-guide/";

/** Driver branch 580 has long-term support; the server packages come signed, so that Secure Boot takes them. */
const drivers: Readonly<Record<Family, readonly string[]>> = {
  ubuntu: [
    "apt install linux-modules-nvidia-580-server-open-generic nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server",
    "reboot",
  ],
  debian: [`install driver 580 or newer: ${driverPage}`, "reboot"],
  fedora: [`install driver 580 or newer: ${driverPage}`, "reboot"],
  suse: [`install driver 580 or newer: ${driverPage}`, "reboot"],
  other: [`install driver 580 or newer: ${driverPage}`, "then restart the machine"],
};

const engines: Readonly<Record<Family, readonly string[]>> = {
  ubuntu: [
    `add Docker's apt repository: ${dockerPage}ubuntu/`,
    "apt install docker-ce docker-ce-cli containerd.io docker-compose-plugin",
  ],
  debian: [
    `add Docker's apt repository: ${dockerPage}debian/`,
    "apt install docker-ce docker-ce-cli containerd.io docker-compose-plugin",
  ],
  fedora: [`add Docker's repository: ${dockerPage}`, "dnf install docker-ce docker-ce-cli containerd.io docker-compose-plugin"],
  suse: [`install Docker Engine: ${dockerPage}`],
  other: [`install Docker Engine: ${dockerPage}`],
};

const composes: Readonly<Record<Family, readonly string[]>> = {
  ubuntu: ["apt install docker-compose-plugin, or docker-compose-v2 where Docker is Ubuntu's own"],
  debian: ["apt install docker-compose-plugin, or docker-compose where Docker is Debian's own"],
  fedora: ["dnf install docker-compose-plugin"],
  suse: ["zypper install docker-compose"],
  other: ["https://docs.docker.com/compose/install/linux/"],
};

const toolkits: Readonly<Record<Family, readonly string[]>> = {
  ubuntu: [`add NVIDIA's apt repository: ${toolkitPage}`, "apt install nvidia-container-toolkit"],
  debian: [`add NVIDIA's apt repository: ${toolkitPage}`, "apt install nvidia-container-toolkit"],
  fedora: [`add NVIDIA's repository: ${toolkitPage}`, "dnf install nvidia-container-toolkit"],
  suse: [`add NVIDIA's repository: ${toolkitPage}`, "zypper install nvidia-container-toolkit"],
  other: [`install the container toolkit: ${toolkitPage}`],
};
