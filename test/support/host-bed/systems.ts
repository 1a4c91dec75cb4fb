/** Distributions as they describe themselves, and a kernel of each. */

const release = (id: string, version: string, codename: string, name: string): string =>
  `PRETTY_NAME="${name}"\nID=${id}\nVERSION_ID="${version}"\nVERSION_CODENAME=${codename}\n`;

export const systems = {
  "ubuntu-22.04": { release: release("ubuntu", "22.04", "jammy", "Ubuntu 22.04.5 LTS"), kernel: "6.8.0-90-generic" },
  "ubuntu-24.04": { release: release("ubuntu", "24.04", "noble", "Ubuntu 24.04.3 LTS"), kernel: "6.8.0-90-generic" },
  "ubuntu-26.04": { release: release("ubuntu", "26.04", "resolute", "Ubuntu 26.04 LTS"), kernel: "6.8.0-90-generic" },
  "debian-12": { release: release("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)"), kernel: "6.1.0-40-amd64" },
  "debian-13": { release: release("debian", "13", "trixie", "Debian GNU/Linux 13 (trixie)"), kernel: "6.12.48+deb13-amd64" },
  "fedora-43": { release: release("fedora", "43", "", "Fedora Linux 43 (Server Edition)"), kernel: "6.17.1-300.fc43.x86_64" },
  "ubuntu-20.04": { release: release("ubuntu", "20.04", "focal", "Ubuntu 20.04.6 LTS"), kernel: "5.4.0-216-generic" },
} as const;

export type System = keyof typeof systems;
